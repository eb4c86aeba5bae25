# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""How the scripts beside this one read and write splits."""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read_split(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a gzipped jsonl file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write_split(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as gzipped jsonl; the bytes depend on the rows alone."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    # No file name and no time in the header.
    content = gzip.compress("".join(lines).encode("utf-8"), compresslevel=9, mtime=0)
    (folder / f"{name}.jsonl.gz").write_bytes(content)
    print(f"{name}: {len(lines)} rows")
