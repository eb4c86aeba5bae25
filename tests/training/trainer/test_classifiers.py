# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Classifiers under the recipes' trainer: two classes and a regression, our heads and those of other families."""

import math

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BartConfig, BartForSequenceClassification, DataCollatorWithPadding

from hf_attn import HfAttnForSequenceClassification
from hf_attn.adapters import add_lora
from hf_attn.training import AdapterArguments, RecipeTrainer, RecipeTrainingArguments, divides_by_num_items
from tests.training.tiny_training import rows_and_tokenizer
from tests.utils import tiny_config, tiny_model


def bart(num_labels: int, vocab_size: int) -> BartForSequenceClassification:
    torch.manual_seed(0)
    return BartForSequenceClassification(
        BartConfig(
            vocab_size=vocab_size,
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            num_labels=num_labels,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=2,
            dropout=0.0,
        )
    )


def trainer_of(folder, family: str, num_labels: int, lora: bool = False, problem: str | None = None, **arguments):
    rows, tokenizer = rows_and_tokenizer()
    labels = [row % num_labels for row in range(len(rows))] if num_labels > 1 else [row / 10 for row in range(20)]
    if problem == "multi_label_classification":
        labels = [[float(row % 2), float(row % 3 == 0)] for row in range(20)]
    rows = Dataset.from_dict({**rows.select_columns(["input_ids", "attention_mask"]).to_dict(), "labels": labels})
    if family == "bart":
        model = bart(num_labels, len(tokenizer))
    else:
        config = tiny_config(vocab_size=len(tokenizer), num_labels=num_labels, dropout=0.0, problem_type=problem)
        model = tiny_model(config, HfAttnForSequenceClassification)
    if lora:
        model = add_lora(model, AdapterArguments(lora=True, lora_dropout=0.0))
    options = {"learning_rate": 1e-2, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1}
    options |= {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    training = RecipeTrainingArguments(output_dir=str(folder), **{**options, **arguments})
    training.predict_with_generate = False
    return RecipeTrainer(
        model=model,
        args=training,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("num_labels", [1, 2, 3])
@pytest.mark.parametrize("family", ["hf_attn", "bart"])
def test_a_classifier_trains(tmp_path, family, num_labels, lora):
    """Two classes once crashed: whether a model heeds `num_items_in_batch` was tried with a token as the label."""
    trainer = trainer_of(tmp_path, family, num_labels, lora)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert math.isfinite(before) and trainer.evaluate()["eval_loss"] < before


def test_a_classifier_of_several_labels_trains(tmp_path):
    trainer = trainer_of(tmp_path, "hf_attn", 2, problem="multi_label_classification")
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before


@pytest.mark.parametrize("num_labels", [1, 2])
@pytest.mark.parametrize("family", ["hf_attn", "bart"])
def test_the_loss_does_not_grow_with_accumulation(tmp_path, family, num_labels):
    weights = []
    for steps, size in ((1, 20), (5, 4)):
        trainer = trainer_of(
            tmp_path,
            family,
            num_labels,
            gradient_accumulation_steps=steps,
            per_device_train_batch_size=size,
            max_steps=1,
            eval_strategy="no",
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        weights.append([weight.detach().clone() for weight in trainer.model.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_budget_of_tokens_counts_a_label_as_one(tmp_path):
    trainer = trainer_of(tmp_path, "hf_attn", 2, tokens_per_batch=64)
    trainer.train()
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("num_labels", [1, 2, 7])
def test_a_classifier_is_asked_with_a_label_it_has(num_labels):
    model = tiny_model(tiny_config(num_labels=num_labels), HfAttnForSequenceClassification)
    assert divides_by_num_items(model)
    # The config does not learn from that what labels mean.
    assert model.config.problem_type is None
    assert not divides_by_num_items(bart(num_labels, 20))


def test_a_trained_adapter_keeps_its_head(tmp_path):
    trainer = trainer_of(tmp_path / "run", "hf_attn", 2, lora=True)
    trainer.model.get_base_model().base_model.config._name_or_path = "base"
    head = trainer.model.get_base_model().score
    start = head.original_module.weight.detach().clone()
    trainer.train_and_save()
    trained = head.modules_to_save["default"].weight
    assert torch.equal(head.original_module.weight, start) and not torch.equal(trained, start)
    tokenizer = trainer.processing_class
    base = tiny_model(
        tiny_config(vocab_size=len(tokenizer), num_labels=2, dropout=0.0), HfAttnForSequenceClassification
    )
    again = PeftModel.from_pretrained(base, tmp_path / "run").eval()
    batch = tokenizer(["ein Hund", "die Wiese am See"], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, trainer.model.eval()(**batch).logits)
