# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The fields of `HfAttnConfig` for a description of a Marian model, and the description for a config."""

from __future__ import annotations

from dataclasses import fields
from inspect import get_annotations
from typing import Any

from ...configuration_hf_attn import HfAttnConfig
from .options import ACTIVATIONS, DECODERS, NORMS, Description


DEFAULT_MAX_POSITIONS = 1024
"""Tokens. Marian has no limit; a model here keeps a table of positions."""

# Marian's is fixed. Up to the larger one, results differ by less than single precision resolves.
_LAYER_NORM_EPS, _LARGEST_LAYER_NORM_EPS = 1e-6, 1e-5
# Fields that no output of a trained model depends on here, or that `Description` or the weights speak of.
_FREE_FIELDS = {
    *("vocab_size", "decoder_vocab_size", "max_position_embeddings", "max_decoder_position_embeddings"),
    *("encoder_layer_types", "decoder_layer_types", "sliding_window", "bidirectional_encoder", "rope_theta"),
    *("relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_eps", "attention_bias"),
    *("head_dim", "logits_bias", "positions_count_padding", "train_padding_embedding", "use_cache"),
    *("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "dropout_after_final_norm"),
    *("encoder_layerdrop", "decoder_layerdrop", "label_smoothing"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
}


def config_fields(
    description: Description,
    *,
    eos_token_id: int = 0,
    has_two_vocabularies: bool = False,
    max_positions: int = DEFAULT_MAX_POSITIONS,
) -> dict[str, Any]:
    """
    The fields of `HfAttnConfig`. The vocabularies have one token more than Marian's, `<pad>`, at their end; the
    smaller of two is filled up, so that its id is one.

    Args:
        description: Of the model.
        eos_token_id: The end of a sentence.
        has_two_vocabularies: Source and target have different vocabularies, of whatever size.
        max_positions: `max_position_embeddings`, in tokens.
    """
    pad_token_id = max(description.vocabulary_sizes)
    return {
        "vocab_size": pad_token_id + 1,
        "decoder_vocab_size": pad_token_id + 1 if has_two_vocabularies else None,
        "share_encoder_decoder_embeddings": description.shares_embedding,
        "d_model": description.d_model,
        "max_position_embeddings": max_positions,
        "encoder_layers": description.encoder_layers,
        "decoder_layers": description.decoder_layers,
        "encoder_layer_types": "full_attention",
        "decoder_layer_types": description.decoder,
        "encoder_attention_heads": description.heads,
        "decoder_attention_heads": description.heads,
        "encoder_ffn_dim": description.encoder_ffn_dim,
        "decoder_ffn_dim": description.decoder_ffn_dim,
        "position_embedding_type": "sinusoidal_tensor2tensor",
        "norm_type": description.norm_type,
        "norm_position": description.norm_position,
        "layer_norm_eps": _LAYER_NORM_EPS,
        "activation_function": description.activation_function,
        "scale_embedding": True,
        "tie_word_embeddings": description.ties_output,
        "logits_bias": True,
        # Firefox trains its students without.
        "dropout": 0.0,
        "pad_token_id": pad_token_id,
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "decoder_start_token_id": pad_token_id,
    }


def describe_config(config: HfAttnConfig, vocabulary_sizes: tuple[int, int]) -> Description:
    """
    The description of a model that Marian can run.

    Args:
        config: Of the model.
        vocabulary_sizes: Tokens of source and target without `<pad>`.

    Raises:
        ValueError: Marian has no counterpart of a field; all of them are named.
    """
    faults = []
    layer_types = set(config.decoder_layer_types)
    for place, name in enumerate(config.encoder_layer_types):
        if name != "full_attention":
            faults.append(f"`encoder_layer_types`: layer {place} is `{name}`, and must be `full_attention`")
    if len(layer_types) > 1 or not layer_types <= set(DECODERS.values()):
        faults.append(
            f"`decoder_layer_types` must be one of {', '.join(DECODERS.values())} in all layers, got "
            f"{config.decoder_layer_types}"
        )
    for name, allowed in (
        ("activation_function", ACTIVATIONS),
        ("norm_type", NORMS.values()),
        ("norm_position", ("post", "pre")),
    ):
        if getattr(config, name) not in allowed:
            faults.append(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(config, name)!r}")
    if config.norm_position == "pre" and "full_attention" in layer_types:
        faults.append(
            "`norm_position`: 'pre' needs `ssru` layers in the decoder, for Marian translates with keys of earlier "
            "positions that are not normalized"
        )
    for name in ("encoder_ffn_dim", "decoder_ffn_dim"):
        if getattr(config, name) == 0:
            faults.append(f"`{name}` must be at least 1, got 0")
    if config.layer_norm_eps > _LARGEST_LAYER_NORM_EPS:
        faults.append(f"`layer_norm_eps` must be at most {_LARGEST_LAYER_NORM_EPS}, got {config.layer_norm_eps}")
    if config.head_dim not in (None, config.d_model // config.encoder_attention_heads):
        faults.append(f"`head_dim` must be `d_model` divided by the number of heads, got {config.head_dim}")
    if not config.attentions_have_bias:
        faults.append("`attention_bias` must be True, got False")
    if config.decoder_start_token_id != config.pad_token_id:
        faults.append(
            "`decoder_start_token_id` must be `pad_token_id`, whose embedding is zero, for Marian's decoder starts "
            f"from zero; got {config.decoder_start_token_id} and {config.pad_token_id}"
        )
    if not isinstance(config.eos_token_id, int):
        faults.append(f"`eos_token_id` must be one token, got {config.eos_token_id}")
    description = Description(
        vocabulary_sizes=vocabulary_sizes,
        d_model=config.d_model,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        heads=config.encoder_attention_heads,
        encoder_ffn_dim=config.encoder_ffn_dim,
        decoder_ffn_dim=config.decoder_ffn_dim,
        decoder=next(iter(layer_types)),
        activation_function=config.activation_function,
        norm_type=config.norm_type,
        norm_position=config.norm_position,
        shares_embedding=config.share_encoder_decoder_embeddings,
        ties_output=config.tie_word_embeddings,
        has_output_bias=config.logits_bias,
    )
    expected = {field.name: field.default for field in fields(HfAttnConfig)} | config_fields(description)
    for stack in ("encoder", "decoder"):
        expected[f"{stack}_key_value_heads"] = description.heads
    for name in get_annotations(HfAttnConfig):
        given = getattr(config, name)
        if name not in _FREE_FIELDS and name in expected and given != expected[name]:
            faults.append(f"`{name}` must be {expected[name]!r}, got {given!r}")
    if faults:
        raise ValueError(f"Marian cannot run this model: {'; '.join(faults)}.")
    return description
