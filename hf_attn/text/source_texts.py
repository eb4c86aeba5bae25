# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Source texts: the prefix before them, and what is asked of them."""

from transformers import PreTrainedModel

from .unicode_text import is_text


def source_prefix(model: PreTrainedModel, prefix: str | None = None) -> str:
    """The prefix of each source text: the one asked for, or that of the model's config, which its training had."""
    return (getattr(model.config, "prefix", None) or "") if prefix is None else prefix


def check_text(name: str, text: str, place: str = "") -> None:
    """
    Refuses half a character, which no tokenizer takes.

    Args:
        name: Of the argument, for the message.
        text: What is read.
        place: Which of several texts it is, for the message, such as " as text 7".

    Raises:
        ValueError: UTF-8 cannot write the text.
    """
    if not is_text(text):
        raise ValueError(f"`{name}` must be text that UTF-8 can write, got {text!r}{place}")
