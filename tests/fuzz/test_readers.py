# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Data files of every kind, whole, damaged or nonsense; and rows of any types through the preprocessors."""

import gzip
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import strategies as st

from hf_attn.data import load_splits
from hf_attn.data.question_answering import answer_preprocessor, span_preprocessor
from hf_attn.data.readers import iterate_texts
from hf_attn.data.summarization import summarization_preprocessor
from hf_attn.data.translation import translation_preprocessor
from tests.fuzz.fuzzing import BROKEN_TEXTS, MANY, VALUES, altered, damaged, fuzz, many


ROWS = [
    {"id": "1", "translation": {"en": "a dog", "de": "ein Hund"}, "tags": ["x", "y"], "score": 0.5},
    {"id": "2", "translation": {"en": "two dogs", "de": "zwei Hunde"}, "tags": [], "score": None},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PARQUET = io.BytesIO()
pa.parquet.write_table(pa.Table.from_pylist(ROWS), PARQUET)

# Ending -> contents. Rows of json are altered as json, the others as bytes.
CONTENTS = {
    ".jsonl": st.lists(altered(ROWS[0]), max_size=3).map(b"\n".join) | damaged(LINES),
    ".json": st.one_of(damaged(json.dumps(ROWS).encode()), VALUES.map(lambda value: json.dumps(value).encode())),
    ".csv": damaged(b'en,de\n"a, b",c\n"x\ny",z\n') | st.text('a,"\n\r;', max_size=20).map(str.encode),
    ".txt": damaged("Ein Hund läuft.\n\n".encode()) | st.binary(max_size=30),
    ".parquet": damaged(PARQUET.getvalue()),
}


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a file of some content, and leaves nothing in the cache."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr("datasets.config.EXTRACTED_DATASETS_PATH", str(cache / "extracted"))
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", str(cache / "downloads"))

    def read_rows(ending: str, content: bytes, streaming: bool, is_packed: bool) -> list[dict[str, Any]]:
        file = tmp_path / f"rows{ending}{'.gz' if is_packed else ''}"
        file.write_bytes(content)
        try:
            return list(load_splits(train_file=file, streaming=streaming)["train"])
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    return read_rows


# What one input costs: a data set is prepared for most of them, in a cache of its own.
@pytest.mark.parametrize("ending", CONTENTS)
@many(slow=MANY // len(CONTENTS))
def test_files(examples, read, ending):
    def check(value: tuple[bytes, bool, str]) -> None:
        content, streaming, packing = value
        if packing == "gzip":
            content = gzip.compress(content)
        elif packing == "cut":
            content = gzip.compress(content)[:-9]
        rows = read(ending, content, streaming, packing != "none")
        assert rows and all(isinstance(row, dict) for row in rows)

    packings = st.sampled_from(["none", "none", "none", "gzip", "cut"])
    fuzz(check, st.tuples(CONTENTS[ending] | BROKEN_TEXTS, st.sampled_from([True, True, False]), packings), examples)


@many(slow=2_000)
def test_names(examples, tmp_path):
    names = st.text(max_size=12) | st.sampled_from(["*", "[a]", "a?", "a::b", "zip:", "..", "~", "$HOME", "a" * 300])
    (tmp_path / "elsewhere.jsonl").write_bytes(LINES)

    def check(value: tuple[str, bool]) -> None:
        name, exists = value
        file = os.path.join(tmp_path, "in", f"{name}.jsonl")
        if exists and "\0" not in name and Path(file).parent == tmp_path / "in":
            try:
                os.makedirs(tmp_path / "in", exist_ok=True)
                Path(file).write_bytes(LINES)
            except (OSError, UnicodeEncodeError):
                return
        assert len(list(load_splits(train_file=file, streaming=True)["train"])) == len(ROWS)

    fuzz(check, st.tuples(names, st.booleans()), examples)


TEXTS = st.text(max_size=12) | st.sampled_from(["", " ", "\n", "a\ud800", "<s>", "dog " * 40])
COLUMNS = [
    "id",
    "context",
    "question",
    "answers",
    "translation",
    "en",
    "de",
    "source",
    "target",
    "document",
    "summary",
]
ANSWERS = st.fixed_dictionaries(
    {"text": st.lists(TEXTS, max_size=2), "answer_start": st.lists(st.integers(-2, 9), max_size=2)}
)
CELLS = TEXTS | VALUES | ANSWERS | st.fixed_dictionaries({"en": TEXTS, "de": TEXTS})


@many()
def test_rows(examples, tokenizer):
    makers = [
        lambda limit: translation_preprocessor(tokenizer, "en", "de", limit, limit),
        lambda limit: summarization_preprocessor(tokenizer, "document", "summary", limit, limit),
        lambda limit: span_preprocessor(tokenizer, limit, 2),
        lambda limit: answer_preprocessor(tokenizer, limit, limit),
    ]
    wanted = [["en", "de"], ["document", "summary"], ["id", "context", "question", "answers"]]
    wanted += [["translation"], ["id", "context", "question"]]
    likely = st.sampled_from(wanted).flatmap(
        lambda names: st.fixed_dictionaries({name: st.lists(CELLS, min_size=2, max_size=2) for name in names})
    )
    batches = likely | st.dictionaries(st.sampled_from(COLUMNS), st.lists(CELLS, min_size=1, max_size=1), max_size=5)

    def check(value: tuple) -> None:
        make, limit, batch = value
        columns = make(limit)(batch, list(range(len(next(iter(batch.values()), ())))))
        assert len({len(column) for column in columns.values()}) == 1

    fuzz(check, st.tuples(st.sampled_from(makers), st.integers(2, 40), batches), examples)


@many(slow=1_000)
def test_fields(examples, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(LINES)
    fields = st.text(max_size=6) | st.sampled_from(
        ["translation.en", "translation", "tags", "score", "id.x", ".", "id."]
    )
    fuzz(lambda names: list(iterate_texts([file], names)), st.lists(fields, min_size=1, max_size=2), examples)
