# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Arguments that do not go together are refused before anything is read or written."""

import logging

import pytest

from hf_attn.training import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments, TaskArguments
from hf_attn.training.run import start_run
from hf_attn.training.trainer.checkpoints import publish_checkpoint
from tests.small_checkpoint import save_adapter, save_checkpoint


TYPES = (ModelArguments, AdapterArguments, DataArguments, TaskArguments, RecipeTrainingArguments)


FRESH = "--model_config=hybrid_tiny"
TRAIN, TEST = "--train_file=no.jsonl", "--test_file=no.jsonl"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([FRESH, TRAIN, "--lora"], "`lora` needs `model_name_or_path`: an adapter on weights that start fresh"),
        (
            ["--model_name_or_path={adapter}", TRAIN],
            "{adapter}' holds an adapter for '{checkpoint}', not a whole model",
        ),
        (["--model_name_or_path={checkpoint}", TRAIN, TEST, "--lora", "--do_predict"], "got `do_train`=False and"),
        (["--model_name_or_path={checkpoint}", TEST, "--lora"], "got `do_train`=True and training data None. .* DIR`"),
        (["--model_name_or_path={checkpoint}", TEST, "--push_to_hub"], "`push_to_hub` pushes what a training leaves"),
        ([FRESH, TRAIN, "--streaming"], "`streaming` needs `max_steps`, .* got `max_steps`=-1"),
        (
            [FRESH, TRAIN, "--streaming", "--max_steps=9", "--tokens_per_batch=512"],
            "`tokens_per_batch` sorts rows by length, which a stream does not allow, got 512",
        ),
        (
            [FRESH, TRAIN, "--score_before", "--bf16_full_eval"],
            "`bf16_full_eval` rounds .* `score_before` needs whole",
        ),
        (
            ["--model_name_or_path={checkpoint}", TRAIN, "--lora", "--merge_adapter", "--fp16_full_eval"],
            "`fp16_full_eval` rounds the weights, which `merge_adapter` needs whole afterwards, got both",
        ),
        (
            [FRESH, TRAIN, "--resume_from_checkpoint={checkpoint}"],
            "`resume_from_checkpoint` '{checkpoint}' is not a whole checkpoint: it has no checkpoint.json",
        ),
    ],
)
def test_runs_that_would_come_to_nothing(tmp_path, flags, message):
    run, checkpoint = tmp_path / "run", save_checkpoint(tmp_path / "checkpoint")
    folders = {"checkpoint": checkpoint, "adapter": save_adapter(tmp_path / "adapter", checkpoint)}
    arguments = [*(flag.format(**folders) for flag in flags), f"--output_dir={run}", "--use_cpu"]
    with pytest.raises(ValueError, match=message.format(**folders)):
        start_run(TYPES, arguments, "no.yaml", "A run.")
    assert not run.exists()


def test_a_checkpoint_asked_for_by_name_is_resumed(tmp_path):
    checkpoint = tmp_path / "elsewhere" / "checkpoint-3"
    (tmp_path / "elsewhere" / "staged").mkdir(parents=True)
    publish_checkpoint(tmp_path / "elsewhere" / "staged", checkpoint)
    command = [FRESH, TRAIN, f"--output_dir={tmp_path / 'run'}", "--use_cpu", f"--resume_from_checkpoint={checkpoint}"]
    assert start_run(TYPES, command, "no.yaml", "A run.").checkpoint == str(checkpoint)


def test_to_resume_without_the_optimizer_is_warned_of(tmp_path, caplog):
    staged, checkpoint = tmp_path / "staged", tmp_path / "checkpoint-3"
    staged.mkdir()
    publish_checkpoint(staged, checkpoint)
    command = [FRESH, TRAIN, f"--output_dir={tmp_path / 'run'}", "--use_cpu", f"--resume_from_checkpoint={checkpoint}"]
    logger = logging.getLogger("hf_attn")
    logger.addHandler(caplog.handler)
    start_run(TYPES, command, "no.yaml", "A run.")
    assert "start anew" not in caplog.text
    start_run(TYPES, [*command, "--save_only_model"], "no.yaml", "A run.")
    logger.removeHandler(caplog.handler)
    assert "was saved with `save_only_model`: optimizer and learning rate start anew" in caplog.text
