# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Scores over pure functions on strings, and the same as `evaluate` metrics that need no network."""

from .evaluate_metrics import Chrf, SacreBleu
from .formality import address_form, formality_share
from .translation import LengthBleu, bleu, bleu_by_length, chrf


__all__ = [
    "Chrf",
    "LengthBleu",
    "SacreBleu",
    "address_form",
    "bleu",
    "bleu_by_length",
    "chrf",
    "formality_share",
]
