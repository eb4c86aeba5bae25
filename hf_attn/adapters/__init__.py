# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Low-rank adapters: the default targets of the family, what may be adapted, merging and saving."""

from .lora import add_lora, base_fingerprint, finish_adapter, four_bit_config, linear_names, load_adapter, save_merged
from .targets import default_lora_targets


__all__ = [
    "add_lora",
    "base_fingerprint",
    "default_lora_targets",
    "finish_adapter",
    "four_bit_config",
    "linear_names",
    "load_adapter",
    "save_merged",
]
