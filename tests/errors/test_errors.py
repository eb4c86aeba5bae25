# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Every bad input is refused with the error that docs/errors.md has for it."""

from collections.abc import Iterator

import pytest

from tests.errors.cases import CASES, Bench
from tests.errors.table import DOCUMENT, KINDS, document, line_of, refusal, sections


DOCUMENTED = list(sections(DOCUMENT.read_text(encoding="utf-8"))) if DOCUMENT.is_file() else []


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=[f"{case.area}-{case.what}".replace(" ", "-") for case in CASES])
def test_refusal(case, bench, tmp_path):
    kind, message = refusal(case, bench, tmp_path)
    assert kind in KINDS
    # The names of arguments that a push has are its repository and its command.
    assert "`" in message or kind == "RuntimeError"
    assert (case.area, line_of(case.what, kind, message)) in DOCUMENTED, "run `python -m tests.errors.table`"


def test_the_document_holds_these_cases_and_no_others():
    lines: dict[str, list[str]] = {}
    for area, line in DOCUMENTED:
        lines.setdefault(area, []).append(line)
    assert DOCUMENT.read_text(encoding="utf-8") == document(lines)
    wanted = [(case.area, case.what) for case in CASES]
    assert [(area, line.split(" | ")[0].removeprefix("| ")) for area, line in DOCUMENTED] == wanted
    assert len(set(wanted)) == len(wanted)
