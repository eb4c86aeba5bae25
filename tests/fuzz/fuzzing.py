# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""How the fuzz tests run: the errors that are allowed, how many inputs, and inputs that many of them share."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


# What docs/errors.md says of bad input. They name the field in backticks; errors of Python's own do not.
ERRORS = (ValueError, TypeError, FileNotFoundError, ImportError)
FEW, MANY = 30, 10_000
# CPU-seconds for one input, far above what any takes.
LIMIT_SECONDS = 20.0


def many(*, slow: int = MANY) -> pytest.MarkDecorator:
    """Runs a test that takes `examples` with a few inputs, and as a slow test with `slow` of them."""
    slow_case = pytest.param(slow, id=f"{slow}", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])
    return pytest.mark.parametrize("examples", [pytest.param(FEW, id="few"), slow_case])


def fuzz(check: Callable[[Any], object], inputs: st.SearchStrategy[Any], examples: int) -> None:
    """
    Calls `check` on drawn inputs; it may return, or raise one of `ERRORS` with a message that names a field.

    The inputs are the same in every run. Any other exception, or an input that takes too long, fails with the smallest
    input that does.
    """

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(inputs)
    def one_input(value: Any) -> None:
        start = time.process_time()
        try:
            check(value)
        except ERRORS as error:
            message = str(error)
            assert "`" in message, f"{type(error).__name__} without a field: {message}"
        seconds = time.process_time() - start
        assert seconds < LIMIT_SECONDS, f"took {seconds:.1f} s"

    one_input()


NUMBERS = st.sampled_from([0, 1, 2, 4, 8, -1, 3, 16, 10**3, 10**6, 10**12, 2**63, 10**400])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.integers(-3, 70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["", "nan"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""Whatever json can say, small."""

BROKEN_TEXTS = st.sampled_from(
    [
        b"",
        b"\xff\xfe\x00",
        b"\x00" * 8,
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a": NaN, "b": -Infinity, "c": 1e999}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"a": 1, "a": 2}',
    ]
)
"""Contents of text files at which readers stumble."""


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file after what happens to files: cut off, bytes changed, a part lost or doubled, or something else."""
    places = st.integers(0, max(len(content) - 1, 0))

    def replaced(place: int, new: bytes) -> bytes:
        return content[:place] + new + content[place + len(new) :]

    return st.one_of(
        places.map(lambda place: content[:place]),
        st.builds(replaced, places, st.binary(min_size=1, max_size=8)),
        st.builds(lambda first, last: content[: min(first, last)] + content[max(first, last) :], places, places),
        st.builds(lambda first, last: content[:last] + content[min(first, last) :], places, places),
        st.binary(max_size=40),
        BROKEN_TEXTS,
    )


@st.composite
def altered(draw: st.DrawFn, content: dict[str, Any]) -> bytes:
    """A json object in which one or two values, anywhere, are lost, renamed or replaced by others."""
    changed = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 2))):
        place: Any = changed
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            action = draw(st.sampled_from(["replace", "replace", "delete", "near", "add"]))
            if action == "delete":
                del place[key]
            elif action == "near" and isinstance(place[key], (int, float)) and not abs(place[key]) > 1e300:
                place[key] = place[key] * draw(st.sampled_from([-1, 0, 2, 1000])) + draw(st.sampled_from([-1, 0, 0.5]))
            elif action == "add" and isinstance(place, dict):
                place[draw(st.text(max_size=5))] = draw(VALUES)
            else:
                place[key] = draw(VALUES)
            break
    return json.dumps(changed).encode()
