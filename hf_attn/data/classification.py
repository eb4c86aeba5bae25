# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts with a class: checked, named, and tokenized."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset
from transformers import PreTrainedTokenizerBase

from .readers import require_columns
from .texts import check_texts, in_all_or_none, quoted, row_name_in_split


CLASS = "class"
"""Column of the names of the classes in what `name_classes` returns."""


def name_classes(split: Dataset, name: str, text_column: str, label_column: str) -> Dataset:
    """The texts of a split as `text`, and the names of their classes as `class`; of a test split they may be missing.

    Args:
        split: Rows with a text, and with a class that is text, a whole number or a truth value; the names of numbers
            are those of the data set's `ClassLabel`, if it has one.
        name: Name of the split, for messages, such as `validation`.
        text_column, label_column: Names of the columns.

    Raises:
        ValueError: A column is missing, a text is empty or none, or a class is none of these; the message has the
            number of the row, from 0.
    """
    require_columns(split, name, [text_column] if name == "test" else [text_column, label_column])
    texts = list(split[text_column])
    check_texts(text_column, texts, row_name_in_split(name))
    columns = {"text": texts}
    classes = list(split[label_column]) if label_column in split.column_names else []
    if name != "test" or in_all_or_none(label_column, classes, name):
        feature = split.features[label_column]
        for row, label in enumerate(classes):
            if not isinstance(label, (str, int)) or label == "":
                raise ValueError(
                    f"`{label_column}` must be the class of each row, a text or a whole number, got {label!r} in row "
                    f"{row} of `{name}`"
                )
        columns[CLASS] = feature.int2str(classes) if isinstance(feature, ClassLabel) else list(map(str, classes))
    return Dataset.from_dict(columns)


def class_preprocessor(
    tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], max_length: int | None = None, prefix: str = ""
) -> Callable[..., dict[str, list]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize texts.

    Args:
        tokenizer: Encodes the texts.
        labels: Names of the classes, in the order of a model's outputs.
        max_length: Longer texts are cut, in tokens.
        prefix: Put before each text.

    Returns:
        A function that returns `input_ids`, `attention_mask` and, of rows with a class, `labels`: a list of one number
        a row, so that what pads targets and counts their tokens takes it as a target of one token.

    Raises:
        ValueError: (by the function) a class is none of `labels`.
    """
    numbers = {label: number for number, label in enumerate(labels)}

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, Any]:
        encoded = tokenizer([prefix + text for text in batch["text"]], truncation=True, max_length=max_length)
        columns: dict[str, Any] = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        if CLASS in batch:
            unknown = [label for label in batch[CLASS] if label not in numbers]
            if unknown:
                raise ValueError(f"the class of a row must be one of {quoted(labels)}, got {unknown[0]!r}")
            columns["labels"] = [[numbers[label]] for label in batch[CLASS]]
        return columns

    return preprocess
