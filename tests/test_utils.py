# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The selection of fast cases from a product: all of the product is there, and any two values meet among the fast."""

import itertools

from tests.utils import pairwise


def test_pairwise_cases():
    axes = {"length": range(4), "left, right": [(1, 2), (0, 0), (3, 0)], "kind": "abc", "flag": (True, False)}
    mark = pairwise(axes)
    names, cases = mark.args
    assert names == ["length", "left", "right", "kind", "flag"]
    product = {(length, *window, kind, flag) for length, window, kind, flag in itertools.product(*axes.values())}
    assert {tuple(case.values) for case in cases} == product and len(cases) == len(product) == 72
    assert all(mark.name == "slow" for case in cases for mark in case.marks)
    fast = [case.values for case in cases if not case.marks]
    assert 12 <= len(fast) <= 18  # the two longest axes alone have 12 pairs
    columns = {"length": slice(0, 1), "left, right": slice(1, 3), "kind": slice(3, 4), "flag": slice(4, 5)}
    for first, second in itertools.combinations(columns, 2):
        meeting = {(tuple(values[columns[first]]), tuple(values[columns[second]])) for values in fast}
        assert len(meeting) == len(axes[first]) * len(axes[second])
