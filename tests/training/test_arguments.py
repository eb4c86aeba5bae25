# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Arguments that contradict each other are refused; the fast settings are the defaults."""

import math

import pytest

from hf_attn.training import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments, hardware
from hf_attn.training.question_answering import prepare_span_training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give one of `model_name_or_path` .* and `model_config`"),
        ({"model_name_or_path": "a", "model_config": "b"}, "got 'a' and 'b'"),
    ],
)
def test_model_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use_dora": True}, "`use_dora` needs `lora`"),
        ({"merge_adapter": True}, "`merge_adapter` needs `lora`"),
        ({"lora_target_modules": ["q_proj"]}, "`lora_target_modules` needs `lora`"),
        ({"lora_r": 8}, "`lora_r` needs `lora`, got `lora_r`=8 and `lora`=False"),
        ({"lora_alpha": 16}, "`lora_alpha` needs `lora`"),
        ({"lora_dropout": 0.2}, "`lora_dropout` needs `lora`"),
        ({"load_in_4bit": True}, "`load_in_4bit` needs `lora`"),
        ({"lora": True, "lora_r": 0}, "`lora_r` must be at least 1, got 0"),
        ({"lora": True, "lora_alpha": 0}, "`lora_alpha` must be at least 1, got 0"),
        ({"lora": True, "lora_dropout": 1.0}, r"`lora_dropout` must be in \[0, 1\), got 1.0"),
        ({"lora": True, "lora_dropout": -0.1}, r"`lora_dropout` must be in \[0, 1\), got -0.1"),
        ({"lora": True, "lora_dropout": math.nan}, r"`lora_dropout` must be in \[0, 1\), got nan"),
        ({"lora": True, "load_in_4bit": True, "merge_adapter": True}, "`merge_adapter` needs the weights in full"),
    ],
)
def test_adapter_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdapterArguments(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `dataset_name`, or one of `train_file`"),
        ({"dataset_name": "a", "train_file": "b"}, "either `dataset_name` or files, got `dataset_name`='a' and b"),
        ({"train_file": "b", "max_eval_samples": 0}, "`max_eval_samples` must be at least 1, got 0"),
        ({"train_file": "b", "max_source_length": 1}, "`max_source_length` must be at least 2"),
    ],
)
def test_data_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens_per_batch": 0}, "`tokens_per_batch` must be at least 1, got 0"),
        ({"tokens_per_batch": 8, "tokens_per_update": 0}, "`tokens_per_update` must be at least 1, got 0"),
        ({"tokens_per_update": 64}, "`tokens_per_update` counts batches of `tokens_per_batch`, got 64 without one"),
        (
            {"tokens_per_batch": 64, "per_device_train_batch_size": 2},
            "`tokens_per_batch` takes the place of `per_device_train_batch_size`; choose one, got 64 and 2",
        ),
        (
            {"tokens_per_batch": 8, "tokens_per_update": 64, "gradient_accumulation_steps": 2},
            "`tokens_per_update` takes the place of `gradient_accumulation_steps`; choose one, got 64 and 2",
        ),
        (
            {"tokens_per_batch": 8, "tokens_per_update": 64, "deepspeed": {"zero_optimization": {"stage": 2}}},
            "`tokens_per_update` takes the place of `deepspeed`; choose one, got 64 and ",
        ),
        ({"num_beams": 0}, "`num_beams` must be at least 1, got 0"),
        ({"num_beams": 1, "length_penalty": 1.4}, "`length_penalty` is about beams and needs `num_beams` above 1"),
        ({"num_beams": 1, "early_stopping": True}, "`early_stopping` is about beams and needs `num_beams` above 1"),
        ({"predict_with_generate": False}, "`predict_with_generate` must be true, since generated text is scored"),
        ({"prediction_loss_only": True}, "`prediction_loss_only` must be false, since predictions are scored, got T"),
        ({"eval_do_concat_batches": False}, "`eval_do_concat_batches` must be true, since predictions are scored"),
        ({"batch_eval_metrics": True}, "`batch_eval_metrics` must be false, since predictions are scored"),
        ({"do_train": False, "do_eval": False, "do_predict": False}, "One of `do_train`, .* all are false"),
        ({"no_repeat_ngram_size": -1}, "`no_repeat_ngram_size` must be 0 or more, got -1"),
        ({"generation_config": "g.json"}, "`generation_config` must be left out: .* got 'g.json'. Use `num_beams`"),
        ({"generation_max_length": 1}, "`generation_max_length` must be at least 2"),
        ({"metric_for_best_model": "predict_bleu"}, "must be one of bleu, chrf, formality_share and loss, got 'pred"),
        ({"average_checkpoints": -1}, "`average_checkpoints` must be 0 or more, got -1"),
        ({"average_checkpoints": 3, "save_total_limit": 2}, "`save_total_limit` must be at least 3 .* got 2"),
        (
            {"average_checkpoints": 3, "save_total_limit": 3, "metric_for_best_model": "bleu"},
            "`save_total_limit` must be at least 4",
        ),
        ({"average_checkpoints": 3, "save_strategy": "no"}, "needs checkpoints, got `save_strategy`='no'"),
        (
            {"average_checkpoints": 3, "load_best_model_at_end": True, "eval_strategy": "steps"},
            "`load_best_model_at_end` takes one; choose one",
        ),
        ({"early_stopping_patience": 2}, "compares evaluations during training, got `eval_strategy`='no'"),
        ({"early_stopping_patience": 0, "eval_strategy": "epoch"}, "`early_stopping_patience` must be at least 1"),
        (
            {"early_stopping_patience": 2, "eval_strategy": "epoch", "average_checkpoints": 2},
            "`average_checkpoints` averages the last ones; choose one, got 2 and 2",
        ),
    ],
)
def test_training_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        RecipeTrainingArguments(output_dir=str(tmp_path), **arguments)


def test_accumulation_makes_up_an_update(tmp_path):
    steps = [
        RecipeTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, tokens_per_batch=budget, tokens_per_update=1000
        ).gradient_accumulation_steps
        for budget in (2000, 1000, 500, 300)
    ]
    assert steps == [1, 1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"label_smoothing_factor": 0.1},
            "`label_smoothing_factor` is for generated text, got 0.1 with `mode` extractive",
        ),
        (
            {"remove_unused_columns": False},
            "`remove_unused_columns` must be true with `mode` extractive, .* got False",
        ),
    ],
)
def test_training_arguments_of_a_span_head(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare_span_training(RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **arguments))


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        ({}, (True, True, True)),
        ({"do_train": False}, (False, True, True)),
        ({"do_predict": False}, (True, True, False)),
        ({"do_predict": True}, (False, False, True)),
        ({"do_predict": True, "eval_strategy": "epoch"}, (False, False, True)),
        # Evaluations during training need the rows.
        ({"do_train": True, "eval_strategy": "epoch"}, (True, True, False)),
    ],
)
def test_stages_are_those_that_are_asked_for(tmp_path, arguments, stages):
    training = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **arguments)
    assert (training.do_train, training.do_eval, training.do_predict) == stages


def test_a_file_for_a_training_serves_to_predict(tmp_path):
    training = RecipeTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        do_predict=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        early_stopping_patience=2,
    )
    assert training.eval_strategy == "no" and not training.load_best_model_at_end


@pytest.mark.parametrize("name", ["chrf", "eval_bleu", "loss"])
def test_metrics_of_the_task(tmp_path, name):
    RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, metric_for_best_model=name)


def test_early_stopping_watches_bleu_and_keeps_the_best(tmp_path):
    arguments = RecipeTrainingArguments(
        output_dir=str(tmp_path), early_stopping_patience=2, eval_strategy="epoch", save_strategy="epoch"
    )
    assert arguments.metric_for_best_model == "bleu" and arguments.greater_is_better
    assert arguments.load_best_model_at_end


@pytest.mark.parametrize("is_fast", [True, False])
def test_bfloat16_follows_the_hardware(tmp_path, monkeypatch, is_fast):
    monkeypatch.setattr(hardware, "has_accelerator", lambda: False)
    monkeypatch.setattr(hardware, "computes_bf16", lambda: is_fast)
    assert RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True).bf16 is is_fast
    assert RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False).bf16 is False


def test_defaults_are_the_fast_ones(tmp_path):
    arguments = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, num_beams=3)
    assert arguments.optim == "adamw_torch_fused" and arguments.predict_with_generate
    assert arguments.generation_num_beams == 3
    assert arguments.do_train and arguments.do_eval and arguments.do_predict
    assert hardware.choose_attention(None, use_cpu=True) == "eager"
    assert hardware.choose_attention("sdpa", use_cpu=True) == "sdpa"


def test_one_stage_alone(tmp_path):
    arguments = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, do_predict=True)
    assert (arguments.do_train, arguments.do_eval, arguments.do_predict) == (False, False, True)
