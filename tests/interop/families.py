# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tiny models of transformers with random weights: each family in several shapes."""

from collections.abc import Iterator
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel


_BART: dict[str, Any] = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
}
_T5: dict[str, Any] = {
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 6,  # heads need not add up to d_model
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "d_ff": 40,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
}
_LED = {**_BART, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 40}
del _LED["max_position_embeddings"]
_FSMT = {**_BART, "langs": ["en", "de"], "src_vocab_size": 50, "tgt_vocab_size": 40}
del _FSMT["vocab_size"]
_MARIAN = {**_BART, "pad_token_id": 39, "decoder_start_token_id": 39}
_ODD = {"d_model": 33, "encoder_attention_heads": 3, "decoder_attention_heads": 1}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("Bart", _BART),
    "bart-untied": ("Bart", {**_BART, "tie_word_embeddings": False}),
    "bart-scaled": ("Bart", {**_BART, "scale_embedding": True}),
    "bart-odd": ("Bart", {**_BART, **_ODD, "max_position_embeddings": 37}),
    "plbart": ("PLBart", _BART),
    "mbart": ("MBart", _BART),
    "mbart-untied": ("MBart", {**_BART, "tie_word_embeddings": False}),
    "blenderbot": ("Blenderbot", _BART),
    "blenderbot-small": ("BlenderbotSmall", _BART),
    "pegasus": ("Pegasus", _BART),
    "pegasus-odd": ("Pegasus", {**_BART, **_ODD}),
    "marian": ("Marian", _MARIAN),
    "marian-separate": (
        "Marian",
        {**_MARIAN, "decoder_vocab_size": 40, "share_encoder_decoder_embeddings": False},
    ),
    "marian-separate-untied": (
        "Marian",
        {
            **_MARIAN,
            "decoder_vocab_size": 40,
            "share_encoder_decoder_embeddings": False,
            "tie_word_embeddings": False,
        },
    ),
    "m2m_100": ("M2M100", _BART),
    "m2m_100-pad-3": ("M2M100", {**_BART, "pad_token_id": 3}),
    "fsmt": ("FSMT", _FSMT),
    "fsmt-tied": ("FSMT", {**_FSMT, "src_vocab_size": 40, "tie_word_embeddings": True}),
    "t5": ("T5", _T5),
    "t5-v1.1": ("T5", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("MT5", _T5),
    "umt5": ("UMT5", _T5),
    "umt5-relu": ("UMT5", {**_T5, "feed_forward_proj": "relu", "num_decoder_layers": 2}),
    "longt5": ("LongT5", {**_T5, "local_radius": 3}),
    "led": ("LED", {**_LED, "attention_window": 4}),
    "led-windows": ("LED", {**_LED, "attention_window": [4, 8], "max_encoder_position_embeddings": 48}),
    "bigbird_pegasus": ("BigBirdPegasus", {**_BART, "attention_type": "original_full"}),
    "bigbird_pegasus-bias": ("BigBirdPegasus", {**_BART, "attention_type": "original_full", "use_bias": True}),
}
"""Name -> prefix of the classes, and fields of the config."""

# Tables that are no parameters, whatever transformers calls them.
_FIXED_TABLES = ("Marian", "Pegasus", "FSMT")


def build(name: str) -> PreTrainedModel:
    """The model of a shape, its weights drawn anew so that each part shows in the logits."""
    prefix, fields = SHAPES[name]
    config = getattr(hf, f"{prefix}Config")(**fields)
    kind = "MarianMTModel" if prefix == "Marian" else f"{prefix}ForConditionalGeneration"
    model = getattr(hf, kind)(config).eval()
    if fields.get("tie_word_embeddings") is False and prefix in ("T5", "Bart", "MBart", "Marian"):
        # 5.23 ties T5 whatever its config says, until files hold two tables.
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    return randomize(model, keeps_positions=prefix in _FIXED_TABLES)


def randomize(model: PreTrainedModel, keeps_positions: bool = False) -> PreTrainedModel:
    """Draws all weights, large enough for attention to be far from uniform."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if keeps_positions and "embed_positions" in name:
                continue
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
        if getattr(model, "final_logits_bias", None) is not None:
            model.final_logits_bias.normal_(generator=generator)
    return model


def batches(config: Any, length: int = 11) -> Iterator[dict[str, torch.Tensor]]:
    """Sources padded on neither side, on the right, on the left; targets without padding."""
    for side in (None, "right", "left"):
        source = torch.randint(5, 39, (3, length))
        mask = torch.ones_like(source)
        if side is not None:
            padding = slice(7, None) if side == "right" else slice(None, 4)
            mask[1, padding], source[1, padding] = 0, config.pad_token_id
        target = torch.randint(5, 39, (3, 9))
        yield {
            "input_ids": source,
            "attention_mask": mask,
            "decoder_input_ids": target,
            "decoder_attention_mask": torch.ones_like(target),
        }
