# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Writes docs/errors.md: `python -m tests.errors.table`. The tests hold each line of it to what is raised."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES, POSITION_EMBEDDING_TYPES


DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
KINDS = {
    "ValueError": "A value is out of range, unknown, or does not fit the others; a file is damaged, or refused.",
    "TypeError": "A value is of another type.",
    "FileNotFoundError": "The file that `--config` names is not there.",
    "ImportError": "A package is missing or of the wrong version; the message has the command that installs it.",
    "ConnectionError": "The Hub does not answer, before anything was trained or written.",
    "RuntimeError": "A push failed; the result lies whole on this machine, and the message says how to push it again.",
    "status 2": "Of `hf-attn`: a wrong command line, or one of the errors above or of the system, on standard error.",
}
INTRODUCTION = """# Errors

Whatever is given to `hf_attn` gives a result or one of these errors. A message names the field in backticks, says the
rule, what was given, and what is allowed or how to go on. Nothing is half written: a run looks at all of its input
before it makes its output directory; rows that `--streaming` reads are looked at as they come.

| error | means |
| --- | --- |
"""
CLOSING = """
Paths are shortened to `...`. This file is made by `python -m tests.errors.table` from the calls in
[cases.py](../tests/errors/cases.py), and `make test` checks each line of it. That no input gives any other exception,
or makes a reader hang, is what the fuzz tests in [tests/fuzz](../tests/fuzz) try, with 1,000 to 10,000 inputs
each in `make test-slow`, 157,000 in all where atheris is installed.
"""
_LONGEST = 420


def refusal(case, bench, folder: Path) -> tuple[str, str]:
    """What kind of error a case raises, and its message without what varies from run to run."""
    bench.folder = folder
    try:
        case.call(bench)
    except SystemExit as error:
        status, message = str(error).split(": ", 1)
        return f"status {status}", shortened(message, bench)
    except Exception as error:
        return type(error).__name__, shortened(str(error), bench)
    raise AssertionError(f"{case.area}, {case.what}: nothing was raised")


def shortened(message: str, bench) -> str:
    for path in sorted({str(bench.folder), str(bench.shared)}, key=len, reverse=True):
        message = message.replace(path, "...")
    message = re.sub(r"http://127\.0\.0\.1:\d+", "http://hub", " ".join(message.split()))
    message = re.sub(r"[0-9a-f]{64}", "...", message)
    for choices in (LAYER_TYPES, CROSS_ATTENTION_TYPES, POSITION_EMBEDDING_TYPES):
        # A new mechanism changes no message here.
        message = message.replace(", ".join(choices), f"{next(iter(choices))}, ...")
    # What a library says around an error of ours.
    message = re.sub(r"Traceback .*Error: ", "... ", message)
    return message if len(message) <= _LONGEST else message[:_LONGEST].rsplit(" ", 1)[0] + " ..."


def line_of(what: str, kind: str, message: str) -> str:
    return f"| {what} | {kind} | {message.replace('|', chr(92) + '|')} |"


def document(lines: dict[str, list[str]]) -> str:
    kinds = "".join(f"| `{kind}` | {meaning} |\n" for kind, meaning in KINDS.items())
    sections = [
        f"\n## {area}\n\n| what is wrong | error | message |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
        for area, rows in lines.items()
    ]
    return INTRODUCTION + kinds + "".join(sections) + CLOSING


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Area and line of each error in a document."""
    area = ""
    for line in text.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ")
        elif area and line.startswith("| ") and not line.startswith(("| ---", "| what is wrong")):
            yield area, line


def main() -> None:
    # The same settings as the tests.
    import tests.conftest  # noqa: F401
    from tests.errors.cases import CASES, Bench

    lines: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as shared:
        bench = Bench(Path(shared))
        for number, case in enumerate(CASES):
            folder = Path(shared) / f"case-{number}"
            folder.mkdir()
            lines.setdefault(case.area, []).append(line_of(case.what, *refusal(case, bench, folder)))
        bench.close()
    DOCUMENT.write_text(document(lines), encoding="utf-8")
    sys.stdout.write(f"{sum(map(len, lines.values()))} errors in {os.path.relpath(DOCUMENT)}\n")


if __name__ == "__main__":
    main()
