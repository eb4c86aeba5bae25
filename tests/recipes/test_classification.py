# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The recipe for classification by its command: fine-tune, adapter, card, pipeline; what is refused."""

import gzip
import importlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hf_attn.adapters import load_adapter
from hf_attn.metrics import address_form
from tests.recipes.launching import RECIPES, REPOSITORY, SHAPE, succeeded
from tests.recipes.launching import launch as launch_recipe


launch = partial(launch_recipe, recipe="recipes/classification.py")
# Nothing but the flags of a config that is empty.
FRESH = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE},dropout=0", "--vocab_size=300"]
FEW = ["--num_train_epochs=1", "--use_cpu", "--bf16=false", "--per_device_train_batch_size=4", "--seed=1"]


def write_corpus(folder: Path, **changes) -> list[str]:
    """A config of files whose class stands in the first word; `changes` replace the rows of a split."""
    splits = {
        name: [{"text": f"{word} dog runs {row}", "label": word} for row in range(count) for word in ("a", "the")]
        for name, count in (("train", 8), ("validation", 3), ("test", 3))
    }
    lines = []
    for name, rows in {**splits, **changes}.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        lines.append(f"{name}_file: {folder / name}.jsonl.gz\n")
    (folder / "config.yaml").write_text("".join(lines), encoding="utf-8")
    return [f"--config={folder / 'config.yaml'}", *FEW]


def run_lines(shown: str) -> str:
    """What the lines print that a run shows at its end; the card has them too, with shorter paths."""
    lines = shown.split("To load it:\n\n")[1]
    finished = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, timeout=240, check=False, cwd=REPOSITORY
    )
    assert finished.returncode == 0 and "not supported" not in finished.stderr, finished.stderr[-2000:]
    return finished.stdout


def test_fine_tune_adapt_and_use(tmp_path):
    corpus = write_corpus(tmp_path)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shown = succeeded(launch(*FRESH, f"--output_dir={base}", *corpus)).stdout
    assert "the most frequent class" in shown and "AutoModelForSequenceClassification.from_pretrained" in shown
    results = json.loads((base / "all_results.json").read_text(encoding="utf-8"))
    assert {"predict_accuracy", "predict_f1_macro", "predict_accuracy_lower", "eval_accuracy"} <= results.keys()
    assert results["predict_majority_accuracy"] == 50
    written = (base / "generated_predictions.txt").read_text(encoding="utf-8").split()
    assert len(written) == 6 and set(written) <= {"a", "the"}
    classify = pipeline("text-classification", model=str(base), device="cpu")
    answers = classify([f"{word} dog runs {row}" for row in range(3) for word in ("a", "the")])
    assert [answer["label"] for answer in answers] == written
    assert "'label'" in run_lines(shown)
    card = ModelCard.load(base / "README.md")
    assert card.data.pipeline_tag == "text-classification" and "attn-" not in card.text
    assert {result.metric_type for result in card.data.eval_results} == {"accuracy", "f1_macro"}

    # By the name of the task, on what was trained, which gives the classes.
    flags = ["--lora", "--merge_adapter", f"--model_name_or_path={base}", f"--output_dir={adapter}"]
    shown = succeeded(launch_recipe("classification", *flags, *corpus, recipe="recipes/")).stdout
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["task_type"] == "SEQ_CLS" and "score" in config["modules_to_save"]
    assert "'label'" in run_lines(shown)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    batch = tokenizer(["a dog runs 1"], return_tensors="pt")
    adapted = load_adapter(AutoModelForSequenceClassification.from_pretrained(base), adapter).eval()
    merged = AutoModelForSequenceClassification.from_pretrained(adapter / "merged").eval()
    assert adapted(**batch).logits.tolist()[0] == pytest.approx(merged(**batch).logits.tolist()[0], abs=1e-5)
    assert merged.config.id2label == {0: "a", 1: "the"}


@pytest.mark.slow
def test_scores_do_not_depend_on_processes(tmp_path):
    corpus = write_corpus(tmp_path)
    succeeded(launch(*FRESH, f"--output_dir={tmp_path / 'base'}", *corpus))
    scores = []
    for processes in (1, 2):
        run = tmp_path / str(processes)
        flags = [f"--model_name_or_path={tmp_path / 'base'}", "--do_predict", f"--output_dir={run}"]
        succeeded(launch(*flags, "--per_device_eval_batch_size=4", *corpus, processes=processes))
        results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
        scores.append([results["predict_accuracy"], pytest.approx(results["predict_loss"], rel=1e-5)])
    assert scores[0] == scores[1]


FAULTS = {
    "beams": ({}, ["--num_beams=2"], "`num_beams` is for generated text, got 2 for a classifier. Leave it out"),
    "streaming": (
        {},
        ["--streaming", "--max_steps=2"],
        "`streaming` must be false: the classes are those",
    ),
    "one class": (
        {"train": [{"text": "a", "label": "x"}]},
        [],
        r"must give a training split with two classes or more, .* got the classes \['x'\] and 'transformer_tiny'",
    ),
    "unknown": (
        {"test": [{"text": "a", "label": "x"}]},
        [],
        "the class of a row must be one of `a`, `the`, got 'x'",
    ),
    "column": ({}, ["--text_column=words"], "`train` must have the columns `words`, got only `text`, `label`"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_leaves_nothing_behind(fault, tmp_path, monkeypatch):
    changes, flags, message = FAULTS[fault]
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("classification")
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        recipe.main([*FRESH, f"--output_dir={run}", *write_corpus(tmp_path, **changes), *flags])
    assert not run.exists()


def test_the_embedded_classes_are_those_of_the_rules():
    folder, texts = RECIPES / "data" / "tatoeba_de_address", []
    for name, count in (("train", 3000), ("validation", 200), ("test", 140)):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        assert len(rows) == count and all(address_form(row["text"]) == row["label"] for row in rows)
        texts += [row["text"] for row in rows]
    assert len(set(texts)) == len(texts)
