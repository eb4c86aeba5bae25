# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tells PEFT which layers of this family an adapter wraps by default, without importing PEFT before its user does."""

from types import ModuleType

from .configuration_hf_attn import HfAttnConfig
from .import_hooks import when_imported


# Last parts of module names, attentions and recurrences; those that a model lacks are passed over.
LORA_TARGETS = ["q_proj", "v_proj", "ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj"]

CONSTANTS = "peft.utils.constants"


def add_lora_targets(constants: ModuleType) -> None:
    """Adds the targets to PEFT's table, unless it has an entry for this family."""
    table = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    table.setdefault(HfAttnConfig.model_type, list(LORA_TARGETS))


def register_lora_targets() -> None:
    """Adds the targets now where PEFT is imported already, else when it will be."""
    when_imported(CONSTANTS, add_lora_targets)
