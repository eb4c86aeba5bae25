# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The shortest, emptiest and longest inputs: finite losses and gradients, and generation that ends."""

import pytest
import torch

from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


RECURRENT = ("lstm", "gru", "rnn", "ssru", "linear_attention")
LONG = 10_000


def check_finite(model, **batch) -> None:
    model.train()
    outputs = model(**batch)
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss)
    assert torch.isfinite(outputs.logits[batch["labels"] != -100]).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.fixture(params=MATRIX)
def model(request):
    return tiny_model(tiny_config(**MATRIX[request.param]))


def test_one_token(model):
    token = torch.tensor([[5]])
    check_finite(model, input_ids=token, attention_mask=torch.ones_like(token), labels=token)


def test_an_end_alone(model):
    end = torch.tensor([[model.config.eos_token_id]])
    check_finite(model, input_ids=end, attention_mask=torch.ones_like(end), labels=end)


@pytest.mark.parametrize("place", [0, 11])
def test_all_padding_but_one(model, place):
    input_ids = torch.full((2, 12), model.config.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    input_ids[0], attention_mask[0] = torch.arange(3, 15), 1
    input_ids[1, place], attention_mask[1, place] = 7, 1
    labels = torch.full((2, 9), -100)
    labels[0] = torch.arange(3, 12)
    labels[1, 0] = 8
    check_finite(model, input_ids=input_ids, attention_mask=attention_mask, labels=labels)
    model.eval()
    with torch.no_grad():
        padded = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).logits[1, :1]
        alone = torch.tensor([[7]])
        expected = model(input_ids=alone, attention_mask=torch.ones_like(alone), labels=torch.tensor([[8]])).logits[0]
    torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)


def test_the_edges_of_the_vocabulary(model):
    last = model.config.vocab_size - 1
    input_ids = torch.tensor([[0, last] * 4, [last, 0] * 4])
    check_finite(model, input_ids=input_ids, attention_mask=torch.ones_like(input_ids), labels=input_ids)


def test_no_target_counts(model):
    batch = tiny_batch(model.config)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = model(**batch, num_items_in_batch=5).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_the_same_token_all_along(model):
    input_ids = torch.full((2, 40), 5)
    check_finite(model, input_ids=input_ids, attention_mask=torch.ones_like(input_ids), labels=input_ids)


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_from_one_token(model, num_beams):
    token = torch.tensor([[5]])
    generated = model.generate(token, attention_mask=torch.ones_like(token), max_new_tokens=12, num_beams=num_beams)
    assert generated.shape[1] <= 13
    one = model.generate(token, attention_mask=torch.ones_like(token), max_new_tokens=1, num_beams=num_beams)
    assert one.shape == (1, 2)


def test_weights_that_are_large(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(50)
    check_finite(model, **tiny_batch(model.config))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layer_type", RECURRENT)
def test_long_recurrences(layer_type, dtype):
    config = tiny_config(
        encoder_layers=1,
        decoder_layers=1,
        encoder_layer_types=layer_type,
        decoder_layer_types=layer_type,
        cross_attention_type="none",
        position_embedding_type="none",
    )
    model = tiny_model(config)
    input_ids = torch.randint(3, config.vocab_size, (1, LONG), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        check_finite(model, input_ids=input_ids, attention_mask=torch.ones_like(input_ids), labels=input_ids)
