# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts from texts: batches by length, n-best lists with scores, minimum Bayes risk, prefixes and glossaries."""

from ..loading.inference import load_for_inference
from .fast.fast_generate import fast_generate
from .fast.packed_linear import pack_linears
from .glossary import Glossary, GlossaryLogitsProcessor, TermTokens, has_term
from .minimum_bayes_risk import UTILITIES, expected_utilities, rank_by_utility
from .text_generator import Hypothesis, TextGenerator, length_limit


__all__ = [
    "UTILITIES",
    "Glossary",
    "GlossaryLogitsProcessor",
    "Hypothesis",
    "TermTokens",
    "TextGenerator",
    "expected_utilities",
    "fast_generate",
    "has_term",
    "length_limit",
    "load_for_inference",
    "pack_linears",
    "rank_by_utility",
]
