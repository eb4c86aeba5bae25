# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Attention encoder-decoders, of attentions and recurrences in any mix, for the Hugging Face ecosystem."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from .configuration_hf_attn import PRESETS, HfAttnConfig
from .modeling_hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
    HfAttnPreTrainedModel,
)
from .peft_registration import register_lora_targets
from .pipeline_registration import register_pipelines


__version__ = "0.1.0"

AutoConfig.register("hf_attn", HfAttnConfig)
AutoModel.register(HfAttnConfig, HfAttnModel)
AutoModelForSeq2SeqLM.register(HfAttnConfig, HfAttnForConditionalGeneration)
AutoModelForQuestionAnswering.register(HfAttnConfig, HfAttnForQuestionAnswering)
AutoModelForSequenceClassification.register(HfAttnConfig, HfAttnForSequenceClassification)
register_lora_targets()
register_pipelines()

__all__ = [
    "PRESETS",
    "HfAttnConfig",
    "HfAttnForConditionalGeneration",
    "HfAttnForQuestionAnswering",
    "HfAttnForSequenceClassification",
    "HfAttnModel",
    "HfAttnPreTrainedModel",
]
