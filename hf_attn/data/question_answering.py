# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Questions on contexts: tokenized as windows for a span head or as pairs for generation, and spans from logits.

Rows are SQuAD's (Rajpurkar et al. 2016, 2018): `id`, `context`, `question` and `answers`, an object of the lists
`text` and `answer_start`, which counts characters. Empty lists say that the context holds no answer. Arguments have
the names of the flags of transformers' `run_qa.py`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..text.sentences import split_sentences
from .readers import require_columns
from .texts import check_texts, in_all_or_none, quoted


QUESTION_COLUMNS = ("id", "context", "question")
"""Columns that every row has; `answers` may be missing where nothing is trained or scored."""

# Scores of spans that are held at a time.
_NUMBERS_AT_A_TIME = 10_000_000


class Span(NamedTuple):
    """A candidate for the answer to one question.

    Attributes:
        text: The text of the context there, without white space around it; "" where the context holds no answer.
        start, end: Characters of the context, the end not included; both 0 for no answer.
        score: Sum of the logits of the first and the last token.
        probability: Softmax of the scores over the candidates of the question.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float


def check_ids(split: Dataset, name: str) -> None:
    """Checks that each row has an `id` of its own, by which its answer is saved.

    Args:
        split: Rows before tokenization.
        name: Name of the split, for messages, such as `validation`.

    Raises:
        ValueError: A column of `QUESTION_COLUMNS` is missing (those there are get listed), or two rows share an `id`.
    """
    require_columns(split, name, QUESTION_COLUMNS)
    seen: dict[Any, int] = {}
    for row, row_id in enumerate(split["id"]):
        first = seen.setdefault(row_id, row)
        if first != row:
            raise ValueError(f"`id` must be unique in `{name}`, got {row_id!r} in rows {first} and {row}")


def has_answers(split: Dataset, name: str) -> bool:
    """Whether the rows of a split have answers: all of them, or none, as the log then says.

    Args:
        split: Rows before tokenization.
        name: Name of the split, for messages, such as `test`.

    Raises:
        ValueError: Only some rows have them; the message has the number of the first without, from 0. A question
            without an answer has empty lists.
    """
    return in_all_or_none("answers", list(split["answers"]) if "answers" in split.column_names else [], name)


def question_texts(split: Dataset | IterableDataset, with_answers: bool) -> Iterator[str]:
    """Every question, context and, if wanted, answer of a training split, a context once, for a tokenizer.

    Raises:
        ValueError: As the preprocessors do.
    """
    seen: set[str] = set()
    first = 0
    for batch in split.iter(batch_size=1000):
        num_rows = len(next(iter(batch.values())))
        rows = _Rows(batch, range(first, first + num_rows))
        first += num_rows
        yield from rows.questions
        for context in rows.contexts:
            if context not in seen:
                seen.add(context)
                yield context
        if with_answers:
            yield from chain.from_iterable(map(rows.answer_texts, range(num_rows)))


def span_preprocessor(
    tokenizer: PreTrainedTokenizerBase, max_seq_length: int = 384, doc_stride: int = 128
) -> Callable[..., dict[str, list]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to cut rows into windows.

    A window is the whole question and as much of the context as fits; a long context becomes several windows, which
    overlap. The columns it makes, a list of int each but for `row`:

    - what the model reads: `input_ids`, `attention_mask` and others of the tokenizer, not padded;
    - `labels`, where there is a column `answers`: first and last token of the first answer; both 0, the first token,
      where the window does not hold all of it. Answers in the other columns of a row are for scoring;
    - `row`: number of the row that the window is cut from;
    - `char_starts`, `char_ends`: characters of the context that each token stands for; -1 outside the context.

    Args:
        tokenizer: A fast one, since only these know which characters a token stands for.
        max_seq_length: Longest window, in tokens, special tokens included.
        doc_stride: Tokens of the context that neighbouring windows share.

    Raises:
        ValueError: The tokenizer is not a fast one; or (by the function) an id, question or context is missing, empty
            or no text, `answers` has another form, an answer does not stand at its offset, or a question leaves no
            room for the context.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"`tokenizer` must be a fast one to tell where its tokens stand, got {type(tokenizer).__name__}"
        )

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, list]:
        rows = _Rows(batch, indices)
        answers = [_first_span(rows, position) for position in range(len(rows.contexts))] if rows.have_answers else []
        _check_room(tokenizer, rows, "max_seq_length", max_seq_length, doc_stride)
        encoded = tokenizer(
            rows.questions,
            rows.contexts,
            truncation="only_second",
            max_length=max_seq_length,
            stride=doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        source_rows = np.array(encoded["overflow_to_sample_mapping"])
        lengths = np.array([len(token_ids) for token_ids in encoded["input_ids"]])
        sequence_ids = chain.from_iterable(encoded.sequence_ids(window) for window in range(len(lengths)))
        is_context = np.array([sequence_id == 1 for sequence_id in sequence_ids])
        offsets = np.array(list(chain.from_iterable(encoded["offset_mapping"])))
        offsets = np.where(is_context[:, None], offsets, -1)
        labels = _answer_tokens(offsets, lengths, np.array(answers)[source_rows]).tolist() if answers else None
        bounds = np.cumsum(lengths)[:-1]
        return {
            **{name: encoded[name] for name in tokenizer.model_input_names if name in encoded},
            **({} if labels is None else {"labels": labels}),
            "row": [rows.number(position) for position in source_rows],
            "char_starts": [starts.tolist() for starts in np.split(offsets[:, 0], bounds)],
            "char_ends": [ends.tolist() for ends in np.split(offsets[:, 1], bounds)],
        }

    return preprocess


def answer_preprocessor(
    tokenizer: PreTrainedTokenizerBase,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    source_prefix: str = "",
) -> Callable[..., dict[str, list]]:
    """Returns the function that `Dataset.map(..., batched=True, with_indices=True)` takes to tokenize question and
    context as the source and the first answer as the target.

    The source is the pair of question and context as the tokenizer makes one; of a source that is too long the
    context is cut. The function returns `input_ids`, `attention_mask` and, where there is a column `answers`,
    `labels`, lists of int a row, neither padded nor shifted, and `source_length`, the tokens of the source before it
    was cut. Where a row has no answer the target is empty.

    Args:
        tokenizer: Encodes pairs, and answers by `text_target=`.
        max_source_length, max_target_length: Cut to so many tokens, special tokens included. None: not cut.
        source_prefix: Put before each question, as T5 wants.

    Raises:
        ValueError: (by the function) an id, question or context is missing, empty or no text, `answers` has another
            form, or a question leaves no room for the context.
    """

    def preprocess(batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None = None) -> dict[str, list]:
        rows = _Rows(batch, indices, source_prefix)
        whole = tokenizer(rows.questions, rows.contexts, verbose=False)
        encoded = whole
        source_lengths = [len(token_ids) for token_ids in whole["input_ids"]]
        if max_source_length is not None and max(source_lengths) > max_source_length:
            _check_room(tokenizer, rows, "max_source_length", max_source_length)
            encoded = tokenizer(rows.questions, rows.contexts, truncation="only_second", max_length=max_source_length)
        columns = {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "source_length": source_lengths,
        }
        if rows.have_answers:
            targets = [texts[0] if texts else "" for texts in map(rows.answer_texts, range(len(rows.contexts)))]
            is_cut = max_target_length is not None
            columns["labels"] = tokenizer(text_target=targets, truncation=is_cut, max_length=max_target_length)[
                "input_ids"
            ]
        return columns

    return preprocess


def best_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    windows: Mapping[str, Iterable[Any]] | Dataset,
    contexts: Sequence[str],
    *,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    with_null: bool = False,
) -> list[list[Span]]:
    """The spans with the highest sums of start and end logit, over all windows of each context.

    Exact, where `run_qa.py` pairs the `n_best_size` best starts with the `n_best_size` best ends; a span that stands
    in several windows counts once, with its highest score.

    Args:
        start_logits, end_logits: Float of shape `(num_windows or more, length or more)`, padded on the right with
            anything. Rows beyond the windows are ignored.
        windows: The columns `row`, `char_starts` and `char_ends` that `span_preprocessor` makes; `row` counts in
            `contexts`.
        contexts: Text of each row.
        n_best_size: Spans a context at most.
        max_answer_length: Tokens of a span at most.
        with_null: Also the score of no answer, which is that of the first token in the window where it is lowest
            (Devlin et al. 2019, section 4.3, and `run_qa.py`); it is kept beyond the `n_best_size` best.

    Returns:
        For each context its spans, the best first; with `with_null` one of them, with the text "", stands for no
        answer. An empty list where no token of the context was read.

    Raises:
        ValueError: `n_best_size` or `max_answer_length` is below 1, or the logits have fewer rows or columns than the
            windows.
    """
    for name, value in (("n_best_size", n_best_size), ("max_answer_length", max_answer_length)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    char_starts, char_ends = _padded(windows["char_starts"]), _padded(windows["char_ends"])
    rows = np.array(windows["row"], dtype=np.int64)
    num_windows, length = char_starts.shape
    for name, logits in (("start_logits", start_logits), ("end_logits", end_logits)):
        if len(logits) < num_windows or logits.shape[1] < length:
            raise ValueError(
                f"`{name}` must cover {num_windows} windows of up to {length} tokens, got shape {logits.shape}"
            )
    starts, ends = (
        logits[:num_windows, :length].astype(np.float64, copy=False) for logits in (start_logits, end_logits)
    )
    at_a_time = max(1, _NUMBERS_AT_A_TIME // (length * max_answer_length))
    parts = []
    for begin in range(0, num_windows, at_a_time):
        part = slice(begin, begin + at_a_time)
        parts.append(_best_of_windows(starts[part], ends[part], char_starts[part], n_best_size, max_answer_length))
    scores, firsts, lasts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    window = np.arange(num_windows)[:, None]
    columns = np.broadcast_arrays(rows[:, None], char_starts[window, firsts], char_ends[window, lasts])
    candidates = np.stack(columns, axis=-1)
    is_span = np.isfinite(scores)
    scores, candidates = _without_repetitions(scores[is_span], candidates[is_span])
    null_scores = _lowest_by_row(starts[:, 0] + ends[:, 0], rows, len(contexts)) if with_null else None
    bounds = np.searchsorted(candidates[:, 0], np.arange(len(contexts) + 1))
    return [
        _spans_of_row(
            context,
            scores[first : min(last, first + n_best_size)],
            candidates[first : min(last, first + n_best_size), 1:],
            None if null_scores is None else null_scores[row],
        )
        for row, (context, first, last) in enumerate(zip(contexts, bounds[:-1], bounds[1:], strict=True))
    ]


def choose_answers(spans: Sequence[Sequence[Span]], null_score_diff_threshold: float = 0.0) -> list[str]:
    """The text of the best span of each row; "" where no answer scores higher by more than the threshold.

    Args:
        spans: The spans that `best_spans` returns; without its `with_null` every row is answered.
        null_score_diff_threshold: The least lead of no answer over the best span, in logits.
    """
    answers = []
    for row in spans:
        null_score = next((span.score for span in row if not span.text), -np.inf)
        best = next((span for span in row if span.text), None)
        is_answered = best is not None and null_score - best.score <= null_score_diff_threshold
        answers.append(best.text if best is not None and is_answered else "")
    return answers


def overlap_sentence(question: str, context: str) -> str:
    """The sentence of a context that shares the most words with the question, the first of several; case ignored."""
    wanted = set(_words(question))
    return max(split_sentences(context), key=lambda sentence: len(wanted.intersection(_words(sentence))), default="")


_WORD = re.compile(r"\w+")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class _Rows:
    """The checked texts of a batch of rows, and the names of rows for messages."""

    def __init__(self, batch: Mapping[str, Sequence[Any]], indices: Sequence[int] | None, source_prefix: str = ""):
        missing = [name for name in QUESTION_COLUMNS if name not in batch]
        if missing:
            raise ValueError(f"the data must have the columns {quoted(missing)}; it has only {quoted(batch)}")
        self._indices = indices
        self._ids = batch["id"]
        self._answers = batch.get("answers")
        self.have_answers = self._answers is not None
        for column in ("context", "question"):
            check_texts(column, batch[column], self.row_name)
        self.contexts = list(batch["context"])
        self.questions = [source_prefix + question.strip() for question in batch["question"]]

    def number(self, position: int) -> int:
        """Number of a row in its split, or in the batch where the split is not known."""
        return int(position) if self._indices is None else self._indices[position]

    def row_name(self, position: int) -> str:
        """The name of a row for messages."""
        return f"row {self.number(position)} (id {self._ids[position]!r})"

    def _answer_lists(self, position: int, *names: str) -> list[Any]:
        answers = {"text": [], "answer_start": []} if self._answers is None else self._answers[position]
        lists: list[Any] = [answers.get(name) for name in names] if isinstance(answers, Mapping) else [None]
        if any(not isinstance(values, list) for values in lists) or len({len(values) for values in lists}) > 1:
            raise ValueError(
                f"`answers` must hold the lists {quoted(names)}{' of one length' if len(names) > 1 else ''}, got "
                f"{answers!r} in {self.row_name(position)}"
            )
        return lists

    def answer_texts(self, position: int) -> list[str]:
        """The answers of a row; empty where there is none."""
        (texts,) = self._answer_lists(position, "text")
        check_texts("answers", texts, lambda _: self.row_name(position), may_be_empty=True)
        return texts

    def answer_starts(self, position: int) -> list[tuple[int, str]]:
        """The start of each answer of a row, in characters of the context, and its text, both checked."""
        context = self.contexts[position]
        texts = self.answer_texts(position)
        _, starts = self._answer_lists(position, "text", "answer_start")
        for start, text in zip(starts, texts, strict=True):
            if not isinstance(start, int):
                raise ValueError(f"`answer_start` must be whole numbers, got {start!r} in {self.row_name(position)}")
            if not text.strip():
                raise ValueError(
                    f"`answers` must not be empty, got {text!r} in {self.row_name(position)}; a question without an "
                    "answer has empty lists"
                )
            if start < 0 or context[start : start + len(text)] != text:
                found = f"{context[start : start + len(text)]!r} stands there" if start >= 0 else "no position"
                raise ValueError(
                    f"`answers` of {self.row_name(position)} must stand at their `answer_start`, got {text!r} at "
                    f"{start}: {found}. Mend the row, or train with `mode` generative, which reads no positions"
                )
        return list(zip(starts, texts, strict=True))


def _first_span(rows: _Rows, position: int) -> tuple[int, int]:
    """Characters of the first answer of a row without white space around it; (-1, -1) where there is none."""
    starts = rows.answer_starts(position)
    if not starts:
        return -1, -1
    start, text = starts[0]
    first = start + len(text) - len(text.lstrip())
    return first, first + len(text.strip())


def _check_room(
    tokenizer: PreTrainedTokenizerBase, rows: _Rows, argument: str, max_length: int, doc_stride: int = 0
) -> None:
    """Refuses a question that leaves no new token of the context to a window."""
    num_special = tokenizer.num_special_tokens_to_add(pair=True)
    questions = tokenizer(rows.questions, add_special_tokens=False, verbose=False)["input_ids"]
    for position, question in enumerate(questions):
        room = max_length - num_special - len(question)
        if room <= doc_stride:
            shared = f", of which windows share `doc_stride` = {doc_stride}" if doc_stride else ""
            raise ValueError(
                f"`{argument}` must hold the question and a part of the context, got {max_length}: the question of "
                f"{rows.row_name(position)} has {len(question)} tokens and leaves {max(room, 0)} to the "
                f"context{shared}"
            )


def _answer_tokens(offsets: np.ndarray, lengths: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """First and last token of each window's answer: int of shape (windows, 2), 0 where it is not all in the window.

    Args:
        offsets: Characters of every token of all windows in a row, (tokens, 2), -1 outside the context.
        lengths: Tokens of each window.
        answers: First character of each window's answer and the one after its last, (windows, 2), -1 for none.
    """
    first_tokens = np.cumsum(lengths) - lengths
    starts, ends = np.repeat(answers, lengths, axis=0).T
    is_context = offsets[:, 0] >= 0
    # A token may stand for a space before its word, and several may share the bytes of one character.
    covers = is_context & (offsets[:, 0] < ends) & (offsets[:, 1] > starts)
    positions = np.arange(len(offsets)) - np.repeat(first_tokens, lengths)
    far = len(offsets)
    first = np.minimum.reduceat(np.where(covers, positions, far), first_tokens)
    last = np.maximum.reduceat(np.where(covers, positions, -1), first_tokens)
    window_start = np.minimum.reduceat(np.where(is_context, offsets[:, 0], np.iinfo(np.int64).max), first_tokens)
    window_end = np.maximum.reduceat(offsets[:, 1], first_tokens)
    is_inside = (answers[:, 0] >= 0) & (window_start <= answers[:, 0]) & (window_end >= answers[:, 1]) & (last >= 0)
    return np.where(is_inside[:, None], np.stack([first, last], axis=1), 0)


def _padded(lists: Iterable[Sequence[int]]) -> np.ndarray:
    """Lists of unequal length as int64 of shape (lists, longest), filled with -1."""
    rows = list(lists)
    lengths = np.array([len(row) for row in rows])
    table = np.full((len(rows), lengths.max(initial=0)), -1, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
    return table


def _best_of_windows(
    start_logits: np.ndarray, end_logits: np.ndarray, char_starts: np.ndarray, count: int, max_answer_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, first and last tokens of the best spans of each window, (windows, count or less); -inf is no span."""
    starts, ends = (np.where(char_starts >= 0, logits, -np.inf) for logits in (start_logits, end_logits))
    ends = np.pad(ends, ((0, 0), (0, max_answer_length - 1)), constant_values=-np.inf)
    # At [window, first, more]: the span from `first` to `first + more`.
    scores = starts[:, :, None] + np.lib.stride_tricks.sliding_window_view(ends, max_answer_length, axis=1)
    scores = scores.reshape(len(scores), -1)
    count = min(count, scores.shape[1])
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    firsts = best // max_answer_length
    lasts = np.minimum(firsts + best % max_answer_length, char_starts.shape[1] - 1)
    return np.take_along_axis(scores, best, axis=1), firsts, lasts


def _without_repetitions(scores: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each (row, start, end) once with its highest score, ordered by row and then from the highest score down."""
    by_score = np.lexsort((candidates[:, 2], candidates[:, 1], -scores, candidates[:, 0]))
    scores, candidates = scores[by_score], candidates[by_score]
    _, first_indices = np.unique(candidates, axis=0, return_index=True)
    kept = np.sort(first_indices)
    return scores[kept], candidates[kept]


def _lowest_by_row(values: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
    lowest = np.full(num_rows, np.inf)
    np.minimum.at(lowest, rows, values)
    return lowest


def _spans_of_row(context: str, scores: np.ndarray, characters: np.ndarray, null_score: float | None) -> list[Span]:
    """The spans of one row with text and probability, best first, and no answer among them where it is scored."""
    found = [
        (*_stripped(context, start, end), float(score)) for (start, end), score in zip(characters, scores, strict=True)
    ]
    found = [entry for entry in found if entry[0]]
    if null_score is not None:
        found = sorted([*found, ("", 0, 0, float(null_score))], key=lambda entry: -entry[-1])
    if not found:
        return []
    weights = np.exp(np.array([entry[-1] for entry in found]) - found[0][-1])
    return [Span(*entry, float(weight)) for entry, weight in zip(found, weights / weights.sum(), strict=True)]


def _stripped(context: str, start: int, end: int) -> tuple[str, int, int]:
    text = context[start:end]
    first = int(start) + len(text) - len(text.lstrip())
    return text.strip(), first, first + len(text.strip())
