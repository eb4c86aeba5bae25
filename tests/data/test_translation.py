# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Layouts of sentence pairs, what is made of them, and what is said of rows that cannot be used."""

import re

import pytest
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq

from hf_attn.data import source_target_lengths, train_tokenizer
from hf_attn.data.translation import check_pairs, has_targets, translation_preprocessor


PAIRS = [("a man", "ein Mann"), ("two dogs run", "zwei Hunde rennen"), ("a", "ein")]
TOKENIZER = train_tokenizer([text for pair in PAIRS * 3 for text in pair], 300)

LAYOUTS = {
    "translation": [{"translation": {"de": target, "en": source}} for source, target in PAIRS],
    "languages": [{"de": target, "en": source, "source": "x", "target": "y"} for source, target in PAIRS],
    "sides": [{"source": source, "target": target} for source, target in PAIRS],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    split = Dataset.from_list(LAYOUTS[layout])
    encoded = split.map(
        translation_preprocessor(TOKENIZER, "en", "de", source_prefix="translate: "),
        batched=True,
        with_indices=True,
        remove_columns=split.column_names,
    )
    assert set(encoded.column_names) == {"input_ids", "attention_mask", "labels"}
    for row, (source, target) in zip(encoded, PAIRS, strict=True):
        assert TOKENIZER.decode(row["input_ids"]) == f"translate: {source}</s>"
        assert TOKENIZER.decode(row["labels"]) == f"{target}</s>"
    assert source_target_lengths(encoded).tolist() == [[len(row["input_ids"]), len(row["labels"])] for row in encoded]


def test_lengths_are_cut_and_still_end_in_eos():
    batch = {"source": ["two dogs run"], "target": ["zwei Hunde rennen"]}
    encoded = translation_preprocessor(TOKENIZER, "en", "de", 3, 2)(batch)
    assert [len(encoded[name][0]) for name in ("input_ids", "attention_mask", "labels")] == [3, 3, 2]
    assert encoded["input_ids"][0][-1] == encoded["labels"][0][-1] == TOKENIZER.eos_token_id


def test_lengths_follow_rows_that_were_selected_or_shuffled():
    split = Dataset.from_dict({"input_ids": [[1], [1, 2], [1, 2, 3]], "labels": [[1] * 4, [1] * 5, [1] * 6]})
    assert source_target_lengths(split.select([2, 0])).tolist() == [[3, 6], [1, 4]]


def test_the_collator_of_transformers_pads_labels_with_minus_100():
    batch = dict(zip(("source", "target"), map(list, zip(*PAIRS, strict=True)), strict=True))
    encoded = translation_preprocessor(TOKENIZER, "en", "de")(batch)
    rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    padded = DataCollatorForSeq2Seq(TOKENIZER, pad_to_multiple_of=8)(rows)
    assert padded["input_ids"].shape[1] % 8 == padded["labels"].shape[1] % 8 == 0
    assert padded["labels"][2].tolist()[len(encoded["labels"][2]) :] == [-100] * int(
        (padded["labels"][2] == -100).sum()
    )
    assert padded["input_ids"][2, -1] == TOKENIZER.pad_token_id


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            {"translation": [{"en": "a", "de": "b"}, {"en": "a", "fr": "b"}]},
            "`translation` must have the languages `en`, `de`, but row 41 has only `en`, `fr`: set `source_lang` and "
            "`target_lang`",
        ),
        (
            {"en": ["a"], "text": ["b"]},
            "the data must have a column `translation`, or the columns `en`, `de`, or `source`, `target`; it has only "
            "`en`, `text`",
        ),
        ({"source": ["a", " \n"], "target": ["b", "c"]}, "`source` must not be empty, got ' \\n' in row 41"),
        ({"en": ["a", ""], "de": ["b", "c"]}, "`en` must not be empty, got '' in row 41"),
        ({"en": ["a", "b"], "de": ["c", None]}, "`de` must be text, got None in row 41"),
        ({"translation": [{"en": "a", "de": "b"}, {"en": 3, "de": "b"}]}, "`en` must be text, got 3 in row 41"),
        (
            {"translation": [{"en": "a", "de": "b"}, None]},
            "`translation` must hold an object a row, got None in row 41",
        ),
    ],
)
def test_rows_it_refuses(batch, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        translation_preprocessor(TOKENIZER, "en", "de")(batch, [40, 41])


WITHOUT_TARGETS = {
    "translation": [{"translation": {"en": source}} for source, _ in PAIRS],
    "null": [{"translation": {"en": source, "de": None}} for source, _ in PAIRS],
    "language": [{"en": source, "id": 3} for source, _ in PAIRS],
    "null column": [{"en": source, "de": None} for source, _ in PAIRS],
    "side": [{"source": source} for source, _ in PAIRS],
    "text file": [{"text": source} for source, _ in PAIRS],
}


@pytest.mark.parametrize("layout", WITHOUT_TARGETS)
def test_rows_without_targets(layout):
    split = Dataset.from_list(WITHOUT_TARGETS[layout])
    assert not has_targets(split, "test", "de")
    check_pairs(split, "test", "en", None)
    encoded = split.map(
        translation_preprocessor(TOKENIZER, "en", None),
        batched=True,
        with_indices=True,
        remove_columns=split.column_names,
    )
    assert set(encoded.column_names) == {"input_ids", "attention_mask"}
    assert TOKENIZER.batch_decode(encoded["input_ids"][:]) == [f"{source}</s>" for source, _ in PAIRS]
    assert source_target_lengths(encoded).tolist() == [[len(row["input_ids"]), 0] for row in encoded]
    # Where something is learned or compared, targets are needed.
    with pytest.raises(ValueError, match="`validation`"):
        check_pairs(split, "validation", "en", "de")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_with_targets_pass(layout):
    split = Dataset.from_list(LAYOUTS[layout])
    assert has_targets(split, "test", "de")
    check_pairs(split, "test", "en", "de")
    check_pairs(split.to_iterable_dataset(), "train", "en", "de")


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([{"translation": {"en": "a", "de": "b"}}, {"translation": {"en": "c", "de": None}}], "de"),
        ([{"en": "a", "de": "b"}, {"en": "c", "de": None}], "de"),
        ([{"source": "a", "target": "b"}, {"source": "c", "target": None}], "target"),
    ],
)
def test_targets_in_some_rows_are_refused(rows, column):
    message = (
        f"`{column}` must be in every row of `test`, or in none for predictions without scores; got none in row 1: "
        "add it, or leave the row out"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        has_targets(Dataset.from_list(rows), "test", "de")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"translation": {"en": "a", "de": "b"}}],
            "`translation` must have the languages `fr`, `de`, but row 0 of `train` has only `de`, `en`: set "
            "`source_lang` and `target_lang`",
        ),
        (
            [{"en": "a", "de": "b"}],
            "`train` must have a column `translation`, or the columns `fr`, `de`, or `source`, `target`; it has only "
            "`en`, `de`: set `source_lang` and `target_lang`",
        ),
        ([{"translation": "x"}], "`translation` must hold an object a row, got 'x' in row 0 of `train`"),
        ([{"fr": " ", "de": "b"}], "`fr` must not be empty, got ' ' in row 0 of `train`"),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_splits_it_refuses(rows, message, is_streamed):
    split = Dataset.from_list(rows)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_pairs(split.to_iterable_dataset() if is_streamed else split, "train", "fr", "de")


def test_rows_are_numbered_across_batches_and_only_the_first_of_streamed_ones_is_read():
    rows = [{"en": "a", "de": "b"}] * 1002 + [{"en": "", "de": "b"}]
    with pytest.raises(ValueError, match="`en` must not be empty, got '' in row 1002 of `train`"):
        check_pairs(Dataset.from_list(rows), "train", "en", "de")
    check_pairs(Dataset.from_list(rows).to_iterable_dataset(), "train", "en", "de")


def test_rows_that_hold_no_object_are_no_rows_without_targets():
    with pytest.raises(ValueError, match="`translation` must hold an object a row, got 'x' in row 0 of `test`"):
        has_targets(Dataset.from_list([{"translation": "x"}]), "test", "de")


def test_without_indices_rows_count_from_the_start_of_the_batch():
    with pytest.raises(ValueError, match="got '' in row 1 of the batch"):
        translation_preprocessor(TOKENIZER, "en", "de")({"en": ["a", ""], "de": ["b", "c"]})
