# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The architectures that are compared: ours, Marian and BART in the same sizes, with fresh weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    MarianConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_attn import HfAttnConfig


@dataclass(frozen=True)
class Size:
    """Width, layers of each stack, heads and width of the feed-forward networks."""

    d_model: int
    layers: int
    heads: int
    ffn_dim: int


SIZES = {
    "tiny": Size(128, 4, 4, 256),
    "small": Size(256, 3, 4, 1024),
    "base": Size(512, 6, 8, 2048),
    "large": Size(1024, 12, 16, 4096),
}


def _shared_fields(size: Size, vocab_size: int, tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    fields = {
        "vocab_size": vocab_size,
        "d_model": size.d_model,
        "encoder_layers": size.layers,
        "decoder_layers": size.layers,
        "encoder_attention_heads": size.heads,
        "decoder_attention_heads": size.heads,
        "encoder_ffn_dim": size.ffn_dim,
        "decoder_ffn_dim": size.ffn_dim,
        "max_position_embeddings": 1024,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "scale_embedding": True,
    }
    if tokenizer is not None:
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        fields |= {name: getattr(tokenizer, name) for name in names}
        fields["decoder_start_token_id"] = tokenizer.eos_token_id
    return fields


def hf_attn_config(
    size: Size, vocab_size: int, tokenizer: PreTrainedTokenizerBase | None = None, **overrides: Any
) -> HfAttnConfig:
    """Ours: a Transformer, with sinusoidal positions and norms before the branches where `overrides` have no other."""
    return HfAttnConfig(**{**_shared_fields(size, vocab_size, tokenizer), **overrides})


def marian_config(size: Size, vocab_size: int, tokenizer: PreTrainedTokenizerBase | None = None) -> MarianConfig:
    """Marian: sinusoidal positions, norms after the branches."""
    fields = {**_shared_fields(size, vocab_size, tokenizer), "decoder_vocab_size": vocab_size}
    if tokenizer is None:
        # Marian's own ids are those of its full vocabulary.
        fields |= {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "bos_token_id": 0}
    return MarianConfig(**fields, forced_eos_token_id=None)


def bart_config(size: Size, vocab_size: int, tokenizer: PreTrainedTokenizerBase | None = None) -> BartConfig:
    """BART: learned positions, norms after the branches and after the embedding."""
    return BartConfig(**_shared_fields(size, vocab_size, tokenizer), forced_eos_token_id=None)


def fresh_model(config: PretrainedConfig, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A model with weights drawn from `seed`; `options` such as `attn_implementation`."""
    torch.manual_seed(seed)
    return AutoModelForSeq2SeqLM.from_config(config, **options)


def training_flops(size: Size, vocab_size: int, lengths: np.ndarray) -> float:
    """
    Floating-point operations of forward and backward passes over sentence pairs without padding.

    Matrix products alone, two operations a multiplication, the backward pass as two forward passes (Kaplan et al.
    2020, appendix A); attention scores included.

    Args:
        size, vocab_size: Of the model; one projection to the vocabulary.
        lengths: Tokens of source and target of each pair, (pairs, 2).
    """
    width, ffn_dim = size.d_model, size.ffn_dim
    source, target = lengths.astype(np.float64).T
    projections, feed_forward = 4 * width**2, 2 * width * ffn_dim
    encoder = source * (projections + feed_forward) + 2 * width * source**2
    # The decoder has a second attention: queries and outputs for the target, keys and values for the source.
    decoder = target * (projections + feed_forward + 2 * width**2) + source * 2 * width**2
    decoder += 2 * width * (target**2 + source * target)
    forward = size.layers * (encoder + decoder) + target * width * vocab_size
    return float(3 * 2 * forward.sum())
