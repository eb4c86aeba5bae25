# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Curves: the points they show, and bad input."""

import sys

import pytest

from hf_attn.metrics import LengthBleu
from hf_attn.plotting import bleu_by_length, training_curves


LOG_HISTORY = [
    {"loss": 4.0, "grad_norm": 1.0, "step": 10},
    {"eval_loss": 3.5, "eval_bleu": 10.0, "eval_formality_share": 0.5, "eval_runtime": 1.0, "step": 10},
    {"loss": 3.0, "grad_norm": 1.0, "step": 20},
    {"eval_loss": 3.6, "eval_bleu": 9.0, "eval_formality_share": 0.75, "eval_samples_per_second": 2.0, "step": 20},
    {"train_runtime": 9.0, "train_loss": 3.5, "step": 20},
]
CURVES = {
    "with": [LengthBleu(4.0, 40.0, 100), LengthBleu(9.0, 38.0, 50)],
    "without": [(4.0, 30.0, 100), (9.0, 9.0, 50)],
}


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_training_curves_separate_losses_metrics_and_shares():
    losses, metrics, shares = training_curves(LOG_HISTORY).axes
    assert lines(losses) == {"training": [[10, 4.0], [20, 3.0]], "evaluation": [[10, 3.5], [20, 3.6]]}
    assert lines(metrics) == {"bleu: last 9, highest 10": [[10, 10.0], [20, 9.0]]}
    assert lines(shares) == {"formality_share: last 0.75, highest 0.75": [[10, 0.5], [20, 0.75]]}


def test_training_curves_of_chosen_metrics_and_of_losses_alone():
    assert len(training_curves(LOG_HISTORY, ["eval_bleu"]).axes) == 2
    assert len(training_curves(LOG_HISTORY, []).axes) == 1
    assert len(training_curves([{"loss": 4.0, "step": 1}]).axes) == 1


def test_training_curves_leave_out_what_is_not_finite():
    (losses,) = training_curves([{"loss": float("nan"), "step": 1}, {"loss": 2.0, "step": 2}]).axes
    assert lines(losses) == {"training": [[2, 2.0]]}


def test_training_curves_refuse_bad_input():
    with pytest.raises(ValueError, match=r"`log_history` must have an entry with `step` and one of .* got 1 entries"):
        training_curves([{"train_runtime": 9.0, "step": 20}])
    with pytest.raises(ValueError, match="`metrics` must be in `log_history`, got eval_f1; there are: eval_bleu"):
        training_curves(LOG_HISTORY, ["eval_f1"])


def test_bleu_by_length_shows_points_and_numbers_of_sentences():
    scores, sentences = bleu_by_length(CURVES, "Title").axes
    assert lines(scores) == {"with": [[4, 40], [9, 38]], "without": [[4, 30], [9, 9]]}
    assert [bar.get_height() for bar in sentences.patches] == [100, 50]
    assert scores.get_title(loc="left") == "Title"


def test_bleu_by_length_has_no_bars_for_curves_over_different_sentences():
    assert len(bleu_by_length({**CURVES, "other": [(4.0, 30.0, 7)]}).axes) == 1


def test_bleu_by_length_refuses_bad_input():
    with pytest.raises(ValueError, match="`curves` must hold at least one curve, got none"):
        bleu_by_length({})
    with pytest.raises(ValueError, match="`curves` must have at least one point each, got none for with"):
        bleu_by_length({"with": []})


@pytest.mark.parametrize(("draw", "data"), [(training_curves, LOG_HISTORY), (bleu_by_length, CURVES)])
def test_without_matplotlib_the_extra_is_named(monkeypatch, draw, data):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"'hf_attn\[plotting\]'"):
        draw(data)
