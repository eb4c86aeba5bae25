# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Weights that are sharded over the processes."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled


def gathered_weights(parameters: Iterable[nn.Parameter], changes: bool = False) -> AbstractContextManager[object]:
    """
    A context in which weights that DeepSpeed (ZeRO stage 3) shards over the processes are gathered on each of them.

    Args:
        parameters: Weights, sharded or not; all processes have to name the same.
        changes: Whether they are written to; those of the first process are kept.
    """
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0 if changes else None)
