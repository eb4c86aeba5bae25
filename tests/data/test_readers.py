# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Each kind of file, gzipped or not, mapped or streamed; and what is said of files that cannot be used."""

import gzip
import json
import re
from pathlib import Path

import pytest
from datasets import Dataset, IterableDataset

from hf_attn.data import iterate_texts, load_splits, require_columns


ROWS = [{"en": "a, b", "de": "ä"}, {"en": "None", "de": "NA"}, {"en": " c ", "de": "d"}]


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def json_lines(rows: list) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CONTENTS = {
    "rows.json": json.dumps(ROWS, indent=1),
    "lines.json": json_lines(ROWS),
    "rows.jsonl": json_lines(ROWS),
    "rows.csv": 'en,de\n"a, b",ä\nNone,NA\n c ,d\n',
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", CONTENTS)
def test_kinds_of_file(tmp_path, name, ending, streaming):
    path = write(tmp_path / (name + ending), CONTENTS[name])
    splits = load_splits(train_file=path, streaming=streaming)
    assert list(splits["train"]) == ROWS
    assert isinstance(splits["train"], IterableDataset if streaming else Dataset)


def test_parquet(tmp_path):
    Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    assert list(load_splits(test_file=tmp_path / "rows.parquet")["test"]) == ROWS


def test_text_keeps_blank_lines(tmp_path):
    path = write(tmp_path / "rows.txt.gz", "one\n\n two \n")
    assert load_splits(train_file=path)["train"]["text"][:] == ["one", "", " two "]


@pytest.mark.parametrize("streaming", [False, True])
def test_kinds_may_be_mixed_and_rows_limited(tmp_path, streaming):
    splits = load_splits(
        train_file=write(tmp_path / "a.jsonl", CONTENTS["rows.jsonl"]),
        validation_file=str(write(tmp_path / "b.csv", CONTENTS["rows.csv"])),
        streaming=streaming,
        max_samples={"train": 2, "validation": None},
    )
    assert {name: len(list(split)) for name, split in splits.items()} == {"train": 2, "validation": 3}


def test_max_samples_beyond_the_end(tmp_path):
    path = write(tmp_path / "a.jsonl", CONTENTS["rows.jsonl"])
    assert len(load_splits(train_file=path, max_samples={"train": 9})["train"]) == 3


def test_a_directory_by_dataset_name(tmp_path):
    write(tmp_path / "train.jsonl", CONTENTS["rows.jsonl"])
    assert list(load_splits(str(tmp_path))["train"]) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"en": "a"}\n\n{"en": }\n', "line 3 of {path} is not valid json: Expecting value at column 8"),
        ("a.jsonl.gz", '{"en": "a"}\n{"en"\n', "line 2 of {path} is not valid json: Expecting ':' delimiter"),
        ("a.json", '[{"en": "a"},\n{"en": "b"},\n{"en"', "line 3 of {path} is not valid json"),
        ("a.json", '\n{"en": "a"}\nnonsense\n', "line 3 of {path} is not valid json"),
        ("a.jsonl", '{"en": "a"}\n3\n', "line 2 of {path} must be a json object, got int"),
        ("a.txt", b"one\ncaf\xe9\n", "line 2 of {path} is not UTF-8: invalid continuation byte at byte 3"),
        ("a.jsonl", b'{"a": "x"}\n{"a": "\x80"}\n', "line 2 of {path} is not UTF-8: invalid start byte at byte 7"),
        ("a.csv", "en,de\na,b\na,b,c,d\n", "{path} cannot be read as csv: ParserError"),
        ("a.parquet", "not parquet", "{path} cannot be read as parquet"),
        ("a.jsonl", "", "{path} has no rows"),
        ("a.jsonl.gz", "\n \n", "{path} has no rows"),
        ("a.json", "[]", "{path} has no rows"),
        ("a.csv", "en,de\n", "{path} has no rows"),
        ("a.txt", "", "{path} has no rows"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_files_that_cannot_be_read(tmp_path, name, content, message, streaming):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=re.escape("`validation_file`: " + message.format(path=path))):
        load_splits(validation_file=path, streaming=streaming)


def test_a_gzip_file_that_is_cut_off(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(CONTENTS["rows.jsonl"].encode())[:-12])
    with pytest.raises(ValueError, match=re.escape(f"`train_file`: {path} cannot be read: Compressed file ended")):
        load_splits(train_file=path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"`train_file` must be a file that exists, got '.*nowhere\.jsonl'$"):
        load_splits(train_file=tmp_path / "nowhere.jsonl")


def test_a_missing_file_is_looked_for_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"got 'recipes/rows.jsonl' below the working directory '{tmp_path}'; configs of recipes name files below"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_splits(train_file="recipes/rows.jsonl")


@pytest.mark.parametrize("name", ["a.tsv", "a", "a.gz", "a.tar.gz"])
def test_an_unknown_ending(tmp_path, name):
    message = "`test_file` must end in .json, .jsonl, .csv, .parquet, .txt, with or without .gz, got "
    with pytest.raises(ValueError, match=re.escape(message)):
        load_splits(test_file=write(tmp_path / name, "x"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`dataset_name` or at least one of `train_file`, `validation_file`, `test_file` is needed"),
        (
            {"dataset_name": "some/set", "train_file": "a.json", "test_file": "b.json"},
            "`dataset_name` and files exclude each other, got 'some/set' and `train_file`, `test_file`",
        ),
        (
            {"train_file": "a.json", "dataset_config_name": "en-de"},
            "`dataset_config_name` needs a `dataset_name`, got 'en-de' without one",
        ),
    ],
)
def test_arguments_it_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_splits(**arguments)


@pytest.mark.parametrize(
    ("max_samples", "message"),
    [
        ({"trian": 3}, "`max_samples` must name splits that are there, `train`, got 'trian'"),
        ({"train": 0}, "`max_samples` of 'train' must be at least 1, got 0"),
    ],
)
def test_max_samples_it_refuses(tmp_path, max_samples, message):
    path = write(tmp_path / "a.jsonl", CONTENTS["rows.jsonl"])
    with pytest.raises(ValueError, match=re.escape(message)):
        load_splits(train_file=path, max_samples=max_samples)


@pytest.mark.parametrize("streaming", [False, True])
def test_missing_columns(tmp_path, streaming):
    path = write(tmp_path / "a.jsonl", CONTENTS["rows.jsonl"])
    split = load_splits(train_file=path, streaming=streaming)["train"]
    require_columns(split, "train", ["de", "en"])
    with pytest.raises(ValueError, match=r"`train` must have the columns `fr`, `cs`, got only `en`, `de`"):
        require_columns(split, "train", ["en", "fr", "cs"])


def test_texts_of_all_columns_and_of_some(tmp_path):
    rows = [{"id": 1, "translation": {"en": "a", "de": "b"}, "answers": {"text": ["c", "d"], "answer_start": [1, 2]}}]
    nested = write(tmp_path / "a.jsonl", json_lines(rows))
    plain = write(tmp_path / "b.txt.gz", "e\nf\n")
    assert list(iterate_texts([nested, plain])) == ["a", "b", "c", "d", "e", "f"]
    assert list(iterate_texts([nested], ["translation.de", "answers"])) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("fr", "must have the columns `fr`, got only `id`, `translation`"),
        ("translation.fr", "`fields` must name text, but 'translation.fr' holds none in"),
        ("id", "`fields` must name text, but 'id' holds none in"),
    ],
)
def test_fields_it_refuses(tmp_path, field, message):
    path = write(tmp_path / "a.jsonl", json_lines([{"id": 1, "translation": {"en": "a"}}]))
    with pytest.raises(ValueError, match=re.escape(message)):
        list(iterate_texts([path], [field]))


def test_a_real_corpus(data_dir):
    splits = load_splits(validation_file=data_dir / "translation" / "multi30k_en_de" / "validation.jsonl.gz")
    assert len(splits["validation"]) == 1014
    assert set(splits["validation"][0]["translation"]) == {"en", "de"}
