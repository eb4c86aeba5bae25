# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Settings that are fast on this machine."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.utils import logging
from typing_extensions import override


logger = logging.get_logger(__name__)


def has_accelerator() -> bool:
    """Whether a GPU or another accelerator is at hand."""
    return torch.accelerator.is_available()


def computes_bf16() -> bool:
    """Whether the device that would train has instructions for bfloat16 (on CPU: AVX512-BF16 or AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if has_accelerator():
        return False
    capabilities = cpu_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def cpu_capabilities() -> Mapping[str, Any]:
    """The CPU's instructions, as `torch.cpu.get_capabilities` names them; of older torch, AVX512-BF16 alone."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()}


def choose_bf16(is_fp16: bool, use_cpu: bool) -> bool:
    """Whether to train in bfloat16 autocast where the user does not say; the log says so."""
    if is_fp16 or (use_cpu and has_accelerator()):
        return False
    chosen = computes_bf16()
    reason = "computes in bfloat16" if chosen else "has no fast bfloat16"
    logger.info(f"bf16={chosen}: this hardware {reason}; `--bf16 {not chosen}` says otherwise.")
    return chosen


def choose_attention(attn_implementation: str | None, use_cpu: bool) -> str | None:
    """
    The attention implementation to train with; `None` leaves the choice to transformers.

    On CPU that is `eager`: the backward pass of scaled_dot_product_attention in bfloat16 takes half a training step
    there.
    """
    if attn_implementation is not None:
        return attn_implementation
    return "eager" if use_cpu or not has_accelerator() else None


# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BELOW_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """
    Lets glibc keep the memory that training on CPU frees and takes again every step, instead of giving it back.

    Without it a quarter of the time of a small model goes into page faults. For the whole process, until its end.

    Returns:
        Whether the C library took the settings; other libraries than glibc have none.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(parameter, _KEEP_BELOW_BYTES) for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


class TrimHeapCallback(TrainerCallback):
    """
    Gives kept memory back whenever the process holds twice what it held after the step that followed the last time.

    What `keep_freed_memory` keeps falls into pieces between batches of many shapes, and a process would come to hold
    several times what a step needs.
    """

    def __init__(self) -> None:
        self._needed = 0

    @override
    def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
        """`TrainerCallback.on_step_end`: trims the heap where the process holds too much."""
        held = resident_bytes()
        if self._needed == 0:
            self._needed = held
        elif held > 2 * self._needed:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            self._needed = 0


def resident_bytes() -> int:
    """The memory of this process that is in use, in bytes, on Linux."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
