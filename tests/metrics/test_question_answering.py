# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Exact match and F1 by the official SQuAD rules, and the refusal of bad rows."""

import math

import pytest

from hf_attn.metrics import normalize_answer, squad, squad_rows, squad_v2, squad_v2_rows


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("an A-frame, then a theatre", "aframe then theatre"),
        ("U.S.\tArmy\n", "us army"),
        ("\u2013 caf\u00e9 \u201cA\u201d", "\u2013 caf\u00e9 \u201c \u201d"),
        ("the", ""),
    ],
)
def test_normalisation(text, normalized):
    assert normalize_answer(text) == normalized


def test_best_of_the_answers_counts():
    answers = [["Denver Broncos", "The Denver Broncos of Denver"], {"text": ["in the year 1976"], "answer_start": [3]}]
    rows = squad_rows(["the denver broncos", "1976"], answers)
    assert rows["exact_match"] == [100, 0]
    # "in year 1976": precision 1, recall 1/3.
    assert rows["f1"] == pytest.approx([100, 50])
    assert squad(["the denver broncos", "1976"], answers) == pytest.approx({"exact_match": 50, "f1": 75})


def test_repeated_words_are_shared_as_often_as_both_have_them():
    # "no no no" and "no no way": 2 shared words of 3 and 3.
    assert squad_rows(["no no no"], ["no no way"])["f1"] == pytest.approx([200 / 3])


def test_answers_of_which_nothing_is_left():
    # Version 1.1 finds no shared word; version 2.0 takes the answer away and wants no answer.
    assert squad(["The"], ["the"]) == {"exact_match": 100, "f1": 0}
    assert squad_v2(["The"], ["the"])["f1"] == 100
    assert squad_v2_rows(["", "cat"], [["a", "cat"], ["a"]]) == {"exact_match": [0, 0], "f1": [0, 0]}


PREDICTIONS = ["Normans", "", "Rollo", "", "the 10th century"]
ANSWERS = [["Normans"], ["France"], [], [], ["10th century", "in the tenth century"]]


def test_version_2_parts_rows_with_and_without_answer():
    assert squad_v2(PREDICTIONS, ANSWERS) == pytest.approx(
        {
            "exact_match": 60, "f1": 60, "total": 5,
            "HasAns_exact": 200 / 3, "HasAns_f1": 200 / 3, "HasAns_total": 3,
            "NoAns_exact": 50, "NoAns_f1": 50, "NoAns_total": 2,
        }
    )  # fmt: skip
    assert not any(name.startswith("NoAns") for name in squad_v2(PREDICTIONS[:2], ANSWERS[:2]))


def test_version_2_threshold():
    probabilities = [0.1, 0.8, 0.6, 0.9, 0.3]
    score = squad_v2(PREDICTIONS, ANSWERS, probabilities)
    # Walk: 2 of 5 right where none is answered, 3 after row 0, 4 after row 4, 3 after row 2; row 1 scores nothing.
    best = {name: value for name, value in score.items() if name.startswith("best")}
    assert best == {"best_exact": 80, "best_exact_thresh": 0.3, "best_f1": 80, "best_f1_thresh": 0.3}
    assert score["exact_match"] == 60
    at_best = squad_v2(PREDICTIONS, ANSWERS, probabilities, no_answer_threshold=0.3)
    assert at_best["exact_match"] == 80 and at_best["NoAns_exact"] == 100 and at_best["best_exact"] == 80
    assert squad_v2(["x"], [[]], [0.5])["best_exact_thresh"] == 0


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
        squad([], [])
    with pytest.raises(ValueError, match=r"`predictions` and `answers` must have the same .* got 1 and 2"):
        squad_v2(["a"], ["a", "b"])
    with pytest.raises(TypeError, match=r"`predictions` must hold strings, row 1 is None \(NoneType\)"):
        squad(["a", None], ["a", "b"])
    with pytest.raises(TypeError, match="`answers` must hold strings, or lists of strings, row 1 is 7"):
        squad(["a", "b"], ["a", 7])
    with pytest.raises(ValueError, match=r"`answers` that are objects must have `text`, row 0 has only \['texts'\]"):
        squad(["a"], [{"texts": ["a"]}])
    with pytest.raises(ValueError, match=r"at least one answer in each row, row 1 has none: .* by `squad_v2`"):
        squad(["a", "b"], [["a"], []])
    with pytest.raises(TypeError, match="`answers` must be a sequence, one entry a row, got a single string"):
        squad(["a"], "a")
    with pytest.raises(ValueError, match=r"`predictions` and `no_answer_probabilities` must have the same .* 1 and 2"):
        squad_v2(["a"], ["a"], [0.1, 0.2])
    with pytest.raises(TypeError, match="`no_answer_probabilities` must hold numbers, row 0 is 'none'"):
        squad_v2(["a"], ["a"], ["none"])
    with pytest.raises(ValueError, match=r"`no_answer_probabilities` must hold numbers that can .* row 1 is nan"):
        squad_v2(["a", "b"], ["a", "b"], [0.5, math.nan])
    with pytest.raises(ValueError, match=r"`no_answer_threshold` must be a number .* got nan"):
        squad_v2(["a"], ["a"], [0.5], no_answer_threshold=math.nan)
