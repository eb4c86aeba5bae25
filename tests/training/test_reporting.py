# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The files of a run beside its checkpoint."""

import json
from typing import Any

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM

from hf_attn.adapters import add_lora, finish_adapter
from hf_attn.data import train_tokenizer
from hf_attn.training import (
    AdapterArguments,
    format_table,
    published_bleu,
    score_table,
    set_generation,
    usage_lines,
    write_predictions,
    write_results,
)
from hf_attn.training.question_answering import question_usage_lines
from hf_attn.training.trainer import evaluation
from tests.utils import tiny_config, tiny_model


def test_table_is_aligned():
    table = format_table(["name", "value"], [("bleu", 41.016), ("rows", 7)])
    assert table == "| name | value |\n| ---- | ----- |\n| bleu | 41.02 |\n| rows | 7     |"


def test_a_long_cell_pads_no_other():
    header, dashes, *rows = format_table(["name", "value"], [("long", "x" * 500), ("short", "y")]).splitlines()
    assert len(header) == len(dashes) == len(rows[1]) < 80 < len(rows[0])


def test_usage_of_a_whole_model_and_of_an_adapter():
    assert "PeftModel" not in usage_lines("out", None, "Hello.")
    adapter = usage_lines("out", "base", "Hello.")
    assert 'AutoModelForSeq2SeqLM.from_pretrained("base")' in adapter
    assert 'PeftModel.from_pretrained(model, "out")' in adapter
    compile(adapter, "usage", "exec")
    compile(usage_lines("out", None, 'Ann: "Hi"\nBob: ok'), "usage", "exec")


@pytest.fixture
def base(tmp_path):
    """A checkpoint whose generation config is not that of the adapters on it."""
    model = tiny_model(tiny_config(vocab_size=270))
    model.generation_config.update(max_new_tokens=40, num_beams=5)
    model.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def run_lines(capsys, text: str) -> dict[str, Any]:
    """Executes lines, which print something, and gives what they define."""
    names: dict[str, Any] = {}
    exec(text, names)
    assert capsys.readouterr().out
    return names


def save_adapter(folder, base: str, auto_class, **options) -> None:
    """An adapter as a run leaves it."""
    model = add_lora(auto_class.from_pretrained(base), AdapterArguments(lora=True, lora_r=2))
    tokenizer = train_tokenizer(["Who sees Ann?"], 270)
    if auto_class is AutoModelForSeq2SeqLM:
        set_generation(model, tokenizer, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    finish_adapter(model, tokenizer, folder)


@pytest.mark.parametrize("task", ["text", "answers"])
def test_usage_of_an_adapter_generates_as_its_run_did(tmp_path, capsys, base, task):
    adapter = str(tmp_path / "adapter")
    save_adapter(adapter, base, AutoModelForSeq2SeqLM, target_length=5, num_beams=2)
    if task == "text":
        text = usage_lines(adapter, base, "Who sees Ann?")
    else:
        text = question_usage_lines(adapter, base, "Who?", context="Ann sees Bob.", is_extractive=False)
    names = run_lines(capsys, text)
    config = names["model"].get_base_model().generation_config
    assert (config.max_new_tokens, config.num_beams) == (8, 2)
    assert names["model"].generate(**names["batch"], eos_token_id=None).shape == (1, 1 + 8)


def test_usage_of_an_adapter_that_marks(tmp_path, capsys, base):
    adapter = str(tmp_path / "adapter")
    save_adapter(adapter, base, AutoModelForQuestionAnswering)
    text = question_usage_lines(adapter, base, "Who?", context="Ann sees Bob.", is_extractive=True)
    assert "AutoModelForSeq2SeqLM" not in text and "GenerationConfig" not in text
    run_lines(capsys, text)


def test_results_of_a_resumed_run_are_kept(tmp_path):
    write_results(tmp_path, {"train_loss": 1.0, "eval_bleu": 1.0})
    write_results(tmp_path, {"eval_bleu": 2.0})
    results = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert results == {"train_loss": 1.0, "eval_bleu": 2.0}


def test_predictions_are_lines(tmp_path):
    write_predictions(tmp_path, ["eins", "", "drei"])
    assert (tmp_path / "generated_predictions.txt").read_text(encoding="utf-8") == "eins\n\ndrei\n"


def test_scores_before_and_after_stand_side_by_side():
    metrics = {"before_bleu": 10.0, "predict_bleu": 20.0, "predict_copy_source_bleu": 1.0, "predict_chrf": 30.0}
    table = score_table(metrics, ["bleu", "chrf", "formality_share"], {"copy of the source": "copy_source"})
    assert [line.split("|")[1:4] for line in table.splitlines()[2:]] == [
        [" copy of the source ", " 1.00  ", "       "],
        [" before training    ", " 10.00 ", "       "],
        [" trained            ", " 20.00 ", " 30.00 "],
    ]


def test_scores_have_their_interval_and_the_p_value_of_each_comparison():
    metrics = {"predict_bleu": 20.0, "predict_bleu_lower": 19.0, "predict_bleu_upper": 21.5}
    metrics |= {"predict_copy_source_bleu": 1.0, "predict_copy_source_p_value": 0.0009990}
    table = score_table(metrics, ["bleu"], {"copy of the source": "copy_source"}, "bleu")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0] == ["test set", "bleu", "95% of bleu", "p"]
    assert cells[2:] == [
        ["copy of the source", "1.00", "", "0.001"],
        ["trained", "20.00", "19.00 to 21.50", ""],
    ]


def test_published_bleu_is_left_out_where_its_tokenizer_is_not_installed(monkeypatch, caplog):
    def without_sacremoses(*arguments, **keywords):
        raise ImportError("`tokenize='moses-de'` needs the package sacremoses")

    monkeypatch.setattr(evaluation, "bleu", without_sacremoses)
    assert published_bleu(["ein Hund"], ["ein Hund"], "de") == {}
    assert "No `predict_bleu_tok_lc`: `tokenize='moses-de'` needs the package sacremoses" in caplog.text
