# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a recipe does without a config, on the first rows: the same on one process and on two."""

import json

import pytest

from tests.recipes.launching import RECIPES, launch, succeeded


TASKS = sorted(path.stem for path in RECIPES.glob("[!_]*.py"))
# Files of predictions: marked answers have their scores in one of their own, and hidden text is only scored.
NUM_FILES = dict.fromkeys(TASKS, 1) | {"question_answering": 2, "pretrain": 0}
FEW = ["--max_train_samples=60", "--max_eval_samples=5", "--max_predict_samples=7", "--num_train_epochs=1"]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_defaults_have_equal_scores_on_one_process_and_two(tmp_path, task):
    results, predictions = [], []
    for processes in (1, 2):
        run = tmp_path / str(processes)
        few = [flag for flag in FEW if task != "pretrain" or "predict" not in flag]
        options = [*few, "--logging_steps=1", "--bf16=false", "--use_cpu", f"--output_dir={run}"]
        shown = succeeded(launch(*options, recipe=f"recipes/{task}.py", processes=processes)).stdout
        # One process reports.
        assert shown.count("The result is in") == 1
        metrics = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
        timed = ("_runtime", "_time", "_per_second", "_memory_mib", "_flos")
        results.append({name: value for name, value in metrics.items() if not name.endswith(timed)})
        written = [run / name for name in ("generated_predictions.txt", "predictions.json")]
        predictions.append([file.read_text(encoding="utf-8") for file in written if file.is_file()])
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    assert predictions[0] == predictions[1]
    assert len(predictions[0]) == NUM_FILES[task]
