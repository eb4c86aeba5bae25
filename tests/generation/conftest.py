# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A tiny tokenizer, and models that write with it."""

import pytest
from transformers import BartConfig, BartForConditionalGeneration

from hf_attn.data import train_tokenizer
from tests.utils import tiny_config, tiny_model


@pytest.fixture(scope="session")
def tokenizer():
    texts = ["das haus und ein hund", "ein kleines haus (hund)", "the house and a dog", "a small house"] * 5
    return train_tokenizer(texts, vocab_size=300, show_progress=False)


@pytest.fixture(scope="session")
def models(tokenizer):
    """By name: a Transformer, recurrent decoders, and one of another family."""
    size = {"vocab_size": len(tokenizer), "tie_word_embeddings": False}
    bart = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, init_std=1.0,
    )  # fmt: skip
    return {
        "transformer": tiny_model(tiny_config(**size)),
        "ssru": tiny_model(tiny_config(**size, decoder_layer_types="ssru")),
        "lstm": tiny_model(tiny_config(**size, encoder_layer_types="lstm", decoder_layer_types="lstm")),
        "bart": tiny_model(bart, BartForConditionalGeneration),
    }


@pytest.fixture(scope="session")
def model(models):
    return models["ssru"]
