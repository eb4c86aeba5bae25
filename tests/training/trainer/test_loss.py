# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The loss is the mean over target tokens for any split of a batch and any model."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from hf_attn.training import divides_by_num_items
from tests.training.ragged_training import marian, ours, trainer_for


@pytest.mark.parametrize("build", [marian, ours])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path, tokenizer, rows, build, label_smoothing):
    logged = []
    for accumulation in (1, 8):
        trainer = trainer_for(
            build(tokenizer), tokenizer, rows, tmp_path, max_steps=1, per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation, label_smoothing_factor=label_smoothing,
        )  # fmt: skip
        trainer.train()
        logged.append([trainer.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)


def test_models_say_themselves_whether_they_divide(tokenizer):
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    assert divides_by_num_items(ours(tokenizer))
    assert not divides_by_num_items(marian(tokenizer))
    assert not divides_by_num_items(T5ForConditionalGeneration(t5))
