# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The trainer's loss for any split of a batch, its token budget, its token count and its predictions."""

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration

from hf_attn.data import train_tokenizer
from hf_attn.training import RecipeTrainer, RecipeTrainingArguments, SortedRows, divides_by_num_items
from tests.utils import tiny_config, tiny_model


WORDS = ["ein", "Hund", "läuft", "über", "die", "große", "grüne", "Wiese", "am", "See"]
# Ragged lengths: the mean of the means of parts is not the mean.
TEXTS = [" ".join(WORDS[:length]) for length in (1, 9, 2, 8, 3, 7, 4, 6)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 280)


@pytest.fixture(scope="module")
def rows(tokenizer) -> Dataset:
    encoded = tokenizer(TEXTS, text_target=TEXTS[::-1])
    return Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask", "labels")})


def marian(tokenizer) -> MarianMTModel:
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0, pad_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, max_position_embeddings=64,
    )  # fmt: skip
    return MarianMTModel(config)


def ours(tokenizer):
    return tiny_model(tiny_config(vocab_size=len(tokenizer), dropout=0.0))


def trainer_for(model, tokenizer, rows, output_dir, **arguments) -> RecipeTrainer:
    args = RecipeTrainingArguments(
        output_dir=str(output_dir), use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1,
        max_grad_norm=1e6, seed=1, **arguments,
    )  # fmt: skip
    smoothing = args.label_smoothing_factor
    return RecipeTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model if smoothing else None),
        processing_class=tokenizer,
    )


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


def test_predictions_come_in_the_order_of_the_rows(tmp_path, tokenizer, rows):
    model = ours(tokenizer)
    trainer = trainer_for(model, tokenizer, rows, tmp_path, per_device_eval_batch_size=3, num_beams=2)
    model.generation_config.max_length = 8
    generation_config = model.generation_config.to_dict()
    texts, metrics = trainer.predict_texts(SortedRows(rows), "predict")
    expected = []
    for row in rows:
        generated = model.generate(torch.tensor([row["input_ids"]]), num_beams=2)
        expected.append(" ".join(tokenizer.decode(generated[0], skip_special_tokens=True).split()))
    assert texts == expected and len(set(texts)) > 1
    assert "predict_loss" in metrics
    assert model.generation_config.to_dict() == generation_config


def test_saved_config_keeps_its_cache(tmp_path, tokenizer, rows):
    trainer = trainer_for(ours(tokenizer), tokenizer, rows, tmp_path)
    assert trainer.model.config.use_cache is False
    trainer.save_model(str(tmp_path))
    assert type(trainer.model.config).from_pretrained(tmp_path).use_cache is True


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
