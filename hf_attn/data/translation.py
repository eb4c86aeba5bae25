# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tokenizes rows of sentence pairs, and measures the result for `LengthBucketBatchSampler`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from .texts import check_texts, in_all_or_none, quoted, row_name_in_batch, row_name_in_split


SIDES = {"source": ("source", "text"), "target": ("target",)}
"""Columns that hold a side of sentence pairs where none has the name of its language; `text` is that of text files."""

_NESTED = "translation"
_MENDING = ": set `source_lang` and `target_lang`"


def translation_preprocessor(
    tokenizer: PreTrainedTokenizerBase,
    source_lang: str,
    target_lang: str | None,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    source_prefix: str = "",
) -> Callable[..., dict[str, list[list[int]]]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize sentence pairs.

    Rows are `{"translation": {source_lang: ..., target_lang: ...}}`, or have a column for each side: one named after
    its language, or else one of `SIDES`. The function returns `input_ids`, `attention_mask` and `labels`, lists of int
    a row, neither padded nor shifted: `DataCollatorForSeq2Seq` pads, the model shifts. Without `with_indices=True` its
    errors count rows from the start of the batch.

    Args:
        tokenizer: Encodes sources, and targets by `text_target=`. One that needs language codes must have them set.
        source_lang, target_lang: Names of the languages in the rows. None: there are no targets, and no `labels` are
            made.
        max_source_length, max_target_length: Cut to so many tokens, special tokens included. None: the tokenizer's
            `model_max_length`.
        source_prefix: Put before each source, as T5 wants.

    Raises:
        ValueError: (by the function) columns or a language are missing; a source is empty or blank; a text is not a
            string.
    """

    languages = _languages(source_lang, target_lang)

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, Any]:
        sources, *targets = _sides(batch, languages, row_name_in_batch(indices))
        encoded = tokenizer(
            [source_prefix + source for source in sources], max_length=max_source_length, truncation=True
        )
        columns: dict[str, Any] = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        for texts in targets:
            labels = tokenizer(text_target=texts, max_length=max_target_length, truncation=True)
            columns["labels"] = labels["input_ids"]
        return columns

    return preprocess


def source_target_lengths(split: Dataset) -> np.ndarray:
    """The numbers of tokens in `input_ids` and `labels` of each row, 0 without `labels`: int64 of shape (rows, 2).

    A label that is no list, such as a class, counts as one.
    """
    columns = [column for column in ("input_ids", "labels") if column in split.column_names]
    tables = split.select_columns(columns).with_format("arrow").iter(batch_size=10_000)
    counts = [np.stack([_list_lengths(table[column]) for column in columns], axis=1) for table in tables]
    lengths = np.zeros((len(split), 2), dtype=np.int64)
    lengths[:, : len(columns)] = np.concatenate(counts)
    return lengths


def _list_lengths(column: Any) -> np.ndarray:
    if not pyarrow.types.is_nested(column.type):
        return np.ones(len(column), dtype=np.int64)
    return np.concatenate([chunk.value_lengths().to_numpy() for chunk in column.chunks])


def check_pairs(split: Dataset | IterableDataset, name: str, source_lang: str, target_lang: str | None) -> None:
    """Checks that a split has a source and a target in each row; of a streamed one, in its first row.

    Args:
        split: Rows as `translation_preprocessor` takes them.
        name: Name of the split, for messages, such as `validation`.
        source_lang, target_lang: Names of the languages in the rows. None: there are no targets.

    Raises:
        ValueError: As `translation_preprocessor` does; the message has the number of the row, from 0.
    """
    rows = split if isinstance(split, Dataset) else split.take(1)
    for _ in read_sides(rows, _languages(source_lang, target_lang), name):
        pass


def has_targets(split: Dataset, name: str, target_lang: str) -> bool:
    """Whether the rows of a split have targets: all of them, or none, as the log then says.

    Args:
        split: Rows as `translation_preprocessor` takes them.
        name: Name of the split, for messages, such as `test`.
        target_lang: Name of the language in the rows.

    Raises:
        ValueError: `translation` does not hold objects, or only some rows have a target; the message has the number of
            the first without, from 0.
    """
    if _NESTED in split.column_names:
        rows = list(split[_NESTED])
        _check_objects(rows, row_name_in_split(name))
        return in_all_or_none(target_lang, [row.get(target_lang) for row in rows], name)
    column = _column(split.column_names, "target", target_lang)
    return in_all_or_none(column or target_lang, list(split[column]) if column else [], name)


def read_sides(
    split: Dataset | IterableDataset, languages: Mapping[str, str], name: str | None = None
) -> Iterator[list[list[str]]]:
    """The checked texts of sides of sentence pairs, some rows at a time.

    Args:
        split: Rows as `translation_preprocessor` takes them.
        languages: Which of `SIDES`, and the name of the language of each.
        name: Name of the split, for messages, such as `validation`.

    Returns:
        For each side one text a row.

    Raises:
        ValueError: As `translation_preprocessor` does; the message has the number of the row, from 0.
    """
    first = 0
    for batch in split.iter(batch_size=1000):
        sides = _sides(batch, languages, row_name_in_split(name, first), name)
        yield sides
        first += len(sides[0])


def _languages(source_lang: str, target_lang: str | None) -> dict[str, str]:
    return {"source": source_lang} if target_lang is None else {"source": source_lang, "target": target_lang}


def _column(columns: Collection[str], side: str, language: str) -> str | None:
    """The column that holds a side; `None` where none does."""
    return next((column for column in (language, *SIDES[side]) if column in columns), None)


def _check_objects(rows: Iterable[Any], row_name: Callable[[int], str]) -> None:
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"`{_NESTED}` must hold an object a row, got {row!r} in {row_name(position)}")


def _sides(
    batch: Mapping[str, Sequence[Any]],
    languages: Mapping[str, str],
    row_name: Callable[[int], str],
    split_name: str | None = None,
) -> list[list[str]]:
    """The checked texts of each side in `languages`, from columns that may be those of a split with a name."""
    if _NESTED in batch:
        names = list(languages.values())
        rows = batch[_NESTED]
        _check_objects(rows, row_name)
        for position, row in enumerate(rows):
            if any(name not in row for name in names):
                raise ValueError(
                    f"`{_NESTED}` must have the languages {quoted(names)}, but {row_name(position)} has only "
                    f"{quoted(sorted(row))}{_MENDING}"
                )
        sides = [[row[name] for row in rows] for name in names]
    else:
        found = [_column(batch, side, language) for side, language in languages.items()]
        names = [name for name in found if name is not None]
        if len(names) < len(languages):
            whole, mending = ("the data", "") if split_name is None else (f"`{split_name}`", _MENDING)
            raise ValueError(
                f"{whole} must have a column `{_NESTED}`, or the columns {quoted(languages.values())}, or "
                f"{quoted(languages)}; it has only {quoted(batch)}{mending}"
            )
        sides = [list(batch[name]) for name in names]
    for side, name, texts in zip(languages, names, sides, strict=True):
        check_texts(name, texts, row_name, may_be_empty=side == "target")
    return sides
