# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""State that is changed for a while comes back, after an error too."""

from types import SimpleNamespace

import pytest

from hf_attn.training import temporary_attributes


def test_attributes_come_back():
    target = SimpleNamespace(first=1, second=2)
    with temporary_attributes(target, first=3, second=4):
        assert (target.first, target.second) == (3, 4)
    assert (target.first, target.second) == (1, 2)
    with pytest.raises(KeyError), temporary_attributes(target, first=3):
        raise KeyError("on purpose")
    assert (target.first, target.second) == (1, 2)


def test_missing_attribute_changes_nothing():
    target = SimpleNamespace(first=1)
    with pytest.raises(AttributeError, match="second"), temporary_attributes(target, first=3, second=4):
        pass
    assert vars(target) == {"first": 1}
