# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The splits of a recipe's data, and the texts that a tokenizer is trained on."""

from collections.abc import Iterator, Mapping

from datasets import Dataset, IterableDataset

from ..data import load_splits
from ..data.translation import read_sides
from .arguments import DataArguments, RecipeTrainingArguments


def read_splits(
    arguments: DataArguments, training_arguments: RecipeTrainingArguments
) -> dict[str, Dataset | IterableDataset]:
    """
    The splits that the arguments name, cut to `max_*_samples` rows; those of `do_train`, `do_eval` and `do_predict`.

    With `streaming` only the training split is streamed; the splits that are scored have to be counted.

    Returns:
        Those of `train`, `validation` and `test` that there are.
    """
    splits = load_splits(
        arguments.dataset_name,
        arguments.dataset_config_name,
        arguments.train_file,
        arguments.validation_file,
        arguments.test_file,
        revision=arguments.dataset_revision,
        streaming=arguments.streaming,
        max_samples={
            "train": arguments.max_train_samples,
            "validation": arguments.max_eval_samples,
            "test": arguments.max_predict_samples,
        },
    )
    wanted = {
        "train": training_arguments.do_train,
        "validation": training_arguments.do_eval,
        "test": training_arguments.do_predict,
    }
    splits = {name: splits[name] for name in wanted if wanted[name] and name in splits}
    return {
        name: Dataset.from_list(list(split)) if name != "train" and isinstance(split, IterableDataset) else split
        for name, split in splits.items()
    }


def texts_of(split: Dataset | IterableDataset, language: str, column: str) -> Iterator[str]:
    """
    One side of sentence pairs, from a column `translation`, or one named after the language, or else that of the side.

    Args:
        split: Rows as `translation_preprocessor` takes them.
        language: Name of the language in the rows.
        column: The side, `source` or `target`.

    Raises:
        ValueError: As `translation_preprocessor` does.
    """
    for (texts,) in read_sides(split, {column: language}):
        yield from texts


def training_split(splits: Mapping[str, Dataset | IterableDataset]) -> Dataset | IterableDataset:
    """
    The split that a tokenizer for fresh weights is trained on.

    Raises:
        ValueError: There is none.
    """
    if "train" not in splits:
        raise ValueError(
            "`train_file` or `dataset_name` must give a training split to train a tokenizer on, got none."
        )
    return splits["train"]
