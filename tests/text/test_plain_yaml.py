# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""YAML holds plain values; what would run code, fill the memory or the stack is refused."""

import pytest

from hf_attn.text.plain_yaml import read_yaml


def test_plain_values_are_read():
    assert read_yaml("a: 1\nb: [x, 0.5, true, ~]\nc: {d: ''}") == {"a": 1, "b": ["x", 0.5, True, None], "c": {"d": ""}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: *a\n", r"the alias `\*a` is not taken"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("[" * 1_000, "nested too deeply"),
        ("a: [", "while parsing"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_yaml(text)
