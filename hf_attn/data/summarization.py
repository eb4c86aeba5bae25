# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Documents or dialogues with a summary: checked, tokenized, and cut to their first sentences or turns."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..text.sentences import split_sentences
from .readers import require_columns
from .texts import check_texts, in_all_or_none, quoted, row_name_in_batch, row_name_in_split


REFERENCES_COLUMN = "references"
"""Column that may hold several summaries a row to score against."""

_WORD = re.compile(r"[^\W_]+")


def check_documents(split: Dataset | IterableDataset, name: str, text_column: str, summary_column: str | None) -> None:
    """Checks that a split has a text and a summary in each row; of a streamed one, that it has the columns.

    Args:
        split: Rows before tokenization.
        name: Name of the split, for messages, such as `validation`.
        text_column, summary_column: Names of the columns. None: there are no summaries.

    Raises:
        ValueError: A column is missing (those there are get listed), a text is empty or blank, or a text or a summary
            is not a string; the message has the number of the row, from 0.
    """
    require_columns(split, name, [text_column] if summary_column is None else [text_column, summary_column])
    if isinstance(split, Dataset):
        check_texts(text_column, split[text_column], row_name_in_split(name))
        if summary_column is not None:
            check_texts(summary_column, split[summary_column], row_name_in_split(name), may_be_empty=True)


def has_summaries(split: Dataset, name: str, summary_column: str) -> bool:
    """Whether the rows of a split have summaries: all of them, or none, as the log then says.

    Args:
        split: Rows before tokenization.
        name: Name of the split, for messages, such as `test`.
        summary_column: Name of the column.

    Raises:
        ValueError: Only some rows have one; the message has the number of the first without, from 0.
    """
    summaries = list(split[summary_column]) if summary_column in split.column_names else []
    return in_all_or_none(summary_column, summaries, name)


def references_of(
    split: Dataset, name: str, summary_column: str | None, references_column: str | None = None
) -> list[list[str]] | None:
    """The references of each row: the texts of a column, and the summary where it has none.

    Args:
        split: Rows that `check_documents` let pass.
        name: Name of the split, for messages, such as `validation`.
        summary_column: Name of the column of summaries. None: there are no summaries.
        references_column: Name of a column that holds a text or a list of texts a row. None: `references`, where the
            split has it.

    Returns:
        Texts by row; `None` where the rows have neither summaries nor references.

    Raises:
        ValueError: The named column is missing though there are summaries (the columns there are get listed), or it
            holds anything but text or lists of text, or without summaries only some rows have references; the message
            has the number of the row, from 0.
    """
    column = references_column or REFERENCES_COLUMN
    if column not in split.column_names:
        if summary_column is None:
            return None
        if references_column is not None:
            require_columns(split, name, [column])
        return [[summary] for summary in split[summary_column]]
    rows = [[value] if isinstance(value, str) else value for value in split[column]]
    for row, references in enumerate(rows):
        is_list = references is None or isinstance(references, list)
        if not is_list or not all(isinstance(text, str) for text in references or ()):
            raise ValueError(
                f"`{column}` must hold text or lists of text, got {references!r} in row {row} of `{name}`"
            )
    if summary_column is None:
        return rows if in_all_or_none(column, [references or None for references in rows], name) else None
    return [references or [summary] for references, summary in zip(rows, split[summary_column], strict=True)]


def summary_coverage(text: str, summary: str) -> float:
    """The share of the words of a summary that its text has too, 0 to 1, whatever their case; 0 without a word.

    The extractive fragment coverage of Grusky et al. 2018, equation 1, where every word is a fragment of its own.
    """
    words = _WORD.findall(summary.lower())
    known = set(_WORD.findall(text.lower()))
    return sum(word in known for word in words) / len(words) if words else 0.0


def keep_covered(
    split: Dataset | IterableDataset, text_column: str, summary_column: str, least: float
) -> Dataset | IterableDataset:
    """The rows of a training split whose summaries say what their texts say, as in Matsumaru et al. 2020.

    Args:
        split: Rows that `check_documents` let pass.
        text_column, summary_column: Names of the columns.
        least: The `summary_coverage` that a row needs, from 0 to 1.

    Raises:
        ValueError: No row has it.
    """
    kept = split.filter(lambda row: summary_coverage(row[text_column], row[summary_column]) >= least)
    if isinstance(kept, Dataset) and not len(kept):
        raise ValueError(f"`min_summary_coverage` leaves no row of `train`, got {least}. Lower it.")
    return kept


def summarization_preprocessor(
    tokenizer: PreTrainedTokenizerBase,
    text_column: str,
    summary_column: str | None,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    source_prefix: str = "",
) -> Callable[..., dict[str, list]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize documents.

    The function returns `input_ids`, `attention_mask` and `labels`, lists of int a row, neither padded nor shifted:
    `DataCollatorForSeq2Seq` pads, the model shifts; and `source_length`, the tokens of the source before it was cut.

    Args:
        tokenizer: Encodes sources, and summaries by `text_target=`.
        text_column, summary_column: Names of the columns. None: there are no summaries, and no `labels` are made.
        max_source_length, max_target_length: Cut to so many tokens, special tokens included. None: not cut.
        source_prefix: Put before each source, as T5 wants.

    Raises:
        ValueError: (by the function) a column is missing, a text is empty or blank, or a text or a summary is not a
            string.
    """

    wanted = [text_column] if summary_column is None else [text_column, summary_column]

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, list]:
        missing = [column for column in wanted if column not in batch]
        if missing:
            raise ValueError(f"the data must have the columns {quoted(missing)}; it has only {quoted(batch)}")
        check_texts(text_column, batch[text_column], row_name_in_batch(indices))
        sources = [source_prefix + text for text in batch[text_column]]
        encoded = tokenizer(sources, verbose=False)
        source_lengths = [len(token_ids) for token_ids in encoded["input_ids"]]
        if max_source_length is not None and max(source_lengths) > max_source_length:
            encoded = tokenizer(sources, truncation=True, max_length=max_source_length)
        columns: dict[str, Any] = {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "source_length": source_lengths,
        }
        if summary_column is not None:
            check_texts(summary_column, batch[summary_column], row_name_in_batch(indices), may_be_empty=True)
            labels = tokenizer(
                text_target=list(batch[summary_column]),
                truncation=max_target_length is not None,
                max_length=max_target_length,
            )
            columns["labels"] = labels["input_ids"]
        return columns

    return preprocess


def _turns(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


LEAD_UNITS: dict[str, Callable[[str], list[str]]] = {"sentence": split_sentences, "turn": _turns}
"""The units of a summary by the first ones of a text: sentences, or the turns of a dialogue, which are its lines."""


def lead(text: str, count: int, unit: str = "sentence") -> str:
    """The first sentences or turns of a text as its summary: LEAD-3 of See et al. 2017 and Gliwa et al. 2019.

    Args:
        text: A document or a dialogue.
        count: How many units.
        unit: One of `LEAD_UNITS`.

    Raises:
        ValueError: The unit is unknown.
    """
    if unit not in LEAD_UNITS:
        raise ValueError(f"`lead_unit` must be one of {', '.join(LEAD_UNITS)}, got {unit!r}")
    return "\n".join(LEAD_UNITS[unit](text)[:count])
