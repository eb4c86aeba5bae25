# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Rows of ragged lengths, tokenized once a module."""

import pytest
from datasets import Dataset

from hf_attn.data import train_tokenizer
from tests.training.ragged_training import TEXTS


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 280)


@pytest.fixture(scope="module")
def rows(tokenizer) -> Dataset:
    encoded = tokenizer(TEXTS, text_target=TEXTS[::-1])
    return Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask", "labels")})
