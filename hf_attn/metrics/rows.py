# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checks on the rows that a metric is given."""

from collections.abc import Sequence


def check_sentences(name: str, sentences: Sequence[str]) -> None:
    """Refuse anything but at least one string.

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


def check_same_number(name: str, values: Sequence, other_name: str, other_values: Sequence) -> None:
    """Refuse two sequences of different lengths.

    Raises:
        ValueError: They differ; the message gives both numbers.
    """
    if len(values) != len(other_values):
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same number of rows, got {len(values)} and {len(other_values)}"
        )
