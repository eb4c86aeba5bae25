# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Accuracy and macro F1 against values worked out by hand, and the errors."""

import pytest

from hf_attn.metrics import classification, classification_rows


def test_scores():
    # Of a: 2 right, 3 predicted, 2 true: 4/5; of b: 1, 1, 2: 2/3.
    scores = classification(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert scores == pytest.approx({"accuracy": 75.0, "f1_macro": 100 * (4 / 5 + 2 / 3) / 2})
    assert classification_rows(["a", "b"], ["a", "a"]) == [100.0, 0.0]
    # A class that is only predicted counts with 0, as in scikit-learn.
    assert classification(["a", "c"], ["a", "a"])["f1_macro"] == pytest.approx(100 * (2 / 3) / 2)


def test_what_is_refused():
    with pytest.raises(
        ValueError, match="`predictions` and `references` must have the same number of rows, got 1 and 2"
    ):
        classification(["a"], ["a", "b"])
    with pytest.raises(TypeError, match="`references` must hold strings, row 0 is 1"):
        classification(["a"], [1])
