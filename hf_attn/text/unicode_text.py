# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Strings that are no text, since they hold a lone surrogate."""


def is_text(text: str) -> bool:
    """Whether a string can be written in UTF-8: json may hold lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
