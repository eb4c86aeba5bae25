# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the slice of QAMR that question answering trains on by default; the same bytes each time.

    python recipes/data/make_qamr.py ../shared/data/qa_extractive/qamr

The training split is whole. Validation and test are the questions on some and on some other sentences of the
validation split, so that no sentence stands in two splits.
"""

import argparse
import hashlib
import itertools
from pathlib import Path

from splits import read_split, write_split


OUTPUT = Path(__file__).parent / "qamr"
NUM_VALIDATION_SENTENCES, NUM_TEST_SENTENCES = 20, 30


def sentence_key(row: dict) -> str:
    """Orders the sentences in a way that depends on nothing but their text and mixes their sources."""
    return hashlib.sha256(row["context"].encode("utf-8")).hexdigest()


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation}.jsonl.gz of QAMR")
    source = parser.parse_args().source
    rows = sorted(read_split(source / "validation.jsonl.gz"), key=sentence_key)
    sentences = [list(questions) for _, questions in itertools.groupby(rows, key=sentence_key)]
    write_split(OUTPUT, "train", read_split(source / "train.jsonl.gz"))
    validation, test = sentences[:NUM_VALIDATION_SENTENCES], sentences[NUM_VALIDATION_SENTENCES:][:NUM_TEST_SENTENCES]
    write_split(OUTPUT, "validation", itertools.chain.from_iterable(validation))
    write_split(OUTPUT, "test", itertools.chain.from_iterable(test))


if __name__ == "__main__":
    main()
