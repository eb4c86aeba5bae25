# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Documents or dialogues with a summary: checked, tokenized, and cut to their first sentences or turns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..sentences import split_sentences
from .readers import require_columns
from .texts import check_texts, place_in_batch


def check_documents(split: Dataset | IterableDataset, name: str, text_column: str, summary_column: str) -> None:
    """Checks that a split has a text and a summary in each row; of a streamed one, that it has the columns.

    Args:
        split: Rows before tokenization.
        name: What to call the split in the message, such as `validation`.
        text_column, summary_column: Names of the columns.

    Raises:
        ValueError: A column is missing (those there are get listed), a text is empty or blank, or a text or a summary
            is not a string; the message has the number of the row, from 0.
    """
    require_columns(split, name, [text_column, summary_column])
    if isinstance(split, Dataset):
        check_texts(text_column, split[text_column], lambda row: f"row {row} of `{name}`")
        check_texts(summary_column, split[summary_column], lambda row: f"row {row} of `{name}`", may_be_empty=True)


def references_of(split: Dataset, summary_column: str, references_column: str) -> list[list[str]]:
    """The references of each row: those of a column that holds lists, and the summary where it is missing or empty.

    Args:
        split: Rows that `check_documents` let pass.
        summary_column, references_column: Names of the columns.

    Raises:
        ValueError: The column holds anything but lists of strings; the message has the number of the row, from 0.
    """
    summaries = list(split[summary_column])
    if references_column not in split.column_names:
        return [[summary] for summary in summaries]
    rows = list(split[references_column])
    for row, references in enumerate(rows):
        is_list = references is None or isinstance(references, list)
        if not is_list or not all(isinstance(text, str) for text in references or ()):
            raise ValueError(f"`{references_column}` must hold lists of text, got {references!r} in row {row}")
    return [references or [summary] for references, summary in zip(rows, summaries, strict=True)]


def summarization_preprocessor(
    tokenizer: PreTrainedTokenizerBase,
    text_column: str,
    summary_column: str,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    source_prefix: str = "",
) -> Callable[..., dict[str, list]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize documents.

    The function returns `input_ids`, `attention_mask` and `labels`, lists of int a row, neither padded nor shifted:
    `DataCollatorForSeq2Seq` pads, the model shifts; and `source_length`, the tokens of the source before it was cut.

    Args:
        tokenizer: Encodes sources, and summaries by `text_target=`.
        text_column, summary_column: Names of the columns.
        max_source_length, max_target_length: Cut to so many tokens, special tokens included. None: not cut.
        source_prefix: Put before each source, as T5 wants.

    Raises:
        ValueError: (by the function) a column is missing, a text is empty or blank, or a text or a summary is not a
            string.
    """

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, list]:
        missing = [column for column in (text_column, summary_column) if column not in batch]
        if missing:
            raise ValueError(f"the data must have the columns {_quoted(missing)}; it has only {_quoted(batch)}")
        check_texts(text_column, batch[text_column], place_in_batch(indices))
        check_texts(summary_column, batch[summary_column], place_in_batch(indices), may_be_empty=True)
        sources = [source_prefix + text for text in batch[text_column]]
        encoded = tokenizer(sources, verbose=False)
        source_lengths = [len(token_ids) for token_ids in encoded["input_ids"]]
        if max_source_length is not None and max(source_lengths) > max_source_length:
            encoded = tokenizer(sources, truncation=True, max_length=max_source_length)
        labels = tokenizer(
            text_target=list(batch[summary_column]),
            truncation=max_target_length is not None,
            max_length=max_target_length,
        )
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels["input_ids"],
            "source_length": source_lengths,
        }

    return preprocess


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _turns(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


LEAD_UNITS: dict[str, Callable[[str], list[str]]] = {"sentence": split_sentences, "turn": _turns}
"""What a summary by the first units of a text counts: sentences, or the turns of a dialogue, which are its lines."""


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
