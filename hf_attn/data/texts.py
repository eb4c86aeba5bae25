# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What is asked of the texts of a row."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def is_text(text: str) -> bool:
    """Whether a string can be written in UTF-8: json may hold halves of characters, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def quoted(names: Iterable[Any]) -> str:
    """Names as a message lists them: in backticks, with commas; `none` where there are none."""
    return ", ".join(f"`{name}`" for name in names) or "none"


def check_texts(column: str, texts: Iterable[Any], place: Callable[[int], str], may_be_empty: bool = False) -> None:
    """Refuses a row whose text is none.

    Args:
        column: Name of the column, for the message.
        texts: One a row.
        place: What to call the row at a position in a message, such as "row 7".
        may_be_empty: Whether a text may be empty or blank.

    Raises:
        ValueError: A text is not a string, or has half a character, or is empty or blank where it may not be.
    """
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"`{column}` must be text, got {text!r} in {place(position)}")
        if not is_text(text):
            raise ValueError(f"`{column}` must be text that UTF-8 can write, got {text!r} in {place(position)}")
        if not may_be_empty and not text.strip():
            raise ValueError(f"`{column}` must not be empty, got {text!r} in {place(position)}")


def place_in_batch(indices: Sequence[int] | None) -> Callable[[int], str]:
    """The `place` of `check_texts` in a function that `Dataset.map` calls, with or without indices."""
    return lambda position: f"row {position} of the batch" if indices is None else f"row {indices[position]}"
