# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tokenize rows of sentence pairs, and measure the result for `LengthBucketBatchSampler`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .texts import check_texts, place_in_batch, quoted


def translation_preprocessor(
    tokenizer: PreTrainedTokenizerBase,
    source_lang: str,
    target_lang: str,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    source_prefix: str = "",
) -> Callable[..., dict[str, list[list[int]]]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize sentence pairs.

    Rows are `{"translation": {source_lang: ..., target_lang: ...}}`, or have columns named after the languages, or
    columns `source` and `target`. The function returns `input_ids`, `attention_mask` and `labels`, lists of int a row,
    neither padded nor shifted: `DataCollatorForSeq2Seq` pads, the model shifts. Without `with_indices=True` its errors
    count rows from the start of the batch.

    Args:
        tokenizer: Encodes sources, and targets by `text_target=`. One that needs language codes must have them set.
        source_lang, target_lang: Names of the languages in the rows.
        max_source_length, max_target_length: Cut to so many tokens, special tokens included. None: the tokenizer's
            `model_max_length`.
        source_prefix: Put before each source, as T5 wants.

    Raises:
        ValueError: (by the function) columns or a language are missing; a source is empty or blank; a text is not a
            string.
    """

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, Any]:
        sources, targets = _sides(batch, source_lang, target_lang, indices)
        encoded = tokenizer(
            [source_prefix + source for source in sources], max_length=max_source_length, truncation=True
        )
        labels = tokenizer(text_target=targets, max_length=max_target_length, truncation=True)
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels["input_ids"],
        }

    return preprocess


def source_target_lengths(split: Dataset) -> np.ndarray:
    """Counts the tokens of `input_ids` and `labels` in each row: int64 of shape (rows, 2)."""
    columns = ["input_ids", "labels"]
    tables = split.select_columns(columns).with_format("arrow").iter(batch_size=10_000)
    counts = [np.stack([_list_lengths(table[column]) for column in columns], axis=1) for table in tables]
    return np.concatenate(counts).astype(np.int64)


def _list_lengths(column: Any) -> np.ndarray:
    return np.concatenate([chunk.value_lengths().to_numpy() for chunk in column.chunks])


def _sides(
    batch: Mapping[str, Sequence[Any]], source_lang: str, target_lang: str, indices: Sequence[int] | None
) -> tuple[list[str], list[str]]:
    place = place_in_batch(indices)
    names = (source_lang, target_lang)
    if "translation" in batch:
        rows = batch["translation"]
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ValueError(f"`translation` must hold an object a row, got {row!r} in {place(position)}")
            if any(name not in row for name in names):
                raise ValueError(
                    f"`translation` must have the languages {quoted(names)}, but {place(position)} has only "
                    f"{quoted(row)}: set `source_lang` and `target_lang`"
                )
        sources, targets = ([row[name] for row in rows] for name in names)
    else:
        if any(name not in batch for name in names):
            names = ("source", "target")
        if any(name not in batch for name in names):
            raise ValueError(
                f"the data must have a column `translation`, or the columns `{source_lang}`, `{target_lang}`, or "
                f"{quoted(names)}; it has only {quoted(batch)}"
            )
        sources, targets = (list(batch[name]) for name in names)
    check_texts(names[0], sources, place)
    check_texts(names[1], targets, place, may_be_empty=True)
    return sources, targets
