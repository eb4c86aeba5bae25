# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Readers of files and Hub data sets, tokenizer training, tokenized rows of each task and token-budget batches."""

from .batching import BatchEpochCallback, LengthBucketBatchSampler
from .readers import iterate_texts, load_splits, require_columns
from .summarization import LEAD_UNITS, check_documents, lead, references_of, summarization_preprocessor
from .texts import check_texts
from .tokenizer_training import SPECIAL_TOKENS, train_tokenizer
from .translation import source_target_lengths, translation_preprocessor


__all__ = [
    "LEAD_UNITS",
    "SPECIAL_TOKENS",
    "BatchEpochCallback",
    "LengthBucketBatchSampler",
    "check_documents",
    "check_texts",
    "iterate_texts",
    "lead",
    "load_splits",
    "references_of",
    "require_columns",
    "source_target_lengths",
    "summarization_preprocessor",
    "train_tokenizer",
    "translation_preprocessor",
]
