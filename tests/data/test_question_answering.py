# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Windows and their labels, spans from logits, and what is said of rows that cannot be used."""

import re

import numpy as np
import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizer

from hf_attn.data import train_tokenizer
from hf_attn.data.question_answering import (
    Span,
    answer_preprocessor,
    best_spans,
    check_ids,
    choose_answers,
    overlap_sentence,
    span_preprocessor,
)


CONTEXT = "In Köln lebt 🦊 Ada. She sings."
# Nothing is merged: a token is one byte, and "ö" are two.
BYTES = train_tokenizer([CONTEXT], 262, min_frequency=100)
COUNT = "one two three four five six seven eight"
# A token is a word, here with and without a space before it.
WORDS = train_tokenizer([f"who {word} {word}\n{word}" for word in COUNT.split()] * 3, 400)


def row(context: str, answer: str | None, question: str = "who", row_id: str = "a") -> dict:
    texts = [] if answer is None else [answer]
    return {
        "id": row_id,
        "context": context,
        "question": question,
        "answers": {"text": texts, "answer_start": [context.index(text) for text in texts]},
    }


def windows_of(rows: list[dict], *arguments, tokenizer=WORDS) -> Dataset:
    split = Dataset.from_list(rows)
    return split.map(
        span_preprocessor(tokenizer, *arguments), batched=True, with_indices=True, remove_columns=split.column_names
    )


def marked_text(window: dict, context: str) -> str:
    """The text of the context that the labels of a window stand for."""
    first, last = window["labels"]
    return context[window["char_starts"][first] : window["char_ends"][last]]


@pytest.mark.parametrize("answer", ["In", "Köln", "ö", "🦊 Ada", "She sings.", CONTEXT])
def test_labels_mark_the_answer_through_bytes_and_leading_spaces(answer):
    for tokenizer in (BYTES, WORDS):
        (window,) = windows_of([row(CONTEXT, answer)], tokenizer=tokenizer)
        assert marked_text(window, CONTEXT).strip() == answer
        decoded = tokenizer.decode(window["input_ids"][window["labels"][0] : window["labels"][1] + 1])
        assert decoded.strip() == answer


def test_a_window_is_the_question_and_a_part_of_the_context():
    # The question, two ends, and three words of the context, of which the next window repeats one.
    windows = windows_of([row("x", None), row(COUNT, "four five", row_id="b")], 6, 1)
    assert windows["row"] == [0, 1, 1, 1, 1]
    texts = [WORDS.decode(token_ids) for token_ids in windows["input_ids"]]
    assert texts[1:] == [
        "who</s>one two three</s>",
        "who</s> three four five</s>",
        "who</s> five six seven</s>",
        "who</s> seven eight</s>",
    ]
    # It stands at the border of the second window, and only there as a whole.
    assert windows["labels"] == [[0, 0], [0, 0], [3, 4], [0, 0], [0, 0]]
    assert marked_text(windows[2], COUNT) == " four five"
    assert windows["char_starts"][1] == [-1, -1, 0, 3, 7, -1]
    assert windows["char_ends"][1] == [-1, -1, 3, 7, 13, -1]


def test_an_answer_in_two_windows_is_marked_in_both():
    windows = windows_of([row(COUNT, "three")], 6, 1)
    assert windows["labels"] == [[4, 4], [2, 2], [0, 0], [0, 0]]


def test_white_space_around_an_answer_is_not_part_of_it():
    (window,) = windows_of([row(COUNT, " two ")])
    assert marked_text(window, COUNT) == " two"


def test_unanswerable_rows_point_at_the_first_token_and_unlabelled_ones_nowhere():
    assert windows_of([row(COUNT, None)])["labels"] == [[0, 0]]
    unlabelled = {name: value for name, value in row(COUNT, None).items() if name != "answers"}
    assert "labels" not in windows_of([unlabelled]).column_names


def logits_for(windows: Dataset, *spans: tuple[int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Logits, 0 but where (window, first, last, score) sets half of the score each, in columns beyond the longest."""
    length = max(map(len, windows["input_ids"])) + 2
    starts, ends = np.zeros((2, len(windows) + 1, length), dtype=np.float32)
    # What pads must never win.
    starts[:, -2:] = ends[:, -2:] = 99
    starts[-1] = ends[-1] = 99
    for window, first, last, score in spans:
        starts[window, first] = ends[window, last] = score / 2
    return starts, ends


def test_best_spans_over_windows():
    rows = [row("eight", None), row(COUNT, None, row_id="b")]
    windows = windows_of(rows, 6, 1)
    # "two three", "four five", and the question, which is no part of the context.
    starts, ends = logits_for(windows, (1, 3, 4, 6.0), (2, 3, 4, 8.0), (2, 0, 0, 90.0))
    spans = best_spans(starts, ends, windows, [example["context"] for example in rows], n_best_size=4)
    assert [span.text for span in spans[0]] == ["eight"]
    assert [span.text for span in spans[1][:2]] == ["four five", "two three"]
    assert [span.score for span in spans[1][:2]] == [8.0, 6.0]
    best = spans[1][0]
    assert COUNT[best.start : best.end] == best.text
    assert len(spans[1]) == 4
    assert sum(span.probability for span in spans[1]) == pytest.approx(1)
    assert choose_answers(spans) == ["eight", "four five"]


def test_a_span_in_two_windows_counts_once_with_its_highest_score():
    windows = windows_of([row(COUNT, None)], 6, 1)
    starts, ends = logits_for(windows, (0, 4, 4, 3.0), (1, 2, 2, 5.0))
    (spans,) = best_spans(starts, ends, windows, [COUNT], n_best_size=100)
    assert [span.score for span in spans if span.text == "three"] == [5.0]


def test_best_spans_are_exact():
    rows = [row(COUNT, None), row(COUNT + " " + COUNT, None, row_id="b")]
    windows = windows_of(rows, 9, 2)
    random = np.random.default_rng(0)
    starts, ends = random.normal(size=(2, len(windows), 9))
    contexts = [example["context"] for example in rows]
    spans = best_spans(starts, ends, windows, contexts, n_best_size=5, max_answer_length=3)
    for number, context in enumerate(contexts):
        scores: dict[tuple[int, int], float] = {}
        for index, window in enumerate(windows):
            inside = [token for token, start in enumerate(window["char_starts"]) if start >= 0]
            for first in inside if window["row"] == number else ():
                for last in (last for last in inside if first <= last < first + 3):
                    key = (window["char_starts"][first], window["char_ends"][last])
                    score = starts[index, first] + ends[index, last]
                    scores[key] = max(score, scores.get(key, -np.inf))
        expected = sorted(((score, *key) for key, score in scores.items()), reverse=True)[:5]
        assert [span.score for span in spans[number]] == pytest.approx([score for score, *_ in expected])
        assert [span.text for span in spans[number]] == [context[start:end].strip() for _, start, end in expected]


def test_no_answer_wins_beyond_the_threshold_only():
    windows = windows_of([row(COUNT, None)], 6, 1)
    # No answer scores 9, 7, 8 and 8 in the four windows: 7 counts.
    nulls = [(window, 0, 0, score) for window, score in enumerate((9.0, 7.0, 8.0, 8.0))]
    starts, ends = logits_for(windows, *nulls, (3, 3, 3, 5.0))
    spans = best_spans(starts, ends, windows, [COUNT], n_best_size=1, with_null=True)
    assert [(span.text, span.score) for span in spans[0]] == [("", 7.0), ("eight", 5.0)]
    assert choose_answers(spans) == [""]
    assert choose_answers(spans, null_score_diff_threshold=1.9) == [""]
    assert choose_answers(spans, null_score_diff_threshold=2.0) == ["eight"]
    assert choose_answers(best_spans(starts, ends, windows, [COUNT])) == ["eight"]


def test_spans_keep_to_characters_of_several_bytes():
    windows = windows_of([row(CONTEXT, "🦊 Ada")], tokenizer=BYTES)
    first, last = windows[0]["labels"]
    # From the second of the fox's four bytes on.
    spans = best_spans(*logits_for(windows, (0, first + 1, last, 9.0)), windows, [CONTEXT])
    assert choose_answers(spans) == ["🦊 Ada"]


def test_nothing_to_answer_from():
    windows = {"row": [0], "char_starts": [[-1, -1]], "char_ends": [[-1, -1]]}
    spans = best_spans(np.zeros((1, 2)), np.zeros((1, 2)), windows, ["one"])
    assert spans == [[]] and choose_answers(spans) == [""]
    assert choose_answers([[Span("", 0, 0, 1.0, 1.0)]], 5.0) == [""]


def test_generative_rows():
    batch = Dataset.from_list([row(COUNT, "two"), row("one two", None, row_id="b")])[:]
    encoded = answer_preprocessor(WORDS, source_prefix="where ")(batch)
    assert WORDS.decode(encoded["input_ids"][0]) == f"where who</s>{COUNT}</s>"
    assert [WORDS.decode(labels) for labels in encoded["labels"]] == ["two</s>", "</s>"]
    cut = answer_preprocessor(WORDS, 6, 1)(batch)
    assert WORDS.decode(cut["input_ids"][0]) == "who</s>one two three</s>"
    assert cut["source_length"] == [len(COUNT.split()) + 3, 5]
    assert cut["labels"] == [[WORDS.eos_token_id]] * 2
    # Answers need not stand in the context, nor anywhere.
    batch["answers"][0] = {"text": ["nine"]}
    assert len(answer_preprocessor(WORDS)(batch)["labels"]) == 2
    del batch["answers"]
    assert "labels" not in answer_preprocessor(WORDS)(batch)


def test_overlap_sentence():
    context = 'Ada sings. Where? "Bob dances at home." Bob sings\nEve sleeps'
    assert overlap_sentence("Where does Bob dance at home", context) == '"Bob dances at home."'
    assert overlap_sentence("who SLEEPS?", context) == "Eve sleeps"
    assert overlap_sentence("nothing", context) == "Ada sings."


ERRORS = {
    "elsewhere": (
        {"answers": {"text": ["two"], "answer_start": [5]}},
        "`answers` of row 0 (id 'a') must stand at their `answer_start`, got 'two' at 5: 'wo ' stands there",
    ),
    "nowhere": ({"answers": {"text": ["two"], "answer_start": [-1]}}, "got 'two' at -1: no position"),
    "second": (
        {"answers": {"text": ["one", "two"], "answer_start": [0, 0]}},
        "got 'two' at 0: 'one' stands there",
    ),
    "blank": ({"answers": {"text": [" "], "answer_start": [3]}}, "`answers` must not be empty, got ' ' in row 0"),
    "lists": (
        {"answers": {"text": ["one"], "answer_start": []}},
        "`answers` must hold the lists `text`, `answer_start` of one length, got",
    ),
    "form": ({"answers": ["one"]}, "`answers` must hold the lists `text`, got ['one'] in row 0 (id 'a')"),
    "number": ({"answers": {"text": [7], "answer_start": [0]}}, "`answers` must be text, got 7 in row 0"),
    "start": (
        {"answers": {"text": ["one"], "answer_start": ["0"]}},
        "`answer_start` must be whole numbers, got '0' in row 0 (id 'a')",
    ),
    "type": ({"context": 3}, "`context` must be text, got 3 in row 0 (id 'a')"),
    "empty": ({"context": " \n"}, "`context` must not be empty, got ' \\n' in row 0 (id 'a')"),
    "question": ({"question": None}, "`question` must be text, got None in row 0 (id 'a')"),
    "long": (
        {"question": COUNT},
        "`max_seq_length` must hold the question and a part of the context, got 12: the question of row 0 (id 'a') "
        "has 8 tokens and leaves 2 to the context, of which windows share `doc_stride` = 2",
    ),
}


@pytest.mark.parametrize("error", ERRORS)
def test_wrong_rows_are_named(error):
    change, message = ERRORS[error]
    batch = {name: [value] for name, value in (row(COUNT, "one") | change).items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        span_preprocessor(WORDS, 12, 2)(batch, [0])


def test_question_that_leaves_no_room_in_generative_mode():
    batch = {name: [value] for name, value in row(COUNT, "one", question=COUNT).items()}
    message = r"`max_source_length` must hold the question .* got 10: .* has 8 tokens and leaves 0 to the context$"
    with pytest.raises(ValueError, match=message):
        answer_preprocessor(WORDS, 10)(batch)


def test_columns_and_ids():
    split = Dataset.from_list([row(COUNT, "one"), row(COUNT, "two", row_id="b")])
    check_ids(split, "test")
    check_ids(split.remove_columns("answers"), "test")
    with pytest.raises(
        ValueError, match="`test` must have the columns `context`, got only `id`, `question`, `answers`"
    ):
        check_ids(split.remove_columns("context"), "test")
    with pytest.raises(ValueError, match="must have the columns `context`; it has only `id`, `question`, `answers`"):
        span_preprocessor(WORDS)(split.remove_columns("context")[:])
    with pytest.raises(ValueError, match="`id` must be unique in `test`, got 'a' in rows 0 and 2"):
        check_ids(split.select([0, 1, 0]), "test")


def test_slow_tokenizer():
    with pytest.raises(ValueError, match=r"`tokenizer` must be a fast one .* got PythonBackend"):
        span_preprocessor(PreTrainedTokenizer.__new__(PreTrainedTokenizer))


def test_limits_of_spans():
    windows = {"row": [0], "char_starts": [[0]], "char_ends": [[1]]}
    with pytest.raises(ValueError, match="`max_answer_length` must be at least 1, got 0"):
        best_spans(np.zeros((1, 1)), np.zeros((1, 1)), windows, ["a"], max_answer_length=0)
    with pytest.raises(ValueError, match=r"`end_logits` must cover 1 windows of up to 1 tokens, got shape \(0, 1\)"):
        best_spans(np.zeros((1, 1)), np.zeros((0, 1)), windows, ["a"])
