# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The trainer as a whole: its callbacks, and the metrics of what it saves."""

import pytest
from transformers import DataCollatorForSeq2Seq

from hf_attn.training import RecipeTrainer, RecipeTrainingArguments, SortedRows
from tests.training.ragged_training import ours, trainer_for


def test_patience_becomes_a_callback(tmp_path, tokenizer, rows):
    trainer = trainer_for(ours(tokenizer), tokenizer, rows, tmp_path, max_steps=1)
    names = {type(callback).__name__ for callback in trainer.callback_handler.callbacks}
    assert "EarlyStoppingCallback" not in names


def test_scores_after_training_are_those_of_the_saved_weights(tmp_path, tokenizer, rows):
    args = RecipeTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, bf16=True, disable_tqdm=True, save_strategy="no", max_steps=1
    )
    trainer = RecipeTrainer(
        model=ours(tokenizer),
        args=args,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )
    trainer.model.generation_config.max_length = 8
    own_forward = trainer.model.forward
    trainer.predict_texts(SortedRows(rows), "before")
    assert trainer.model.forward == own_forward
    trainer.train()
    assert trainer.model.forward != own_forward
    trainer.train_and_save()
    assert trainer.model.forward == own_forward
    reloaded = type(trainer.model).from_pretrained(tmp_path).eval()
    batch = DataCollatorForSeq2Seq(tokenizer)([rows[row] for row in range(len(rows))])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(reloaded(**batch).loss.item(), rel=1e-6)
