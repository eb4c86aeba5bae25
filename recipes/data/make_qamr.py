# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the slice of QAMR that question answering trains on by default; the same bytes each time.

    python recipes/data/make_qamr.py ../shared/data/qa_extractive/qamr

The training split is whole. Validation and test are the questions on some and on some other sentences of the
validation split, so that no sentence stands in two splits.
"""

import argparse
import gzip
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path


OUTPUT = Path(__file__).parent / "qamr"
NUM_VALIDATION_SENTENCES, NUM_TEST_SENTENCES = 20, 30


def read_rows(path: Path) -> Iterator[dict]:
    """Rows of a gzipped jsonl file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def sentence_key(row: dict) -> str:
    """Orders the sentences in a way that depends on nothing but their text and mixes their sources."""
    return hashlib.sha256(row["context"].encode("utf-8")).hexdigest()


def write_split(name: str, rows: list[dict]) -> None:
    """Write one split as gzipped jsonl."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # No file name and no time in the header: the bytes depend on the rows alone.
    (OUTPUT / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"{name}: {len(rows)} rows")


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation}.jsonl.gz of QAMR")
    source = parser.parse_args().source
    rows = sorted(read_rows(source / "validation.jsonl.gz"), key=sentence_key)
    sentences = [list(questions) for _, questions in itertools.groupby(rows, key=sentence_key)]
    write_split("train", list(read_rows(source / "train.jsonl.gz")))
    validation, test = sentences[:NUM_VALIDATION_SENTENCES], sentences[NUM_VALIDATION_SENTENCES:][:NUM_TEST_SENTENCES]
    write_split("validation", list(itertools.chain.from_iterable(validation)))
    write_split("test", list(itertools.chain.from_iterable(test)))


if __name__ == "__main__":
    main()
