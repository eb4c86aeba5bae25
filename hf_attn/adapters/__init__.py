# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Low-rank adapters: their targets, merging and saving."""

from ..loading.adapter import base_fingerprint, load_adapter
from .lora import add_lora, finish_adapter, four_bit_config, linear_names, save_merged


__all__ = [
    "add_lora",
    "base_fingerprint",
    "finish_adapter",
    "four_bit_config",
    "linear_names",
    "load_adapter",
    "save_merged",
]
