# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models of hf_attn become those of transformers' classes again, where one of their families has the same shape."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ..configuration_hf_attn import HfAttnConfig
from .conversion import without_load_report
from .families import FAMILIES, Family


# Fields that change no number in evaluation mode, or that say how a model is used.
_FREE = frozenset(
    {
        "encoder_layerdrop",
        "decoder_layerdrop",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "dropout_after_final_norm",
        "classifier_dropout",
        "label_smoothing",
        "coverage_loss_weight",
        "train_padding_embedding",
        "use_cache",
        "is_encoder_decoder",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "decoder_start_token_id",
        "share_encoder_decoder_embeddings",
        "tie_word_embeddings",
        "logits_bias",
        "decoder_vocab_size",
    }
)


def to_transformers(model: PreTrainedModel, origin: PreTrainedConfig | None = None) -> PreTrainedModel:
    """
    The same function as a model of transformers.

    Args:
        model: With a language modeling head, in evaluation mode.
        origin: The config that it was imported with. Without it the first family whose shape fits is taken.

    Returns:
        The model, in evaluation mode, with the generation config of `model`.

    Raises:
        ValueError: No family has this shape; the message names the fields.
    """
    candidates = [origin] if origin is not None else [CONFIG_MAPPING[kind]() for kind in FAMILIES]
    here = cast(HfAttnConfig, model.config)
    reasons = {}
    for candidate in candidates:
        family = FAMILIES[candidate.model_type]
        try:
            config = _config(here, candidate, family)
            reason = _misfit(here, config, family)
        except (StrictDataclassError, TypeError) as error:
            reason = str(error)
        if reason is None:
            return _build(model, config, family)
        reasons[candidate.model_type] = reason
    detail = "; ".join(f"{kind}: {reason}" for kind, reason in reasons.items())
    raise ValueError(f"`MODEL` has a shape that no family of transformers can hold. {detail}.")


def _config(here: HfAttnConfig, candidate: PreTrainedConfig, family: Family) -> PreTrainedConfig:
    """The family's config with the values of `here`."""
    config = type(candidate).from_dict(candidate.to_dict())
    values: dict[str, Any] = {
        there: getattr(here, name) for name, there in family.fields.items() if isinstance(there, str)
    }
    values |= {name: getattr(here, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    values |= {"decoder_start_token_id": here.decoder_start_token_id, **family.restores(here)}
    if "decoder_vocab_size" in family.fields:
        values[str(family.fields["decoder_vocab_size"])] = here.target_vocab_size
    if "scale_decoder_outputs" not in values:
        values["tie_word_embeddings"] = here.tie_word_embeddings
    for name, value in values.items():
        setattr(config, name, value)
    return config


def _misfit(here: HfAttnConfig, config: PreTrainedConfig, family: Family) -> str | None:
    """The fields of `here` that a model of the family does not have; `None`: it has all."""
    rebuilt = {
        **family.config_fields(config),
        **{name: getattr(here, name) for name in _FREE if name not in ("is_encoder_decoder",)},
    }
    try:
        there = HfAttnConfig(**rebuilt)
    except ValueError as error:
        return str(error)
    declared = set(HfAttnConfig.__annotations__) & {field.name for field in fields(HfAttnConfig)} - _FREE
    differing = sorted(name for name in declared if getattr(here, name) != getattr(there, name))
    if not differing:
        return None
    return ", ".join(f"`{name}` is {getattr(here, name)!r} and not {getattr(there, name)!r}" for name in differing)


def _build(model: PreTrainedModel, config: PreTrainedConfig, family: Family) -> PreTrainedModel:
    with torch.device("meta"):
        empty = AutoModelForSeq2SeqLM.from_config(config)
    expected = empty.state_dict()
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        for there in family.names_there(name):
            if there in expected:
                weights[there] = _laid_out(tensor, expected[there].shape)
    # A table that no stack reads is kept where each has its own.
    for name in expected:
        if name.endswith("shared.weight") and name not in weights:
            weights[name] = weights[name.replace("shared", "decoder.embed_tokens")]
    with without_load_report():
        target, loading = type(empty).from_pretrained(
            None, config=config, state_dict=weights, dtype=model.dtype, output_loading_info=True
        )
    missing = [
        name for name in loading["missing_keys"] if "embed_positions" not in name and name != "final_logits_bias"
    ]
    if missing or loading["unexpected_keys"] or loading["mismatched_keys"]:
        raise ValueError(f"`MODEL` lacks weights of a {config.model_type!r} model: {', '.join(sorted(missing)[:5])}.")
    if model.can_generate():
        target.generation_config = model.generation_config
    return target.eval()


def _laid_out(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """`tensor` as the family lays it out: a bias as one row, a position table with rows before the first position."""
    if tensor.dim() < len(shape):
        return tensor[None]
    if tensor.dim() == 2 and len(shape) == 2 and tensor.shape[0] < shape[0]:
        return torch.cat([tensor.new_zeros(shape[0] - tensor.shape[0], tensor.shape[1]), tensor])
    return tensor
