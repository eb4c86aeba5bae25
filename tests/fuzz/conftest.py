# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the readers read when nothing is wrong with it."""

from tests.small_checkpoint import adapter, checkpoint, tokenizer


__all__ = ["adapter", "checkpoint", "tokenizer"]
