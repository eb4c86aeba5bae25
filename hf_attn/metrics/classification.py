# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Accuracy and macro F1 of predicted classes, in percent."""

from collections import Counter
from collections.abc import Sequence

from .rows import check_same_number, check_sentences


def classification(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The share of rows with the right class, and the mean over the classes of their F1, as scikit-learn has them.

    Args:
        predictions, references: Name of one class a row.

    Returns:
        `accuracy` and `f1_macro`, 0 to 100. A class counts that stands in either of the two; its F1 is
        2 right / (predicted + true).

    Raises:
        TypeError: A row is not a string.
        ValueError: No rows, or not as many predictions as references.
    """
    right = classification_rows(predictions, references)
    hits = Counter(reference for reference, value in zip(references, right, strict=True) if value)
    predicted, true = Counter(predictions), Counter(references)
    f1 = [200.0 * hits[name] / (predicted[name] + true[name]) for name in predicted | true]
    return {"accuracy": sum(right) / len(right), "f1_macro": sum(f1) / len(f1)}


def classification_rows(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """One number a row, 100 for the right class and 0 for another; arguments and errors as for `classification`."""
    check_sentences("predictions", predictions)
    check_sentences("references", references)
    check_same_number("predictions", predictions, "references", references)
    return [100.0 * (one == other) for one, other in zip(predictions, references, strict=True)]
