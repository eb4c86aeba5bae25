# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts with a class: names of classes, what is refused, rows for a model."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_attn.data import source_target_lengths, train_tokenizer
from hf_attn.data.classification import class_preprocessor, name_classes


def test_names_of_classes():
    rows = Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 1]})
    assert name_classes(rows, "train", "sentence", "label").to_dict() == {"text": ["a", "b"], "class": ["0", "1"]}
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    assert name_classes(rows.cast(features), "train", "sentence", "label")["class"][:] == ["no", "yes"]
    assert name_classes(rows.remove_columns("label"), "test", "sentence", "label").column_names == ["text"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, "`train` must have the columns `label`, got only `text`"),
        ({"text": [" "], "label": ["x"]}, "`text` must not be empty, got ' ' in row 0 of `train`"),
        (
            {"text": ["a", "b"], "label": ["x", None]},
            r"`label` must be the class of each row, a text or a whole number",
        ),
        ({"text": ["a"], "label": [0.5]}, r"a text or a whole number, got 0.5 in row 0 of `train`"),
    ],
)
def test_rows_that_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        name_classes(Dataset.from_dict(columns), "train", "text", "label")


def test_a_class_is_a_target_of_one_token():
    tokenizer = train_tokenizer(["a dog runs"], 280)
    rows = Dataset.from_dict({"text": ["a dog", "a"], "class": ["no", "yes"]})
    tokenized = rows.map(class_preprocessor(tokenizer, ["no", "yes"]), batched=True, with_indices=True)
    assert tokenized["labels"][:] == [[0], [1]]
    assert source_target_lengths(tokenized)[:, 1].tolist() == [1, 1]
    flat = tokenized.map(lambda row: {"labels": row["labels"][0]})
    assert source_target_lengths(flat)[:, 1].tolist() == [1, 1]
    with pytest.raises(ValueError, match="the class of a row must be one of `no`, `maybe`, got 'yes'"):
        rows.map(class_preprocessor(tokenizer, ["no", "maybe"]), batched=True, with_indices=True)
