# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The formulae of docs/scaling.md are what is measured, and its tables are theirs."""

from pathlib import Path

import pytest
import torch

from benchmarks import scaling
from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from tests.utils import TORCH, enable_checkpointing


DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
SHAPE = {"d_model": 96, "encoder_ffn_dim": 160, "decoder_ffn_dim": 224, "sliding_window": 32, "vocab_size": 100}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
ATTENTION = {"float32": "eager", "bfloat16": "sdpa"}


def model_of(layer_type: str, precision: str, **overrides) -> HfAttnForConditionalGeneration:
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    types = {"encoder_layer_types": layer_type, "decoder_layer_types": layer_type}
    config = HfAttnConfig(**{**SHAPE, **HEADS, **layers, **types, **overrides})
    return HfAttnForConditionalGeneration._from_config(config, attn_implementation=ATTENTION[precision]).train()


def batch_of(rows: int, source_length: int, target_length: int) -> dict[str, torch.Tensor]:
    source = torch.randint(3, 100, (rows, source_length))
    labels = torch.randint(3, 100, (rows, target_length))
    return {"input_ids": source, "attention_mask": torch.ones_like(source), "labels": labels}


@pytest.mark.parametrize("precision", scaling.PRECISIONS)
@pytest.mark.parametrize("layer_type", scaling.PRECISIONS["float32"].by_width)
def test_activations_are_as_measured(layer_type, precision):
    if layer_type == "lstm" and TORCH < (2, 10):
        pytest.skip("torch 2.6 and 2.9 keep less of an LSTM")
    model = model_of(layer_type, precision)
    for rows, source_length, target_length in ((2, 128, 64), (3, 72, 88)):
        batch = batch_of(rows, source_length, target_length)
        measured = scaling.measured_activation_bytes(model, batch, precision)
        expected = scaling.activation_bytes(model.config, precision, rows, source_length, target_length)
        assert expected == pytest.approx(measured, rel=0.12)


def test_what_was_not_measured_is_said():
    with pytest.raises(ValueError, match="`average` layers were not measured; those that were: full_attention, "):
        scaling.layer_bytes(HfAttnConfig(**SHAPE, **HEADS), "encoder", "average", "float32", 8, 8)


def test_checkpointing_keeps_the_inputs_of_layers():
    model = model_of("full_attention", "float32", encoder_layers=6, decoder_layers=6)
    batch = batch_of(2, 64, 64)
    whole = scaling.measured_activation_bytes(model, batch, "float32")
    enable_checkpointing(model)
    # The layer that is worked on comes on top, in the backward pass.
    layer = 2 * 64 * scaling.layer_bytes(model.config, "decoder", "full_attention", "float32", 64, 64)
    kept = scaling.measured_activation_bytes(model, batch, "float32") + layer
    expected = scaling.activation_bytes(model.config, "float32", 2, 64, 64, checkpointing=True)
    assert expected == pytest.approx(kept, rel=0.25)
    assert expected < whole / 2


def test_state_is_that_of_the_optimizer():
    model = model_of("full_attention", "float32")
    optimizer = torch.optim.AdamW(model.parameters())
    model(**batch_of(1, 8, 8)).loss.backward()
    optimizer.step()
    tensors = [*model.parameters(), *(parameter.grad for parameter in model.parameters())]
    tensors += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    count = scaling.num_parameters(scaling.build(model.config))
    assert count == sum(parameter.numel() for parameter in model.parameters())
    assert sum(tensor.nbytes for tensor in tensors) == scaling.state_bytes(count, count, "none", 1)


def test_shards_add_up():
    one = scaling.state_bytes(1000, 1000, "none", 1)
    assert 4 * scaling.state_bytes(1000, 1000, "fsdp2", 4) == one
    assert scaling.state_bytes(1000, 10, "none", 1) == 4000 + 12 * 10
    assert scaling.exchanged_bytes(1000, 1000, "ddp", 1) == 0
    # Reduce, and spread the sum: two thirds of the gradients each on three processes.
    assert scaling.exchanged_bytes(1500, 1500, "ddp", 3) == pytest.approx(2 * (2 / 3) * 4 * 1500)
    assert scaling.exchanged_bytes(1500, 1500, "fsdp2", 3) == pytest.approx(3 * (2 / 3) * 4 * 1500)


@pytest.mark.parametrize("table", [scaling.memory_table, scaling.layer_table, scaling.exchange_table])
def test_document_has_the_tables(table):
    assert table() in DOCUMENT.read_text(encoding="utf-8")
