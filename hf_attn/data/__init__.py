# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Readers of files and Hub data sets, tokenizer training, tokenized translation pairs and token-budget batches."""

from .batching import BatchEpochCallback, LengthBucketBatchSampler
from .readers import iterate_texts, load_splits, require_columns
from .tokenizer_training import SPECIAL_TOKENS, train_tokenizer
from .translation import source_target_lengths, translation_preprocessor


__all__ = [
    "SPECIAL_TOKENS",
    "BatchEpochCallback",
    "LengthBucketBatchSampler",
    "iterate_texts",
    "load_splits",
    "require_columns",
    "source_target_lengths",
    "train_tokenizer",
    "translation_preprocessor",
]
