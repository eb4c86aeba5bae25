# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checks of the rows that a metric gets."""

from collections.abc import Sequence
from typing import Any


def check_sentences(name: str, sentences: Sequence[str]) -> None:
    """Refuses anything but at least one string.

    Args:
        name: The argument's name, for the message.
        sentences: One string a row.

    Raises:
        TypeError: `sentences` is one string, or a row is not a string.
        ValueError: There are no rows.
    """
    if isinstance(sentences, str):
        raise TypeError(f"`{name}` must be a sequence of strings, one a row, got a single string: put it in a list")
    if len(sentences) == 0:
        raise ValueError(f"`{name}` must hold at least one row, got 0: there is nothing to score")
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"`{name}` must hold strings, row {index} is {sentence!r} ({type(sentence).__name__})")


def reference_rows(
    name: str, references: Sequence[str] | Sequence[Sequence[str]], *, may_be_empty: bool = False
) -> list[list[str]]:
    """References as one list of strings a row.

    Args:
        name: The argument's name, for the message.
        references: One string a row, or one list or array of strings a row.
        may_be_empty: Take rows without any reference.

    Raises:
        TypeError: `references` is one string, or a row is neither a string nor a list of strings.
        ValueError: A row has no reference, unless `may_be_empty`.
    """
    if isinstance(references, str):
        raise TypeError(f"`{name}` must be a sequence, one entry a row, got a single string: put it in a list")
    rows: list[Any] = [[row] if isinstance(row, str) else row for row in references]
    # Columns of lists come as arrays from pandas and from data sets in NumPy's format.
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in rows]
    for index, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or not all(isinstance(reference, str) for reference in row):
            raise TypeError(f"`{name}` must hold strings, or lists of strings, row {index} is {row!r}")
        if not row and not may_be_empty:
            raise ValueError(f"`{name}` must hold at least one reference in each row, row {index} has none")
    return [list(row) for row in rows]


def check_same_number(name: str, values: Sequence, other_name: str, other_values: Sequence) -> None:
    """Refuses two sequences of different lengths.

    Raises:
        ValueError: They differ; the message gives both numbers.
    """
    if len(values) != len(other_values):
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same number of rows, got {len(values)} and {len(other_values)}"
        )
