# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The sentences of a text, by punctuation alone: no model, no download; "Mr. Smith" makes two."""

import re


# White space behind the end of a sentence, with closed quotes and brackets, and every new line. A small letter goes on
# with a sentence that an abbreviation seemed to end.
_SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["'”’»)\]]))\s+(?![a-z\s])|\n+""")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by punctuation and new lines, without white space around them; none is empty."""
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]
