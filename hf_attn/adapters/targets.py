# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The linear layers that LoRA adapts when the user names none, contributed to PEFT on import."""

from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

from ..configuration_hf_attn import HfAttnConfig


def default_lora_targets() -> list[str]:
    """
    Queries and values of attentions (Hu et al. 2021, section 7.1), and the gates of recurrent layers.

    Returns:
        Last parts of module names; those that a model lacks are passed over.
    """
    return ["q_proj", "v_proj", "ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj"]


TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.setdefault(HfAttnConfig.model_type, default_lora_targets())
