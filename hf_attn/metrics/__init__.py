# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Metrics as pure functions on strings, the same as `evaluate` metrics without the network, and their certainty."""

from .classification import classification, classification_rows
from .evaluate_metrics import Chrf, Rouge, SacreBleu, Squad, SquadV2, Ter
from .formality import address_form, formality_share
from .question_answering import normalize_answer, squad, squad_rows, squad_v2, squad_v2_rows
from .significance import (
    ConfidenceInterval,
    PairedBootstrap,
    RowStatistics,
    approximate_randomization,
    confidence_interval,
    mean_statistics,
    paired_bootstrap,
)
from .summarization import rouge, rouge_rows
from .translation import (
    LengthBleu,
    bleu,
    bleu_by_length,
    bleu_statistics,
    chrf,
    chrf_statistics,
    ter,
    ter_statistics,
)


__all__ = [
    "Chrf",
    "ConfidenceInterval",
    "LengthBleu",
    "PairedBootstrap",
    "Rouge",
    "RowStatistics",
    "SacreBleu",
    "Squad",
    "SquadV2",
    "Ter",
    "address_form",
    "approximate_randomization",
    "bleu",
    "bleu_by_length",
    "bleu_statistics",
    "chrf",
    "chrf_statistics",
    "classification",
    "classification_rows",
    "confidence_interval",
    "formality_share",
    "mean_statistics",
    "normalize_answer",
    "paired_bootstrap",
    "rouge",
    "rouge_rows",
    "squad",
    "squad_rows",
    "squad_v2",
    "squad_v2_rows",
    "ter",
    "ter_statistics",
]
