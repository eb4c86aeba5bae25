# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The metrics as `evaluate.Metric`s: made directly, without `evaluate.load` and so without the network.

They collect batches (`add_batch`), work over several processes (`num_process`, `process_id`, `experiment_id`; process
0 gets the result, the others `None`; a process may have no rows) and go into `evaluate.combine`. Keyword arguments of
`compute` are those of the functions they call.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import evaluate
from datasets import Features, Value
from datasets import Sequence as ListOf
from typing_extensions import override

from .question_answering import answer_texts, check_probabilities, squad, squad_v2
from .rows import check_same_number, check_sentences, reference_rows
from .summarization import rouge
from .translation import bleu, chrf, ter


_TEXT_INPUTS = """
Args:
    predictions: one detokenised string a row.
    references: one string a row, or one list of strings a row.
"""
_SQUAD_INPUTS = """
Args:
    predictions: `{"id": ..., "prediction_text": ...}` a row.
    references: `{"id": ..., "answers": {"text": [...]}}` a row; they are matched with the predictions by id.
"""
_SQUAD_V2_INPUTS = """
Args:
    predictions: `{"id": ..., "prediction_text": ..., "no_answer_probability": ...}` a row; the last may be left out
        of all rows.
    references: `{"id": ..., "answers": {"text": [...]}}` a row; they are matched with the predictions by id.
"""


class _RowMetric(evaluate.Metric):
    """
    The base of all: rows are checked when they come, and nothing is left on disk when scoring fails.

    Attributes:
        score: The function that scores strings; its keywords are the options of `compute`.
    """

    score: Callable[..., dict]
    filelocks: list[Any] | None
    file_paths: list[str] | None

    def _rows(self, predictions: Any, references: Any) -> tuple[list, list]:
        """The rows in the form of the metric's features, checked."""
        raise NotImplementedError

    @override
    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """`evaluate.Metric.add_batch`, with an error that names the wrong row."""
        has_rows = predictions is not None and len(predictions) > 0
        if not has_rows and self.num_process == 1:
            raise ValueError("`predictions` must hold at least one row, got 0: there is nothing to score")
        if has_rows:
            check_same_number("predictions", predictions, "references", references if references is not None else ())
            predictions, references = self._rows(predictions, references)
        super().add_batch(predictions=predictions or [], references=references or [], **kwargs)

    @override
    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """`evaluate.Metric.add`, by `add_batch`; like that it also takes the names of the columns."""
        prediction, reference = kwargs.pop("predictions", prediction), kwargs.pop("references", reference)
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    @override
    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict | None:
        """
        `evaluate.Metric.compute`: the metric of the rows given here or before; `None` in other processes than 0.

        Rows and options that are refused leave those that were added before as they are.
        """
        parameters = inspect.signature(self.score).parameters.values()
        options = [option.name for option in parameters if option.kind is option.KEYWORD_ONLY]
        unknown = [name for name in kwargs if name not in options]
        if unknown:
            quoted, allowed = (", ".join(f"`{name}`" for name in names) or "none" for names in (unknown, options))
            raise TypeError(f"`compute` of {type(self).__name__} has the options {allowed}, got {quoted}")
        if predictions is not None or references is not None or self.writer is None:
            self.add_batch(predictions=predictions, references=references)
        try:
            return super().compute(**kwargs)
        except Exception:
            self._drop_rows()
            raise

    def _drop_rows(self) -> None:
        """Removes the collected rows and gives their locks back."""
        self.writer = self.data = None
        for lock, path in reversed(list(zip(self.filelocks or [], self.file_paths or [], strict=True))):
            if os.path.exists(path):
                os.remove(path)
            lock.release()
        self.filelocks = self.file_paths = None


class _TextMetric(_RowMetric):
    """Predictions and references as text, one or several references a row."""

    _features = Features({"predictions": Value("string"), "references": ListOf(Value("string"))})

    @override
    def _rows(self, predictions: Any, references: Any) -> tuple[list, list]:
        check_sentences("predictions", predictions)
        return list(predictions), reference_rows("references", references)

    @override
    def _compute(self, predictions: list[str], references: list[list[str]], **options: Any) -> dict:
        return self.score(predictions, references, **options)


class SacreBleu(_TextMetric):
    """`hf_attn.metrics.bleu` as a metric; `compute` takes its `tokenize` and `lowercase`."""

    score = staticmethod(bleu)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Corpus BLEU by sacreBLEU (Post 2018), with its signature.",
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores, https://aclanthology.org/W18-6319",
            inputs_description=_TEXT_INPUTS,
            features=self._features,
        )


class Chrf(_TextMetric):
    """`hf_attn.metrics.chrf` as a metric; `compute` takes its `word_order`."""

    score = staticmethod(chrf)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Corpus chrF by sacreBLEU (Popović 2015), with its signature.",
            citation="Popović 2015, chrF: character n-gram F-score, https://aclanthology.org/W15-3049",
            inputs_description=_TEXT_INPUTS,
            features=self._features,
        )


class Ter(_TextMetric):
    """`hf_attn.metrics.ter` as a metric; `compute` takes its `normalized`, `no_punct` and `case_sensitive`."""

    score = staticmethod(ter)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Translation edit rate by sacreBLEU (Snover et al. 2006), with its signature.",
            citation="Snover et al. 2006, A Study of Translation Edit Rate, https://aclanthology.org/2006.amta-papers.25",
            inputs_description=_TEXT_INPUTS,
            features=self._features,
        )


class Rouge(_TextMetric):
    """`hf_attn.metrics.rouge` as a metric; `compute` takes its `use_stemmer`."""

    score = staticmethod(rouge)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean F-scores of ROUGE-1, -2, -L and -Lsum by rouge-score; the best reference of each row.",
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation, https://aclanthology.org/W04-1013",
            inputs_description=_TEXT_INPUTS,
            features=self._features,
        )


class _AnswerMetric(_RowMetric):
    """Predictions and references as objects with an id."""

    _features = Features(
        {
            "predictions": {
                "id": Value("string"),
                "prediction_text": Value("string"),
                "no_answer_probability": Value("float64"),
            },
            "references": {"id": Value("string"), "answers": ListOf(Value("string"))},
        }
    )

    @override
    def _rows(self, predictions: Any, references: Any) -> tuple[list, list]:
        _check_objects("predictions", predictions, ("id", "prediction_text"))
        _check_objects("references", references, ("id", "answers"))
        check_sentences("predictions", [row["prediction_text"] for row in predictions])
        probabilities = [row.get("no_answer_probability") for row in predictions]
        check_probabilities("no_answer_probability", [0.0 if value is None else value for value in probabilities])
        answers = [answer_texts(row["answers"], index) for index, row in enumerate(references)]
        texts = reference_rows("references", answers, may_be_empty=True)
        return (
            [
                {"id": str(row["id"]), "prediction_text": row["prediction_text"], "no_answer_probability": probability}
                for row, probability in zip(predictions, probabilities, strict=True)
            ],
            [{"id": str(row["id"]), "answers": row_texts} for row, row_texts in zip(references, texts, strict=True)],
        )


class Squad(_AnswerMetric):
    """`hf_attn.metrics.squad` as a metric, over rows with an id."""

    score = staticmethod(squad)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Exact match and F1 by the rules of SQuAD 1.1.",
            citation="Rajpurkar et al. 2016, SQuAD: 100,000+ Questions, https://aclanthology.org/D16-1264",
            inputs_description=_SQUAD_INPUTS,
            features=self._features,
        )

    @override
    def _compute(self, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict:
        matched, answers = _matched_by_id(predictions, references)
        return self.score([row["prediction_text"] for row in matched], answers)


class SquadV2(_AnswerMetric):
    """`hf_attn.metrics.squad_v2` as a metric, over rows with an id; `compute` takes its `no_answer_threshold`."""

    score = staticmethod(squad_v2)

    @override
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Exact match and F1 by the rules of SQuAD 2.0, also of rows with and without an answer.",
            citation="Rajpurkar, Jia and Liang 2018, Know What You Don't Know, https://aclanthology.org/P18-2124",
            inputs_description=_SQUAD_V2_INPUTS,
            features=self._features,
        )

    @override
    def _compute(self, predictions: list[dict[str, Any]], references: list[dict[str, Any]], **options: Any) -> dict:
        matched, answers = _matched_by_id(predictions, references)
        probabilities = [row["no_answer_probability"] for row in matched]
        is_given = any(probability is not None for probability in probabilities)
        texts = [row["prediction_text"] for row in matched]
        return self.score(texts, answers, probabilities if is_given else None, **options)


def _check_objects(name: str, rows: Sequence[Any], fields: Sequence[str]) -> None:
    quoted = " and ".join(f"`{field}`" for field in fields)
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"`{name}` must hold objects with {quoted}, row {index} is {row!r}")
        if any(field not in row for field in fields):
            raise ValueError(f"`{name}` must hold objects with {quoted}, row {index} has {sorted(row)}")


def _matched_by_id(
    predictions: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Predictions in the order of the references, and the answers of these."""
    by_id = {row["id"]: row for row in predictions}
    ids = [row["id"] for row in references]
    for name, row_ids in (("predictions", [row["id"] for row in predictions]), ("references", ids)):
        if len(set(row_ids)) < len(row_ids):
            twice = next(row_id for row_id in row_ids if row_ids.count(row_id) > 1)
            raise ValueError(f"`{name}` must hold each id once, {twice!r} occurs more than once")
    missing = [row_id for row_id in ids if row_id not in by_id]
    if missing:
        raise ValueError(
            f"`predictions` must hold each id of `references`, {len(missing)} are missing, the first is {missing[0]!r}"
        )
    return [by_id[row_id] for row_id in ids], [row["answers"] for row in references]
