# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Attention encoder-decoders, of attentions and recurrences in any mix, for the Hugging Face ecosystem."""

from .configuration_hf_attn import PRESETS, HfAttnConfig
from .configuration_mechanisms import register_cross_attention, register_layer_type
from .modeling_hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
    HfAttnPreTrainedModel,
)
from .registration import register_family


__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "HfAttnConfig",
    "HfAttnForConditionalGeneration",
    "HfAttnForQuestionAnswering",
    "HfAttnForSequenceClassification",
    "HfAttnModel",
    "HfAttnPreTrainedModel",
    "register_cross_attention",
    "register_layer_type",
]

register_family()
