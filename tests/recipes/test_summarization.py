# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The summarization recipe through the user's command, on dialogues that the test writes, and what it refuses."""

import importlib
import json
import os
import re
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from hf_attn.adapters import load_adapter
from tests.recipes.launching import RECIPES, SHAPE, succeeded
from tests.recipes.launching import launch as launch_recipe


launch = partial(launch_recipe, recipe="recipes/summarization.py")

T5 = {
    "model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1,
    "num_heads": 2, "decoder_start_token_id": 1,
}  # fmt: skip


def dialogue(row: int) -> dict:
    people, foods = ("Ann", "Bob", "Cleo", "Dan"), ("soup", "rice", "fish")
    first, second, food = people[row % 4], people[(row + 1) % 4], foods[row % 3]
    turns = [f"{first}: What is for lunch?", f"{second}: {food}.", f"{first}: Again?"] * (1 + row % 3)
    summary = f"{second} and {first} have {food}."
    return {
        "dialogue": "\n".join(turns),
        "summary": summary,
        "references": [summary, f"They eat {food}."][: 1 + row % 2],
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[str]:
    """Files of dialogues, and the flags of two quick steps on them."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, num_rows in (("train", 48), ("validation", 6), ("test", 7)):
        rows = [json.dumps(dialogue(row)) + "\n" for row in range(num_rows)]
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    files = [f"--{name}_file={folder / name}.jsonl" for name in ("train", "validation", "test")]
    columns = ["--text_column=dialogue", "--lead_unit=turn", "--max_source_length=40"]
    return [
        *files,
        *columns,
        "--vocab_size=300",
        "--max_steps=2",
        "--tokens_per_batch=300",
        "--num_beams=2",
        "--use_cpu",
    ]


def test_fresh_weights_from_end_to_end(tmp_path, corpus):
    run = tmp_path / "run"
    arguments = ["--model_config=hybrid_tiny", f"--config_overrides={SHAPE}", f"--output_dir={run}", *corpus]
    result = succeeded(launch("summarization", *arguments, recipe="recipes/"))
    for row in ("first turns: 1", "first turns: 3", "trained"):
        assert re.search(rf"^\| {row} +\| +\d", result.stdout, re.MULTILINE)
    assert re.search(r"% of the 7 sources of `test` are longer than `max_source_length`=40 tokens", result.stderr)
    results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
    for prefix in ("eval", "predict", "predict_lead_1", "predict_lead_3"):
        for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
            assert 0 <= results[f"{prefix}_{name}"] <= 100
    # "Bob: soup." is the second turn: it is scored against the better of two references.
    assert results["predict_lead_3_rouge1"] > results["predict_lead_1_rouge1"] > 0
    assert results["predict_rougeL_lower"] <= results["predict_rougeL"] <= results["predict_rougeL_upper"]
    assert 0 < results["predict_lead_1_p_value"] <= 1
    assert len((run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 7
    assert "pipeline_tag: summarization" in (run / "README.md").read_text(encoding="utf-8")
    assert AutoModelForSeq2SeqLM.from_pretrained(run).config.decoder_layer_types == ["ssru"]
    config = GenerationConfig.from_pretrained(run)
    assert 10 < config.max_new_tokens < 40 and config.max_length is None and config.num_beams == 2


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("summarization")


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (
            [dialogue(0)],
            ["--text_column=document"],
            "`train` must have the columns `document`, got only `dialogue`, `summary`, `references`",
        ),
        (
            [dialogue(0)],
            ["--summary_column=tldr"],
            "`train` must have the columns `tldr`, got only `dialogue`, `summary`, `references`",
        ),
        (
            [dialogue(0), {**dialogue(1), "dialogue": " "}],
            [],
            "`dialogue` must not be empty, got ' ' in row 1 of `train`",
        ),
        ([{**dialogue(0), "dialogue": 7}], [], "`dialogue` must be text, got 7 in row 0 of `train`"),
        ([dialogue(0), {**dialogue(1), "dialogue": ["Hi"]}], [], "`dialogue` must be text, got ['Hi'] in row 1"),
        ([dialogue(0)], ["--lead_unit=word"], "`lead_unit` must be one of sentence, turn, got 'word'"),
        ([dialogue(0)], ["--min_summary_coverage=1.5"], "`min_summary_coverage` must be from 0 to 1, got 1.5"),
        ([{**dialogue(0), "summary": "x y z"}], ["--min_summary_coverage=1"], "leaves no row of `train`, got 1.0"),
        (
            [{**dialogue(0), "summary": "a b " * 40}],
            ["--config_overrides=max_position_embeddings=32", "--max_source_length=16"],
            "`max_target_length` must keep within the 32 positions of the model, got a target of",
        ),
        ([dialogue(0)], ["--tokens_per_batch=9"], "`tokens_per_batch` must hold the longest row, got 9, but row 0"),
        (
            [dialogue(0)],
            ["--tokens_per_batch=99", "--tokens_per_update=999"],
            "one row for each of the 11 batches of a step, got 1: take fewer processes or a smaller update",
        ),
        (
            [dialogue(0)],
            ["--average_checkpoints=9"],
            "`average_checkpoints`=9 needs as many checkpoints, the training",
        ),
    ],
    ids=[
        "column",
        "summary column",
        "empty",
        "number",
        "types",
        "unit",
        "coverage",
        "none",
        "positions",
        "budget",
        "update",
        "averaging",
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(tmp_path, recipe, rows, flags, message):
    file, run = tmp_path / "rows.jsonl", tmp_path / "run"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["--model_config=hybrid_tiny", f"--train_file={file}", "--text_column=dialogue", "--use_cpu"]
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe.main([*arguments, f"--output_dir={run}", *flags])
    assert not run.exists()


def run_without(recipe, corpus, tmp_path, *columns: str) -> tuple[dict[str, float], Path]:
    """A quick run whose test rows lack some columns, and what it measured."""
    test, run = tmp_path / "test.jsonl", tmp_path / "run"
    rows = [{name: value for name, value in dialogue(row).items() if name not in columns} for row in range(5)]
    test.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fresh = ["--model_config=hybrid_tiny", f"--config_overrides={SHAPE}"]
    recipe.main([*fresh, *corpus, f"--test_file={test}", f"--output_dir={run}"])
    assert len((run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 5
    return json.loads((run / "all_results.json").read_text(encoding="utf-8")), run


def test_a_test_split_without_summaries_is_summarized_only(tmp_path, recipe, corpus, capsys):
    results, run = run_without(recipe, corpus, tmp_path, "summary", "references")
    speed = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    measured = {name.removeprefix("predict_") for name in results if name.startswith("predict_")}
    assert measured and measured <= set(speed) and "eval_rougeL" in results
    assert "test set" not in capsys.readouterr().out
    assert "eval_rougeL" in (run / "README.md").read_text(encoding="utf-8")


def test_references_score_a_test_split_without_summaries(tmp_path, recipe, corpus):
    results, _ = run_without(recipe, corpus, tmp_path, "summary")
    assert {"predict_rougeL", "predict_rougeL_lower", "predict_lead_1_p_value"} <= results.keys()
    assert "predict_loss" not in results


def test_directory_without_permission(tmp_path, recipe, corpus, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"`output_dir` .* needs the permission to write in"):
        recipe.main(["--model_config=hybrid_tiny", f"--output_dir={tmp_path / 'run'}", *corpus])
    assert not (tmp_path / "run").exists()


def test_early_stopping_compares_rouge(tmp_path, recipe):
    arguments = recipe.SummarizationTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, early_stopping_patience=2, eval_strategy="epoch", save_strategy="epoch"
    )
    assert arguments.metric_for_best_model == "rougeL" and arguments.greater_is_better


@pytest.mark.slow
def test_stock_model_then_an_adapter_on_it(tmp_path, corpus):
    (tmp_path / "t5.json").write_text(json.dumps(T5), encoding="utf-8")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    arguments = [f"--model_config={tmp_path / 't5.json'}", "--source_prefix=summarize: ", f"--output_dir={base}"]
    result = succeeded(launch(*arguments, *corpus))
    assert "T5ForConditionalGeneration ignores `num_items_in_batch`" in result.stderr
    arguments = [f"--model_name_or_path={base}", "--lora", "--merge_adapter", "--score_before"]
    shown = succeeded(launch(*arguments, f"--output_dir={adapter}", *corpus)).stdout
    assert "before training" in shown and "PeftModel.from_pretrained" in shown
    load_adapter(AutoModelForSeq2SeqLM.from_pretrained(base), adapter)
    AutoModelForSeq2SeqLM.from_pretrained(adapter / "merged")
