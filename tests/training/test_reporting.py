# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a run leaves beside its checkpoint."""

import json

from hf_attn.training import (
    evaluation,
    format_table,
    published_bleu,
    score_table,
    usage_lines,
    write_predictions,
    write_results,
)


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
