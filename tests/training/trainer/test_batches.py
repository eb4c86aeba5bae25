# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The token budget of batches, and the count of tokens."""

import pytest

from tests.training.ragged_training import ours, trainer_for


def test_token_budget_and_count(tmp_path, tokenizer, rows):
    trainer = trainer_for(ours(tokenizer), tokenizer, rows, tmp_path, tokens_per_batch=60, num_train_epochs=2)
    batches = list(trainer.get_train_dataloader())
    assert sum(len(batch["input_ids"]) for batch in batches) == len(rows) and len(batches) > 2
    assert all(batch["input_ids"].numel() + batch["labels"].numel() <= 60 for batch in batches)
    metrics = trainer.train_and_save()
    tokens = sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)
    assert int(trainer._useful_tokens) == 2 * tokens
    assert metrics["train_tokens_per_second"] == pytest.approx(2 * tokens / metrics["train_runtime"])


def test_streamed_rows_have_no_token_budget(tmp_path, tokenizer, rows):
    trainer = trainer_for(
        ours(tokenizer), tokenizer, rows.to_iterable_dataset(), tmp_path, tokens_per_batch=60, max_steps=1
    )
    with pytest.raises(ValueError, match="`tokens_per_batch` sorts rows by length, which a streamed training set"):
        trainer.get_train_dataloader()
