# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checks of the texts of rows."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..text.unicode_text import is_text


logger = logging.getLogger(__name__)


def quoted(names: Iterable[Any]) -> str:
    """Names as a message lists them: in backticks, with commas; `none` where there are none."""
    return ", ".join(f"`{name}`" for name in names) or "none"


def check_texts(column: str, texts: Iterable[Any], row_name: Callable[[int], str], may_be_empty: bool = False) -> None:
    """Refuses a row whose text is none.

    Args:
        column: Name of the column, for the message.
        texts: One a row.
        row_name: Returns the name of the row at a position, for messages, such as "row 7".
        may_be_empty: Whether a text may be empty or blank.

    Raises:
        ValueError: A text is not a string, or has a lone surrogate, or is empty or blank where it may not be.
    """
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"`{column}` must be text, got {text!r} in {row_name(position)}")
        if not is_text(text):
            raise ValueError(f"`{column}` must be text that UTF-8 can write, got {text!r} in {row_name(position)}")
        if not may_be_empty and not text.strip():
            raise ValueError(f"`{column}` must not be empty, got {text!r} in {row_name(position)}")


def in_all_or_none(column: str, values: Sequence[Any], name: str) -> bool:
    """Whether the rows of a split have the column that they are scored against; the log says where none has.

    Args:
        column: Name of the column, for the messages.
        values: One a row, `None` where it is missing; empty where there is no such column.
        name: Name of the split, for messages, such as `test`.

    Raises:
        ValueError: Some rows have it and some do not; the message has the number of the first without, from 0.
    """
    lacking = [row for row, value in enumerate(values) if value is None]
    if lacking and len(lacking) < len(values):
        raise ValueError(
            f"`{column}` must be in every row of `{name}`, or in none for predictions without scores; got none in row "
            f"{lacking[0]}: add it, or leave the row out"
        )
    has_values = bool(values) and not lacking
    if not has_values:
        logger.warning(f"`{name}` has no `{column}`: it is predicted without the scores and the loss that need one.")
    return has_values


def row_name_in_split(name: str | None, first: int = 0) -> Callable[[int], str]:
    """The `row_name` of `check_texts` for the rows of a split, with or without a name, from the number `first` on."""
    return lambda position: f"row {first + position}" + ("" if name is None else f" of `{name}`")


def row_name_in_batch(indices: Sequence[int] | None) -> Callable[[int], str]:
    """The `row_name` of `check_texts` in a function that `Dataset.map` calls, with or without indices."""
    return lambda position: f"row {position} of the batch" if indices is None else f"row {indices[position]}"
