# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""BLEU and chrF as `evaluate.Metric`s: made directly, without `evaluate.load` and so without the network.

They collect batches (`add_batch`), work over several processes (`num_process`, `process_id`, `experiment_id`) and go
into `evaluate.combine`. Keyword arguments of `compute` are those of the functions they call.
"""

import evaluate
from datasets import Features, Sequence, Value

from .rows import check_sentences
from .translation import bleu, chrf


_INPUTS = """
Args:
    predictions: one detokenised string a row.
    references: one string a row, or one list of strings a row.
"""


class _TextMetric(evaluate.Metric):
    """Predictions and references as text, one or several references a row."""

    _features = (
        Features({"predictions": Value("string"), "references": Value("string")}),
        Features({"predictions": Value("string"), "references": Sequence(Value("string"))}),
    )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds rows; like `evaluate.Metric.add_batch`, but says so when there are none."""
        check_sentences("predictions", predictions)
        super().add_batch(predictions=predictions, references=references, **kwargs)


class SacreBleu(_TextMetric):
    """`hf_attn.metrics.bleu` as a metric; `compute` takes its `tokenize` and `lowercase`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Corpus BLEU by sacreBLEU (Post 2018), with its signature.",
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores, https://aclanthology.org/W18-6319",
            inputs_description=_INPUTS,
            features=list(self._features),
        )

    def _compute(self, predictions, references, tokenize: str = "13a", lowercase: bool = False) -> dict:
        return bleu(predictions, references, tokenize=tokenize, lowercase=lowercase)


class Chrf(_TextMetric):
    """`hf_attn.metrics.chrf` as a metric; `compute` takes its `word_order`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Corpus chrF by sacreBLEU (Popović 2015), with its signature.",
            citation="Popović 2015, chrF: character n-gram F-score, https://aclanthology.org/W15-3049",
            inputs_description=_INPUTS,
            features=list(self._features),
        )

    def _compute(self, predictions, references, word_order: int = 0) -> dict:
        return chrf(predictions, references, word_order=word_order)
