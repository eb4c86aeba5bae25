# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Every combination of layers trains for 500 steps in float16 and bfloat16 at a learning rate of 1e-3, without NaN."""

import pytest
import torch

from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


STEPS = 500
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def train(name: str, dtype: torch.dtype, device: str, steps: int) -> list[float]:
    """The losses of a training under autocast, with float16's loss scaled; every gradient is looked at."""
    config = tiny_config(**{"dropout": 0.1, **MATRIX[name]})
    model = tiny_model(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    batches = [
        {key: tensor.to(device) for key, tensor in tiny_batch(config, batch_size=4, seed=seed).items()}
        for seed in range(8)
    ]
    losses = []
    for step in range(steps):
        with torch.autocast(device, dtype):
            loss = model(**batches[step % len(batches)]).loss
        losses.append(loss.item())
        assert torch.isfinite(loss), f"loss {losses[-1]} at step {step}"
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        # A scale that is too large at the start gives infinite gradients, and the step is left out.
        if scaler.get_scale() < 2**10 or dtype == torch.bfloat16:
            for name_of_weight, parameter in model.named_parameters():
                assert parameter.grad is None or torch.isfinite(parameter.grad).all(), (name_of_weight, step)
        scaler.step(optimizer)
        scaler.update()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    return losses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["full", "full-to-ssru", "lstm"])
def test_a_few_steps(name, device, dtype):
    train(name, dtype, device, 10)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MATRIX)
def test_training(name, device, dtype):
    losses = train(name, dtype, device, STEPS)
    # Eight batches are learnt by heart.
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_weights_in_bfloat16(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config).bfloat16().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [tiny_batch(config, batch_size=4, seed=seed) for seed in range(8)]
    for step in range(STEPS):
        loss = model(**batches[step % len(batches)]).loss
        assert torch.isfinite(loss), step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
