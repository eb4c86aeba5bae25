# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Source texts: the prefix before them, and their check."""

from transformers import PreTrainedModel

from .unicode_text import is_text


def source_prefix(model: PreTrainedModel, prefix: str | None = None) -> str:
    """The prefix of each source text: `prefix`, or without it that of the model's config, which its training had."""
    return (getattr(model.config, "prefix", None) or "") if prefix is None else prefix


def check_text(name: str, text: str, position: str = "") -> None:
    """
    Refuses a text with a lone surrogate, which no tokenizer takes.

    Args:
        name: Of the argument, for the message.
        text: The text.
        position: Its position among several, for the message, such as " as text 7".

    Raises:
        ValueError: UTF-8 cannot write the text.
    """
    if not is_text(text):
        raise ValueError(f"`{name}` must be text that UTF-8 can write, got {text!r}{position}")
