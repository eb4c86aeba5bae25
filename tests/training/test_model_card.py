# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The card of a run: metadata that the Hub reads, and nothing that is not for others."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_attn.tasks import CLASSIFICATION, PRETRAINING, SUMMARIZATION, TRANSLATION
from hf_attn.training import write_model_card
from hf_attn.training.model_card import shown_arguments, shown_path
from tests.utils import tiny_config, tiny_model


def write(folder: Path, **changes) -> ModelCard:
    """A card with some values changed."""
    values = {
        "model": tiny_model(),
        "task": TRANSLATION,
        "languages": ["en", "de"],
        "data": "rows.jsonl",
        "values": {"seed": 3},
        "metrics": {"predict_bleu": 41.02},
        "usage": "import hf_attn",
    }
    write_model_card(folder, **{**values, **changes})
    return ModelCard.load(folder / "README.md")


def test_model_card(tmp_path):
    card = write(
        tmp_path,
        metrics={"predict_bleu": 41.02, "predict_runtime": 3.0, "train_tokens_per_second": 1e3, "train_runtime": 60},
        score_notes="BLEU is sacreBLEU.",
        base_model="base",
        is_adapter=True,
    )
    assert card.data.base_model == "base" and card.data.language == ["en", "de"]
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [("bleu", 41.02)]
    for text in (
        "| predict_bleu | 41.02 |",
        "| seed     | `3`   |",
        "1,000 source and target tokens a second",
        "BLEU is s",
    ):
        assert text in card.text
    assert "predict_runtime" not in card.text
    for heading in ("Scores", "Use", "Training", "Limits", "Licence"):
        assert f"## {heading}" in card.text


def test_metadata_of_several_scores(tmp_path):
    metrics = {"predict_rouge1": 41.0, "predict_rougeL": 33.0, "predict_exact_match": 50, "eval_rouge1": 40.0}
    data = {"data": "../data/samsum/train.jsonl.gz", "hub_dataset": None, "data_license": "cc-by-nc-nd-4.0"}
    task = replace(SUMMARIZATION, scores=("rouge1", "rougeL", "exact_match"))
    write(tmp_path, metrics=metrics, task=task, **data)
    metadata = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---")[1])
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"] == {"name": "samsum", "type": "samsum", "split": "test"}
    assert [(metric["type"], metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("rouge", "rouge1", 41.0),
        ("rouge", "rougeL", 33.0),
        ("exact_match", "exact_match", 50.0),
    ]
    assert metadata["license"] == "cc-by-nc-nd-4.0"
    assert "datasets" not in metadata and "base_model" not in metadata
    assert write(tmp_path, hub_dataset="ann/rows").data.datasets == ["ann/rows"]


def test_a_validation_set_that_stands_in_for_a_test_set_is_called_one(tmp_path):
    files = {"validation_file": "dev.jsonl", "test_file": "dev.jsonl"}
    card = write(tmp_path, values=files)
    assert [result.dataset_split for result in card.data.eval_results] == ["validation"]
    assert "stands in for a test set" in card.text
    card = write(tmp_path, values={**files, "test_file": "test.jsonl"})
    assert [result.dataset_split for result in card.data.eval_results] == ["test"]


def test_limits_are_those_of_the_positions(tmp_path):
    assert "It has positions for texts of up to 48 tokens." in write(tmp_path).text
    endless = tiny_model(tiny_config(position_embedding_type="rope"))
    assert "has positions" not in write(tmp_path, model=endless).text


def test_base_in_a_directory_gives_its_licence_but_no_name_on_the_hub(tmp_path):
    base = tmp_path / "bases" / "small"
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: cc-by-2.0\n---\n# small\n", encoding="utf-8")
    card = write(tmp_path, base_model=str(base))
    assert card.data.license == "cc-by-2.0" and card.data.base_model is None
    assert "fine-tuned from `bases/small`" in card.text and "Of the base: cc-by-2.0." in card.text
    assert write(tmp_path, base_model=str(base), data_license="mit").data.license == "mit"


def test_no_token_and_no_absolute_path_gets_into_a_card(tmp_path, monkeypatch):
    command = ["/home/ann/hf_attn/recipes/translation.py", "--hub_token", "hf_secret", "--hub-token=hf_secret"]
    command += ["--train_file=/home/ann/data/rows/train.jsonl", "--output_dir", "~/runs/one", "--seed=3"]
    monkeypatch.setattr(sys, "argv", command)
    values = {
        "hub_token": "hf_secret",
        "train_file": "/home/ann/data/rows/train.jsonl",
        "lr_scheduler_kwargs": {"file": "/a/b/c"},
    }
    card = write(tmp_path, values=values, data="/home/ann/data/rows/train.jsonl", base_model="/home/ann/bases/small")
    assert "hf_secret" not in card.content and "hub_token" not in card.content
    assert "/home" not in card.content and "ann" not in card.content and "/a/b" not in card.content
    expected = "accelerate launch recipes/translation.py --train_file=rows/train.jsonl --output_dir runs/one --seed=3"
    assert expected in card.text


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/x/y/z.json", "y/z.json"), ("/x", "x"), ("a/b/c", "a/b/c"), ("../a", "../a"), ("ann/model", "ann/model")],
)
def test_shown_paths(path, shown):
    assert shown_path(path) == shown
    assert shown_arguments([f"--file={path}", path]) == [f"--file={shown}", shown]


def test_a_path_below_the_working_directory_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "a" / "b" / "c")) == "a/b/c"


def test_a_card_names_a_pipeline_where_there_is_one(tmp_path):
    """Those of pre-trained models once named `attn-fill-mask`, which does not exist."""
    card = write(tmp_path, task=PRETRAINING, metrics={"predict_perplexity": 3.0})
    assert card.data.pipeline_tag is None and "pipeline(" not in card.text
    assert "add `trust_remote_code=True` to what loads the model." in card.text
    assert [result.task_type for result in card.data.eval_results] == ["fill-mask"]
    card = write(tmp_path, task=TRANSLATION)
    assert card.data.pipeline_tag == "translation" and '`pipeline("attn-translation", model=...)`' in card.text
    card = write(tmp_path, task=CLASSIFICATION)
    assert card.data.pipeline_tag == "text-classification" and "attn-" not in card.text
