# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A tokenizer, a checkpoint and an adapter as small as they can be, for tests of what is read from files."""

from pathlib import Path

import pytest
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from hf_attn.adapters import add_lora, finish_adapter
from hf_attn.data import train_tokenizer
from hf_attn.training import AdapterArguments
from tests.utils import tiny_config, tiny_model


TEXTS = ["A small dog runs.", "Two dogs run far."]


def small_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 270)


def small_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0):
    return tiny_model(tiny_config(vocab_size=len(tokenizer), encoder_layers=1, decoder_layers=1), seed=seed)


def save_checkpoint(folder: Path) -> Path:
    """A model of one layer a stack, with its tokenizer."""
    tokenizer = small_tokenizer()
    small_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Code for processes without the package; here it is there.
    for file in folder.glob("*.py"):
        file.unlink()
    return folder


def save_adapter(folder: Path, checkpoint: Path) -> Path:
    """A LoRA adapter of the checkpoint, as a run leaves it."""
    tokenizer = small_tokenizer()
    model = small_model(tokenizer)
    model.name_or_path = str(checkpoint)
    adapted: PeftModel = add_lora(model, AdapterArguments(lora=True, lora_r=2))
    adapted.save_pretrained(folder)
    finish_adapter(adapted, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return small_tokenizer()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, checkpoint) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"), checkpoint)
