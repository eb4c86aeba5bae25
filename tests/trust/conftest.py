# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Files that nothing is wrong with; the tests put traps into copies of them."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.small_checkpoint import save_adapter, save_checkpoint, small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return small_tokenizer()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, checkpoint) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"), checkpoint)
