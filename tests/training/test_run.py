# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the arguments ask for together is looked at before anything is read or written."""

import pytest

from hf_attn.training import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments, TaskArguments
from hf_attn.training.run import start_run


TYPES = (ModelArguments, AdapterArguments, DataArguments, TaskArguments, RecipeTrainingArguments)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model_config=hybrid_tiny", "--lora"],
            "`lora` needs `model_name_or_path`: an adapter on weights that start",
        ),
    ],
)
def test_runs_that_would_come_to_nothing(tmp_path, flags, message):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        start_run(TYPES, [*flags, f"--output_dir={run}", "--train_file=no.jsonl", "--use_cpu"], "no.yaml", "A run.")
    assert not run.exists()
