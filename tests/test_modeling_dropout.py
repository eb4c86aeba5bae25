# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Dropout: how much it drops, the mean it keeps, the seed it follows."""

import pytest
import torch

from hf_attn.modeling_dropout import dropout


@pytest.mark.parametrize("shape", [(7,), (3, 5), (64, 100, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_a_share_and_keeps_the_mean(shape, dtype):
    inputs = torch.ones(shape, dtype=dtype, requires_grad=True)
    outputs = dropout(inputs, p=0.3, training=True)
    kept = outputs[outputs != 0].detach()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7), rtol=1e-4, atol=0)
    if inputs.numel() > 1000:
        assert abs((outputs == 0).float().mean() - 0.3) < 0.002
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert torch.equal(gradient, outputs.detach())


def test_dropout_follows_the_seed_and_leaves_evaluation_alone():
    inputs = torch.randn(5, 6)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(dropout(inputs, p=0.5, training=True))
    assert torch.equal(*drawn)
    assert dropout(inputs, p=0.5, training=False) is inputs
    assert torch.equal(dropout(inputs, p=0.0, training=True), inputs)
    assert not dropout(inputs, p=1.0, training=True).any()
