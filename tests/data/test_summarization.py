# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Documents with summaries: what is made of them, what is said of unusable rows, and first sentences."""

import re

import pytest
from datasets import Dataset

from hf_attn.data import train_tokenizer
from hf_attn.data.summarization import (
    check_documents,
    has_summaries,
    keep_covered,
    lead,
    references_of,
    summarization_preprocessor,
    summary_coverage,
)
from hf_attn.text.sentences import split_sentences


ROWS = [
    {"dialogue": "Ann: Lunch?\nBob: Gladly.", "summary": "They have lunch."},
    {"dialogue": "Ann: Hi", "summary": ""},
]
TOKENIZER = train_tokenizer([text for row in ROWS * 3 for text in row.values()], 300)


def test_sources_are_cut_and_their_whole_length_is_told():
    split = Dataset.from_list(ROWS)
    preprocess = summarization_preprocessor(TOKENIZER, "dialogue", "summary", 9, 4, "sum: ")
    encoded = split.map(preprocess, batched=True, with_indices=True, remove_columns=split.column_names)
    assert set(encoded.column_names) == {"input_ids", "attention_mask", "labels", "source_length"}
    whole = [len(TOKENIZER("sum: " + row["dialogue"])["input_ids"]) for row in ROWS]
    assert encoded["source_length"] == whole and whole[0] > 9
    assert len(encoded[0]["input_ids"]) == len(encoded[0]["attention_mask"]) == 9 and len(encoded[0]["labels"]) == 4
    assert encoded[0]["input_ids"][-1] == encoded[0]["labels"][-1] == TOKENIZER.eos_token_id
    assert encoded[1]["labels"] == [TOKENIZER.eos_token_id]
    uncut = summarization_preprocessor(TOKENIZER, "dialogue", "summary")(Dataset.from_list(ROWS)[:])
    assert TOKENIZER.decode(uncut["input_ids"][0]) == ROWS[0]["dialogue"] + "</s>"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"document": "a", "summary": "b"}],
            "`test` must have the columns `dialogue`, got only `document`, `summary`",
        ),
        (
            [ROWS[0], {"dialogue": " \n", "summary": "b"}],
            "`dialogue` must not be empty, got ' \\n' in row 1 of `test`",
        ),
        ([{"dialogue": 3, "summary": "b"}], "`dialogue` must be text, got 3 in row 0 of `test`"),
        ([ROWS[0], {"dialogue": "a", "summary": None}], "`summary` must be text, got None in row 1 of `test`"),
    ],
)
def test_rows_it_refuses(rows, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_documents(Dataset.from_list(rows), "test", "dialogue", "summary")


def test_streamed_rows_are_refused_when_they_come():
    split = Dataset.from_list([{"dialogue": "", "summary": "b"}]).to_iterable_dataset()
    check_documents(split, "train", "dialogue", "summary")
    preprocess = summarization_preprocessor(TOKENIZER, "dialogue", "summary")
    with pytest.raises(ValueError, match="`dialogue` must not be empty, got '' in row 0"):
        list(split.map(preprocess, batched=True, with_indices=True))


def test_references_are_those_of_the_column_or_else_the_summary():
    split = Dataset.from_list(ROWS)
    assert references_of(split, "test", "summary") == [["They have lunch."], [""]]
    several = split.add_column("references", [["They eat.", "Lunch."], None])
    assert references_of(several, "test", "summary") == [["They eat.", "Lunch."], [""]]
    assert references_of(several, "test", "summary", "summary") == [["They have lunch."], [""]]
    with pytest.raises(ValueError, match="`test` must have the columns `titles`, got only `dialogue`, `summary`"):
        references_of(split, "test", "summary", "titles")
    with pytest.raises(ValueError, match=r"`references` must hold text or lists of text, got 3 in row 0 of `test`"):
        references_of(split.add_column("references", [3, 4]), "test", "summary")


@pytest.mark.parametrize("summary", [{}, {"summary": None}], ids=["no column", "empty column"])
def test_rows_without_summaries(summary):
    split = Dataset.from_list([{"dialogue": row["dialogue"], **summary} for row in ROWS])
    assert not has_summaries(split, "test", "summary") and has_summaries(Dataset.from_list(ROWS), "test", "summary")
    check_documents(split, "test", "dialogue", None)
    encoded = summarization_preprocessor(TOKENIZER, "dialogue", None, 9)(split[:])
    assert set(encoded) == {"input_ids", "attention_mask", "source_length"}
    assert references_of(split, "test", None) is references_of(split, "test", None, "titles") is None
    assert references_of(split.add_column("references", [None, []]), "test", None) is None
    # References may come without the summary to learn.
    several = split.add_column("references", [["They eat.", "Lunch."], ["A greeting."]])
    assert references_of(several, "test", None) == [["They eat.", "Lunch."], ["A greeting."]]


def test_summaries_or_references_in_some_rows_are_refused():
    split = Dataset.from_list([ROWS[0], {**ROWS[1], "summary": None}])
    message = (
        "`summary` must be in every row of `test`, or in none for predictions without scores; got none in row 1: add "
        "it, or leave the row out"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        has_summaries(split, "test", "summary")
    some = split.add_column("references", [[], ["A greeting."]])
    with pytest.raises(ValueError, match=r"`references` must be in every row of `test`, .* got none in row 0"):
        references_of(some, "test", None)


def test_rows_whose_summaries_the_text_covers_are_kept():
    assert summary_coverage("The Draft, attached.", "draft of the rules") == 0.5
    assert summary_coverage("Über_uns: 3 Äpfel", "über äpfel") == 1.0
    assert summary_coverage("a", "...") == 0.0
    rows = [{"document": "We meet on Monday.", "summary": summary} for summary in ("Monday", "Meet Tuesday", "", "we")]
    split = Dataset.from_list(rows)
    for part in (split, split.to_iterable_dataset()):
        assert [row["summary"] for row in keep_covered(part, "document", "summary", 0.75)] == ["Monday", "we"]
    assert len(keep_covered(split, "document", "summary", 0.5)) == 3
    with pytest.raises(ValueError, match=r"`min_summary_coverage` leaves no row of `train`, got 1\.0"):
        keep_covered(split.select([1, 2]), "document", "summary", 1.0)


def test_first_sentences_and_first_turns():
    assert split_sentences('We ask "Why?" Then, e.g. here, we\nanswer.  It works (well.) Good') == [
        'We ask "Why?"', "Then, e.g. here, we", "answer.", "It works (well.)", "Good",
    ]  # fmt: skip
    dialogue = "Ann: Hi. How are you?\n\nBob: Fine.\nAnn: Good."
    assert lead(dialogue, 1) == "Ann: Hi."
    assert lead(dialogue, 2, "turn") == "Ann: Hi. How are you?\nBob: Fine."
    assert lead("Short", 3) == "Short"
    with pytest.raises(ValueError, match="`lead_unit` must be one of sentence, turn, got 'word'"):
        lead(dialogue, 1, "word")
