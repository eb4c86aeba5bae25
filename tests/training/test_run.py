# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the arguments ask for together is looked at before anything is read or written."""

import pytest

from hf_attn.training import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments, TaskArguments
from hf_attn.training.run import start_run
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
    ],
)
def test_runs_that_would_come_to_nothing(tmp_path, flags, message):
    run, checkpoint = tmp_path / "run", save_checkpoint(tmp_path / "checkpoint")
    folders = {"checkpoint": checkpoint, "adapter": save_adapter(tmp_path / "adapter", checkpoint)}
    arguments = [*(flag.format(**folders) for flag in flags), f"--output_dir={run}", "--use_cpu"]
    with pytest.raises(ValueError, match=message.format(**folders)):
        start_run(TYPES, arguments, "no.yaml", "A run.")
    assert not run.exists()
