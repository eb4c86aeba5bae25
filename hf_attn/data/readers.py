# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Reads splits from the Hub or from json, jsonl, csv, parquet and text files, gzipped or not."""

import gzip
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    LargeList,
    List,
    load_dataset,
)

from .texts import quoted


_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
_GZIP = b"\x1f\x8b"
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PK\x07\x08": "zip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"Rar!": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x04\x22\x4d\x18": "lz4",
}
_JSON_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_WHITE = b" \t\r\n\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 24
_DEEPEST = 100
_PLAIN_FEATURES = frozenset(["Value", "ClassLabel", "Json", "Translation", "TranslationVariableLanguages"])
# Words such as "None", "NA" and "null" are text here, not missing values.
_BUILDER_OPTIONS: dict[str, dict[str, Any]] = {"csv": {"keep_default_na": False}}


def load_splits(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    *,
    revision: str | None = None,
    streaming: bool = False,
    max_samples: Mapping[str, int | None] | None = None,
) -> DatasetDict | IterableDatasetDict:
    """The splits of a Hub data set, or those of `train`, `validation` and `test` for which a file is given.

    The kind of a file is its ending: `.json` (an array of objects, or an object a line), `.jsonl`, `.csv` (with a line
    of column names), `.parquet`, or `.txt` (one row a line, column `text`), each also with `.gz` behind it. Text is
    UTF-8. Files of different kinds may be mixed.

    Args:
        dataset_name: Name on the Hub, or a directory that `datasets.load_dataset` understands.
        dataset_config_name: Configuration of the Hub data set.
        train_file, validation_file, test_file: Files, instead of `dataset_name`.
        revision: Branch, tag or commit of the Hub data set.
        streaming: Read rows while they are used, without a copy on disk; only the first row is checked beforehand.
        max_samples: Split name to the number of its first rows to keep. None keeps all.

    Raises:
        ValueError: Neither or both of `dataset_name` and files are given; a file is missing, of unknown kind, cannot
            be read (naming the line where there is one), is an archive, or has no rows; a column refers to other
            files, as images do; `max_samples` names a split that is not there.
    """
    candidates = {"train": train_file, "validation": validation_file, "test": test_file}
    files = {name: Path(path) for name, path in candidates.items() if path is not None}
    if dataset_name is not None and files:
        given = ", ".join(f"`{name}_file`" for name in files)
        raise ValueError(f"`dataset_name` and files exclude each other, got {dataset_name!r} and {given}")
    if dataset_name is None and dataset_config_name is not None:
        raise ValueError(f"`dataset_config_name` needs a `dataset_name`, got {dataset_config_name!r} without one")
    if dataset_name is not None:
        try:
            splits = dict(load_dataset(dataset_name, dataset_config_name, revision=revision, streaming=streaming))
        except ImportError:
            raise
        # Whatever the files of strangers make the readers do.
        except Exception as error:
            raise ValueError(
                f"`dataset_name` {dataset_name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        for name, split in splits.items():
            error_of_columns = _columns_error(split)
            if error_of_columns is not None:
                raise ValueError(f"`dataset_name`: split `{name}` of {dataset_name} {error_of_columns}")
            if next(iter(split), None) is None:
                raise ValueError(f"`dataset_name`: split `{name}` of {dataset_name} has no rows")
    elif files:
        splits = {name: _read_file(path, f"{name}_file", streaming) for name, path in files.items()}
    else:
        raise ValueError("`dataset_name` or at least one of `train_file`, `validation_file`, `test_file` is needed")
    splits = _first_rows(splits, max_samples or {})
    return IterableDatasetDict(splits) if streaming else DatasetDict(splits)


def require_columns(split: Dataset | IterableDataset, name: str, columns: Iterable[str]) -> None:
    """Checks that `split` has all `columns`.

    Args:
        split: Mapped or streamed data set.
        name: Name of the split, for messages, such as `train`.
        columns: Names of columns.

    Raises:
        ValueError: A column is missing; the message names those there are.
    """
    present = split.column_names
    if present is None:
        present = list(next(iter(split), {}))
    missing = [column for column in columns if column not in present]
    if missing:
        raise ValueError(f"`{name}` must have the columns {quoted(missing)}, got only {quoted(present)}")


def iterate_texts(files: Iterable[str | Path], fields: Sequence[str] | None = None) -> Iterator[str]:
    """Yields every string in `files`, row by row.

    Args:
        files: Files as in `load_splits`.
        fields: Columns to take, a dot leading inwards as in `translation.en`. None: all, also within nested columns.

    Raises:
        ValueError: A file cannot be read, or a field is not there or holds no string in any row.
    """
    for path in files:
        rows = _read_file(Path(path), "files", streaming=False)
        if fields is None:
            for row in rows:
                yield from _strings(row)
            continue
        require_columns(rows, str(path), [field.split(".")[0] for field in fields])
        for field in fields:
            num_texts = 0
            column, *inner = field.split(".")
            for value in rows[column]:
                for text in _strings(_descend(value, inner)):
                    num_texts += 1
                    yield text
            if num_texts == 0:
                raise ValueError(f"`fields` must name text, but {field!r} holds none in {path}")


def _descend(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _first_rows(splits: dict[str, Any], max_samples: Mapping[str, int | None]) -> dict[str, Any]:
    for name, num_rows in max_samples.items():
        if num_rows is None:
            continue
        if name not in splits:
            raise ValueError(f"`max_samples` must name splits that are there, {quoted(splits)}, got {name!r}")
        if num_rows < 1:
            raise ValueError(f"`max_samples` of {name!r} must be at least 1, got {num_rows}")
        split = splits[name]
        # More than there are is an error in datasets before 5.2, but not of a stream, whose length nobody knows.
        splits[name] = split.take(min(num_rows, len(split)) if isinstance(split, Dataset) else num_rows)
    return splits


def _read_file(path: Path, argument: str, streaming: bool) -> Dataset | IterableDataset:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    builder = _BUILDERS.get(suffixes[-1]) if suffixes else None
    if builder is None:
        raise ValueError(f"`{argument}` must end in {', '.join(_BUILDERS)}, with or without .gz, got {str(path)!r}")
    if not os.path.isfile(path):
        message = f"`{argument}` must be a file that exists, got {str(path)!r}"
        if not path.is_absolute():
            message += (
                f" below the working directory {os.getcwd()!r}; configs of recipes name files below the repository"
            )
        raise ValueError(message)
    _check_no_archive(path, argument)
    if builder == "json":
        _check_json(path, argument)
    options = _BUILDER_OPTIONS.get(builder, {})
    # A name may hold the signs of a pattern.
    pattern = re.sub(r"([*?[])", r"[\1]", os.path.abspath(path))
    try:
        if builder == "parquet":
            _check_texts(path)
        split = load_dataset(builder, data_files=pattern, streaming=streaming, **options).get("train", ())
        error_of_columns = _columns_error(split)
        first_row = None if error_of_columns else next(iter(split), None)
    # The readers of files have errors of many kinds.
    except Exception as error:
        cause = error.__cause__ or error
        raise ValueError(f"`{argument}`: {_reason(path, builder, cause)}") from error
    if error_of_columns is not None:
        raise ValueError(f"`{argument}`: {path} {error_of_columns}")
    if first_row is None:
        raise ValueError(f"`{argument}`: {path} has no rows")
    return split


def _check_no_archive(path: Path, argument: str) -> None:
    """Refuses what the library would unpack, whatever its name is, but for gzip."""
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise ValueError(f"`{argument}`: {path} cannot be read: {error}") from error
    try:
        is_tar = tarfile.is_tarfile(path)
    # A file whose packing is damaged is none.
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        is_tar = False
    if is_tar or beginning.startswith(tuple(_ARCHIVES)):
        kind = "tar" if is_tar else next(kind for magic, kind in _ARCHIVES.items() if beginning.startswith(magic))
        raise ValueError(f"`{argument}`: {path} is packed by {kind}: unpack it, or pack it by gzip")


def _check_json(path: Path, argument: str) -> None:
    """
    Refuses rows on which the reader of json ends the process without a word, deep ones and `null`, and those that it
    would stumble over in the middle of a stream: ones in another encoding.
    """
    try:
        with _opened(path) as file:
            depth, number = 0, 1
            for lines in iter(lambda: file.readlines(_BLOCK_BYTES), []):
                block = b"".join(lines)
                if number == 1 and block.lstrip(_WHITE).startswith(b"["):
                    block += file.read()
                    lines = [block]
                error_of_encoding = _encoding_error(path, block, number)
                if error_of_encoding is not None:
                    raise ValueError(f"`{argument}`: {error_of_encoding}")
                _check_nulls(path, argument, lines, number)
                depth, deepest = _depths(block, depth)
                if deepest > _DEEPEST:
                    raise ValueError(f"`{argument}`: {path} is nested more than {_DEEPEST} levels deep")
                number += len(lines)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"`{argument}`: {path} cannot be read: {error}") from error


def _check_texts(path: Path) -> None:
    """Raises what pyarrow says of texts in a parquet file that are not UTF-8: its reader does not look at them."""
    with _opened(path) as file:
        for batch in pq.ParquetFile(file).iter_batches():
            batch.validate(full=True)


def _check_nulls(path: Path, argument: str, lines: list[bytes], first: int) -> None:
    for number, line in enumerate(lines, start=first):
        if b"null" not in line:
            continue
        content = line.strip(_WHITE)
        if content == b"null" or (number == 1 and content.startswith(b"null")):
            raise ValueError(f"`{argument}`: line {number} of {path} must be a json object, got null")
        if number == 1 and content.startswith(b"["):
            try:
                rows = json.loads(content)
            # Its error is raised when it is read.
            except (ValueError, RecursionError):
                continue
            if None in rows:
                raise ValueError(f"`{argument}`: row {rows.index(None)} of {path} must be a json object, got null")


def _depths(block: bytes, start: int) -> tuple[int, int]:
    """The numbers of open brackets at the end of whole lines, and at most, where `start` are before them."""
    depths = _running_depths(block, start)
    if depths.max(initial=start) > _DEEPEST or depths.min(initial=start) < 0:
        # Brackets in texts do not count.
        depths = _running_depths(_JSON_TEXT.sub(b"", block), start)
    return (int(depths[-1]) if len(depths) else start), int(depths.max(initial=start))


def _running_depths(block: bytes, start: int) -> np.ndarray:
    brackets = np.frombuffer(block.translate(None, _NO_BRACKETS), dtype=np.uint8)
    return start + np.cumsum(np.where(np.isin(brackets, np.frombuffer(b"[{", dtype=np.uint8)), 1, -1))


def _opened(path: Path) -> IO[bytes]:
    """A file, unpacked where it is gzipped whatever its name is."""
    with path.open("rb") as file:
        is_gzipped = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzipped else path.open("rb")


def _columns_error(split: Any) -> str | None:
    """The error of columns such as images and sounds, whose values are paths and addresses that get opened."""
    for column, feature in (getattr(split, "features", None) or {}).items():
        kind = _unsafe_kind(feature)
        if kind is not None:
            return (
                f"has the column `{column}` of the kind {kind}, which refers to other files: only text, numbers, "
                "lists and objects of these are read"
            )
    return None


def _unsafe_kind(feature: Any) -> str | None:
    if isinstance(feature, dict):
        return next(filter(None, map(_unsafe_kind, feature.values())), None)
    if isinstance(feature, (list, tuple)):
        return next(filter(None, map(_unsafe_kind, feature)), None)
    if isinstance(feature, (List, LargeList)):
        return _unsafe_kind(feature.feature)
    kind = type(feature).__name__
    return None if kind in _PLAIN_FEATURES else kind


def _reason(path: Path, builder: str, cause: BaseException) -> str:
    """The reason why a file cannot be read, with the line, which the builders do not name."""
    unknown = f"{path} cannot be read as {builder}: {type(cause).__name__}: {cause}"
    if builder == "parquet":
        return unknown
    try:
        with _opened(path) as file:
            lines = file.readlines()
    except (OSError, EOFError, zlib.error) as error:
        return f"{path} cannot be read: {error}"
    if "corresponds to no data" in str(cause) or not any(line.strip() for line in lines):
        return f"{path} has no rows"
    if builder == "json":
        return _broken_json(path, lines) or unknown
    return _encoding_error(path, b"".join(lines)) or unknown


def _encoding_error(path: Path, block: bytes, first: int = 1) -> str | None:
    """The first error of whole lines of a file that are not UTF-8; the first line has the number `first`."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        number = first + block.count(b"\n", 0, error.start)
        position = error.start - block.rfind(b"\n", 0, error.start) - 1
        return f"line {number} of {path} is not UTF-8: {error.reason} at byte {position}"
    return None


def _broken_json(path: Path, lines: list[bytes]) -> str | None:
    if b"".join(lines).lstrip().startswith(b"["):
        lines = [b"".join(lines)]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except RecursionError:
            return f"line {number} of {path} is nested too deeply"
        except json.JSONDecodeError as error:
            line_name = f"line {number + error.lineno - 1} of {path}"
            return f"{line_name} is not valid json: {error.msg} at column {error.colno}"
        except ValueError as error:
            return f"line {number} of {path} is not valid json: {error}"
        if not isinstance(row, (dict, list)):
            return f"line {number} of {path} must be a json object, got {type(row).__name__}"
    return None
