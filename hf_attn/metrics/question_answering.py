# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Exact match and F1 of answers by the rules of the official SQuAD 1.1 and 2.0 scripts, as pure functions on strings.

Answers are compared in lower case, without ASCII punctuation, without the articles *a*, *an* and *the*, white space
made single. F1 counts the words that prediction and answer share. Each of a row's scores is the best over its answers;
a corpus has the mean of its rows.

Two rules differ between the scripts (Rajpurkar et al. 2016; Rajpurkar, Jia and Liang 2018), as they do here. Where
nothing is left of an answer, as of "The", F1 is 0 in version 1.1; in version 2.0 it is 100 if nothing is left of the
prediction either. And version 2.0 takes answers of which nothing is left out of those compared.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .rows import check_same_number, check_sentences, reference_rows


_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)

Answers = Sequence[str] | Sequence[Sequence[str]] | Sequence[Mapping[str, Any]]


def normalize_answer(text: str) -> str:
    """An answer in the form that is compared: lower case, no ASCII punctuation or English articles, single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _exact_match(prediction: str, answer: str) -> float:
    return 100.0 * (normalize_answer(prediction) == normalize_answer(answer))


def _word_f1(prediction: str, answer: str) -> float:
    prediction_words, answer_words = normalize_answer(prediction).split(), normalize_answer(answer).split()
    shared = (Counter(prediction_words) & Counter(answer_words)).total()
    return 200.0 * shared / (len(prediction_words) + len(answer_words)) if shared else 0.0


def _word_f1_or_both_empty(prediction: str, answer: str) -> float:
    if normalize_answer(prediction) and normalize_answer(answer):
        return _word_f1(prediction, answer)
    return _exact_match(prediction, answer)


def _checked(predictions: Sequence[str], answers: Answers) -> tuple[list[str], list[list[str]]]:
    """Predictions, and the texts of the answers of each row."""
    check_sentences("predictions", predictions)
    if not isinstance(answers, str):
        answers = [answer_texts(row, index) for index, row in enumerate(answers)]
    rows = reference_rows("answers", answers, may_be_empty=True)
    check_same_number("predictions", predictions, "answers", rows)
    return list(predictions), rows


def answer_texts(row: Any, index: int) -> Any:
    """
    The texts in the answers of a row, which may be an object, as in SQuAD's rows.

    Raises:
        ValueError: It is one without `text`.
    """
    if not isinstance(row, Mapping):
        return row
    if "text" not in row:
        raise ValueError(f"`answers` that are objects must have `text`, row {index} has only {sorted(row)}")
    return row["text"]


def _best_rows(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], f1: Callable[[str, str], float]
) -> dict[str, list[float]]:
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "exact_match": [max(_exact_match(prediction, answer) for answer in row) for prediction, row in pairs],
        "f1": [max(f1(prediction, answer) for answer in row) for prediction, row in pairs],
    }


def squad_rows(predictions: Sequence[str], answers: Answers) -> dict[str, list[float]]:
    """
    Exact match and F1 of each row by the rules of SQuAD 1.1.

    Args:
        predictions: One answer a row.
        answers: One string a row, or a list of strings, or `{"text": [...]}` as in SQuAD's rows; at least one answer
            each.

    Returns:
        `exact_match` and `f1`: one number from 0 to 100 a row.

    Raises:
        TypeError: A row is not of strings; its index is given.
        ValueError: No rows, unequal numbers of rows, or a row without an answer.
    """
    prediction_rows, answer_rows = _checked(predictions, answers)
    for index, row in enumerate(answer_rows):
        if not row:
            raise ValueError(
                f"`answers` must hold at least one answer in each row, row {index} has none: rows without an answer "
                "are scored by `squad_v2`"
            )
    return _best_rows(prediction_rows, answer_rows, _word_f1)


def squad(predictions: Sequence[str], answers: Answers) -> dict[str, float]:
    """
    Exact match and F1 by the rules of SQuAD 1.1: means of `squad_rows`, whose arguments and errors are the same.

    Returns:
        `exact_match` and `f1`, 0 to 100.
    """
    return {name: sum(scores) / len(scores) for name, scores in squad_rows(predictions, answers).items()}


def squad_v2_rows(
    predictions: Sequence[str],
    answers: Answers,
    no_answer_probabilities: Sequence[float] | None = None,
    *,
    no_answer_threshold: float = 1.0,
) -> dict[str, list[float]]:
    """
    Exact match and F1 of each row by the rules of SQuAD 2.0.

    Args:
        predictions: One answer a row; the empty string says that there is none.
        answers: As for `squad_rows`, but a row may have none.
        no_answer_probabilities: The probability of "no answer" in each row by the system; any scale will do.
        no_answer_threshold: A row with a larger probability counts as predicted to have no answer.

    Returns:
        `exact_match` and `f1`: one number from 0 to 100 a row.

    Raises:
        TypeError: A row is not of strings, or not a number; its index is given.
        ValueError: No rows, or unequal numbers of rows, or a probability or the threshold is NaN.
    """
    prediction_rows, answer_rows = _checked(predictions, answers)
    compared = [[answer for answer in row if normalize_answer(answer)] or [""] for row in answer_rows]
    rows = _best_rows(prediction_rows, compared, _word_f1_or_both_empty)
    if no_answer_probabilities is None:
        return rows
    check_same_number("predictions", prediction_rows, "no_answer_probabilities", no_answer_probabilities)
    check_probabilities("no_answer_probabilities", no_answer_probabilities)
    if math.isnan(no_answer_threshold):
        raise ValueError("`no_answer_threshold` must be a number to compare probabilities with, got nan")
    return {
        name: [
            (0.0 if row else 100.0) if probability > no_answer_threshold else score
            for score, row, probability in zip(scores, answer_rows, no_answer_probabilities, strict=True)
        ]
        for name, scores in rows.items()
    }


def squad_v2(
    predictions: Sequence[str],
    answers: Answers,
    no_answer_probabilities: Sequence[float] | None = None,
    *,
    no_answer_threshold: float = 1.0,
) -> dict[str, float | int]:
    """
    Exact match and F1 by the rules of SQuAD 2.0; arguments and errors as for `squad_v2_rows`.

    Returns:
        `exact_match` (the script's `exact`) and `f1`, 0 to 100, and `total`, the number of rows; the same of the rows
        with an answer, `HasAns_exact`, `HasAns_f1` and `HasAns_total`, and without, `NoAns_...`, where there are such
        rows. With `no_answer_probabilities` also the scores at the best threshold and that threshold: `best_exact`,
        `best_exact_thresh`, `best_f1` and `best_f1_thresh`, found by the script's walk over the rows in the order of
        their probability. It counts rows of equal probability one at a time, in the order given.
    """
    prediction_rows, answer_rows = _checked(predictions, answers)
    rows = squad_v2_rows(
        prediction_rows, answer_rows, no_answer_probabilities, no_answer_threshold=no_answer_threshold
    )
    total = len(prediction_rows)
    scores: dict[str, float | int] = {name: sum(values) / total for name, values in rows.items()} | {"total": total}
    for group, has_answer in (("HasAns", True), ("NoAns", False)):
        chosen = [index for index, row in enumerate(answer_rows) if bool(row) == has_answer]
        if chosen:
            scores[f"{group}_exact"] = sum(rows["exact_match"][index] for index in chosen) / len(chosen)
            scores[f"{group}_f1"] = sum(rows["f1"][index] for index in chosen) / len(chosen)
            scores[f"{group}_total"] = len(chosen)
    if no_answer_probabilities is not None:
        raw = squad_v2_rows(prediction_rows, answer_rows)
        for name, column in (("exact", "exact_match"), ("f1", "f1")):
            best, threshold = _best_threshold(prediction_rows, answer_rows, raw[column], no_answer_probabilities)
            scores |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return scores


def _best_threshold(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    scores: Sequence[float],
    probabilities: Sequence[float],
) -> tuple[float, float]:
    """The best mean score over all thresholds, and the threshold: at first every row counts as without an answer."""
    current = best = 100.0 * sum(not row for row in answers)
    threshold = 0.0
    for index in sorted(range(len(scores)), key=lambda row: probabilities[row]):
        if answers[index]:
            current += scores[index]
        elif predictions[index]:
            current -= 100.0
        if current > best:
            best, threshold = current, float(probabilities[index])
    return best / len(scores), threshold


def check_probabilities(name: str, probabilities: Sequence[float]) -> None:
    """
    Refuses rows that cannot be compared with a threshold.

    Args:
        name: The argument's name, for the message.
        probabilities: One number a row.

    Raises:
        TypeError: A row is not a number; its index is given.
        ValueError: A row is NaN.
    """
    for index, probability in enumerate(probabilities):
        if isinstance(probability, (str, bool)) or not hasattr(probability, "__float__"):
            raise TypeError(f"`{name}` must hold numbers, row {index} is {probability!r}")
        if math.isnan(probability):
            raise ValueError(f"`{name}` must hold numbers that can be compared, row {index} is nan")
