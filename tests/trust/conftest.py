# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Files that nothing is wrong with; the tests put traps into copies of them."""

from tests.small_checkpoint import adapter, checkpoint, tokenizer


__all__ = ["adapter", "checkpoint", "tokenizer"]
