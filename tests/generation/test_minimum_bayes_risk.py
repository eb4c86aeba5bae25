# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Expected utilities equal sacreBLEU's sentence scores over all pairs, in a loop."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from hf_attn.generation import UTILITIES, expected_utilities, rank_by_utility


CANDIDATES = [
    "Der Hund ist im Haus.",
    "Ein Hund ist im Haus.",
    "Der Hund ist im Haus.",
    "",
    "Haus",
    "die Katze, die im Garten war, schläft",
    "a b c d e f",
    "der hund  ist im haus .",
]
NAIVE = {"bleu": lambda: BLEU(effective_order=True), "chrf": CHRF}


@pytest.mark.parametrize("utility", ["bleu", "chrf"])
def test_expected_utilities_equal_the_mean_over_all_pairs(utility):
    assert set(NAIVE) == set(UTILITIES)
    metric = NAIVE[utility]()
    naive = []
    for candidate in CANDIDATES:
        total = 0.0
        for reference in CANDIDATES:
            total += metric.sentence_score(candidate, [reference]).score
        naive.append(total / len(CANDIDATES))
    utilities = expected_utilities(CANDIDATES, utility)
    np.testing.assert_allclose(utilities, naive, atol=1e-9)
    assert utilities.dtype == np.float64
    assert utilities.argmax() == 0


def test_candidates_are_ranked_once_each_and_ties_keep_their_order():
    ranked = rank_by_utility(["b b", "a a", "c c c", "c c c"], "chrf")
    assert [text for text, _ in ranked] == ["c c c", "b b", "a a"]
    assert ranked[0][1] == pytest.approx(50.0)
    assert ranked[1][1] == ranked[2][1]
    assert rank_by_utility(["alone"]) == [("alone", pytest.approx(100.0))]


def test_bad_input():
    with pytest.raises(ValueError, match=r"^`candidates` must hold at least one row, got 0"):
        expected_utilities([])
    with pytest.raises(TypeError, match=r"^`candidates` must hold strings, row 1 is None"):
        expected_utilities(["a", None])
    with pytest.raises(ValueError, match=r"^`mbr` must be one of bleu, chrf, got 'comet'$"):
        expected_utilities(["a"], "comet")
