# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""State that is changed for a while and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def temporary_attributes(target: object, /, **values: Any) -> Iterator[None]:
    """
    A context in which attributes of an object have other values; those from before come back at its end, also where
    it ends by an exception.

    Args:
        target: The object.
        values: The values inside, by the name of an attribute that the object has.

    Raises:
        AttributeError: The object lacks one of the attributes; nothing is changed then.
    """
    before = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
