# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tiny models and batches for the tests, and the matrix of combinations that they walk."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from packaging.version import Version

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES, POSITION_EMBEDDING_TYPES
from hf_attn.modeling_attention import Attention
from hf_attn.modeling_layers import resolve_class


# Major and minor version of torch.
TORCH = Version(torch.__version__).release[:2]
# Layer types that make attention maps; and those whose cache holds keys and values, and so can be cropped.
ATTENTION_LAYER_TYPES = tuple(
    name for name, line in LAYER_TYPES.items() if issubclass(resolve_class(line.path), Attention)
)
CROPPABLE_LAYER_TYPES = tuple(name for name, line in LAYER_TYPES.items() if not line.carries_state)
# Position schemes that act in attention scores.
SCORE_SCHEMES = tuple(name for name, line in POSITION_EMBEDDING_TYPES.items() if line.in_scores)
HEADS = (1, 4)

AXES = {
    "encoder_layer_types": tuple(LAYER_TYPES),
    "decoder_layer_types": tuple(LAYER_TYPES),
    "cross_attention_type": tuple(CROSS_ATTENTION_TYPES),
    "heads": HEADS,
    "position_embedding_type": tuple(POSITION_EMBEDDING_TYPES),
}


def tiny_config(heads: int = 4, **overrides: Any) -> HfAttnConfig:
    """A config of some 10,000 parameters; `heads` is the number in both stacks, other keywords are fields."""
    return HfAttnConfig(
        **{
            "vocab_size": 40,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_position_embeddings": 48,
            "sliding_window": 4,
            "dropout": 0.0,
            **overrides,
        }
    )


def tiny_model(config: HfAttnConfig | None = None, model_class=HfAttnForConditionalGeneration, seed: int = 0):
    """A model in evaluation mode with weights drawn from `seed`, biases and norms moved off their neutral values."""
    torch.manual_seed(seed)
    model = model_class(config if config is not None else tiny_config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 or name.endswith("match_embedding.weight"):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def tiny_batch(
    config: HfAttnConfig,
    batch_size: int = 3,
    source_length: int = 7,
    target_length: int = 6,
    padding: str | None = "ragged",
    seed: int = 1,
) -> dict[str, torch.Tensor]:
    """
    Source ids, their mask, and labels.

    Args:
        padding: Where row r of the source has r padding tokens: `"left"`, `"right"`, `"holes"` (inside), `"ragged"`
            (row 1 on the left, the others on the right), or `None`. Labels of row r end with r ignored positions,
            unless `None`.
    """
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, config.vocab_size, (batch_size, source_length), generator=generator)
    labels = torch.randint(3, config.vocab_size, (batch_size, target_length), generator=generator)
    if config.match_embedding:  # two texts with a token in common
        input_ids[:, source_length // 2] = config.end_token_ids[0]
        input_ids[:, source_length // 2 + 1] = input_ids[:, source_length // 2 - 1]
    attention_mask = torch.ones_like(input_ids)
    for row in range(1, batch_size) if padding is not None else ():
        sides = {
            "left": slice(0, row),
            "right": slice(source_length - row, None),
            "holes": slice(1, 1 + row),
            "ragged": slice(0, row) if row == 1 else slice(source_length - row, None),
        }
        attention_mask[row, sides[padding]] = 0
        labels[row, target_length - row :] = -100
    input_ids = input_ids.masked_fill(attention_mask == 0, config.pad_token_id)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def enable_checkpointing(model, *arguments: Any) -> None:
    """`activation_checkpointing_enable`, which had another name before transformers 5.23."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")(*arguments)


def has_effect(combination: dict[str, Any]) -> bool:
    """Whether the config takes the combination: a scheme that acts in scores needs a layer that has scores."""
    layer_types = {combination["encoder_layer_types"], combination["decoder_layer_types"]}
    return combination["position_embedding_type"] not in SCORE_SCHEMES or bool(
        layer_types & set(CROPPABLE_LAYER_TYPES)
    )


def all_combinations() -> list[dict[str, Any]]:
    """The full product of the axes, without what the config refuses."""
    combinations = (dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values()))
    return [combination for combination in combinations if has_effect(combination)]


def covering_selection(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of `candidates` so few that any two values of two axes that meet in one of them still meet, found greedily."""
    pairs_of = [set(itertools.combinations(candidate.items(), 2)) for candidate in candidates]
    missing = set().union(*pairs_of)
    chosen = []
    while missing:
        best = max(range(len(candidates)), key=lambda index: len(pairs_of[index] & missing))
        chosen.append(candidates[best])
        missing -= pairs_of[best]
    return chosen


def covering_combinations() -> list[dict[str, Any]]:
    """A selection of the product of the axes in which any two values of two axes meet."""
    return covering_selection(all_combinations())


def pairwise(axes: dict[str, Iterable[Any]]) -> pytest.MarkDecorator:
    """
    `pytest.mark.parametrize` over the product of `axes`, of which all but a selection is `slow`.

    In the selection any two values of two axes meet: a fault in how two arguments work together is met by a fast test.

    Args:
        axes: Argument name, or several parted by commas, to its values, hashable; tuples of values for several names.
    """
    product = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    selection = covering_selection(product)
    names = [name.strip() for name_list in axes for name in name_list.split(",")]
    cases = []
    for case in product:
        values = [value for name, value in case.items() for value in (value if "," in name else (value,))]
        cases.append(pytest.param(*values, marks=() if case in selection else pytest.mark.slow))
    return pytest.mark.parametrize(names, cases)


# Chosen by hand for the contracts that cost more: each layer type in each stack, each cross-attention, each scheme.
MATRIX: dict[str, dict[str, Any]] = {
    "full": {},
    "full-additive": {"cross_attention_type": "additive", "heads": 1, "position_embedding_type": "learned"},
    "full-relative-grouped": {
        "position_embedding_type": "relative_bias",
        "encoder_key_value_heads": 2,
        "decoder_key_value_heads": 1,
        "norm_position": "post",
    },
    "sliding": {
        "encoder_layer_types": "sliding_attention",
        "decoder_layer_types": "sliding_attention",
        "cross_attention_type": "general",
        "position_embedding_type": "alibi",
    },
    "sliding-global": {
        "encoder_layer_types": "sliding_attention",
        "decoder_layer_types": "sliding_attention",
        "global_attention_tokens": 2,
        "position_embedding_type": "rope",
    },
    "as-led": {
        "encoder_layer_types": "sliding_attention",
        "sliding_window": [4, 6],
        "global_attention_tokens": 1,
        "global_attention_projections": True,
        "attention_bias": False,
        "position_embedding_type": "sinusoidal_tensor2tensor",
        "position_offset": 2,
        "max_decoder_position_embeddings": 40,
        "normalize_embedding": True,
        "norm_before_decoder_positions": True,
        "norm_position": "post",
    },
    "as-umt5": {
        "position_embedding_type": "layer_relative_bias",
        "share_encoder_decoder_embeddings": False,
        "tie_word_embeddings": False,
        "train_padding_embedding": True,
    },
    "linear": {
        "encoder_layer_types": "linear_attention",
        "decoder_layer_types": "linear_attention",
        "cross_attention_type": "dot",
    },
    "lstm": {
        "encoder_layer_types": "lstm",
        "decoder_layer_types": "lstm",
        "cross_attention_type": "additive",
        "position_embedding_type": "none",
    },
    "gru-one-way": {
        "encoder_layer_types": "gru",
        "decoder_layer_types": "gru",
        "bidirectional_encoder": False,
        "cross_attention_type": "general",
        "heads": 1,
        "encoder_ffn_dim": 0,
        "decoder_ffn_dim": 0,
    },
    "rnn-fixed-context": {
        "encoder_layer_types": "rnn",
        "decoder_layer_types": "rnn",
        "cross_attention_type": "none",
        "position_embedding_type": "none",
        "norm_position": "none",
    },
    "ssru": {
        "encoder_layer_types": "ssru",
        "decoder_layer_types": "ssru",
        "position_embedding_type": "learned",
        "norm_type": "rmsnorm",
        "gated_ffn": True,
    },
    "full-to-ssru": {"decoder_layer_types": "ssru"},
    "mixed": {
        "encoder_layer_types": ["gru", "sliding_attention"],
        "decoder_layer_types": ["lstm", "full_attention"],
        "position_embedding_type": "relative_bias",
    },
    "full-copying": {"copy_attention": True, "coverage_loss_weight": 0.5, "label_smoothing": 0.1},
    "lstm-copying": {
        "encoder_layer_types": "lstm",
        "decoder_layer_types": "lstm",
        "cross_attention_type": "additive",
        "position_embedding_type": "none",
        "heads": 1,
        "copy_attention": True,
    },
    "mixed-copying": {
        "encoder_layer_types": ["sliding_attention", "ssru"],
        "decoder_layer_types": ["gru", "linear_attention"],
        "cross_attention_type": "general",
        "position_embedding_type": "rope",
        "norm_position": "post",
        "copy_attention": True,
    },
    "gru-matching": {
        "encoder_layer_types": ["gru", "full_attention"],
        "position_embedding_type": "alibi",
        "match_embedding": True,
    },
    "full-to-sliding-and-linear": {
        "decoder_layer_types": ["sliding_attention", "linear_attention"],
        "position_embedding_type": "rope",
        "cross_attention_type": "additive",
    },
}


def has_attention(config: HfAttnConfig, stack: str) -> list[bool]:
    """Whether each layer of `stack` makes an attention map over its own sequence."""
    return [layer_type in ATTENTION_LAYER_TYPES for layer_type in getattr(config, f"{stack}_layer_types")]


def can_crop(config: HfAttnConfig) -> bool:
    """Whether the decoder's cache can be rolled back."""
    return set(config.decoder_layer_types) <= set(CROPPABLE_LAYER_TYPES)
