# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The compiled form of `Int8Linear`: `int8_linear.c`, compiled once a machine by whatever C compiler it has."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from transformers.utils import logging


logger = logging.get_logger(__name__)

_SOURCE = Path(__file__).with_name("int8_linear.c")
# Outputs of a block of weights, inputs of a step, and inputs that are rounded together; as in the source.
_OUTPUTS, _DEPTH, _INPUTS = 16, 4, 16


@cache
def int8_linear() -> Callable[..., int] | None:
    """
    The function of that name in `int8_linear.c`; `None` where the processor lacks what it needs (AVX-512 VNNI), or
    where there is no C compiler, which a warning says.
    """
    if not _has_vnni():
        return None
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning(
            f"`int8` layers are slower than they could be, for want of a C compiler (`cc`) that works: {error}"
        )
        return None
    if not library.supported():
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_long
    library.int8_linear.argtypes = (pointer, *[number] * 3, *[pointer] * 5, number)
    return library.int8_linear


def _has_vnni() -> bool:
    """Whether it is worth while to look for a compiler."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and os.name == "posix"


def _compiled() -> Path:
    """The compiled library, made if it is not there."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = Path(HF_HOME, "hf_attn", f"int8_linear-{digest}.so")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise OSError("there is none on the path")
        with tempfile.TemporaryDirectory(dir=path.parent) as directory:
            made = Path(directory, path.name)
            options = ["-O3", "-shared", "-fPIC", "-o", str(made), str(_SOURCE), "-lm"]
            subprocess.run([compiler, *options], check=True, capture_output=True)
            # At once, whoever else makes it.
            made.replace(path)
    return path


class KernelWeights(nn.Module):
    """
    The weights of an eight-bit layer as the kernel reads them: whole blocks, the rest zeros.

    Args:
        weight: int8 (out_features, in_features).
        scale, bias: float32 (out_features,).
    """

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        num_outputs = -(-self.out_features // _OUTPUTS) * _OUTPUTS
        self.padded = -(-self.in_features // _INPUTS) * _INPUTS
        whole = weight.new_zeros(num_outputs, self.padded)
        whole[: self.out_features, : self.in_features] = weight
        blocks = whole.view(num_outputs // _OUTPUTS, _OUTPUTS, self.padded // _DEPTH, _DEPTH)
        self.weight = nn.Buffer(blocks.transpose(1, 2).contiguous())
        # Inputs have 128 added, to be unsigned.
        self.corrections = nn.Buffer(whole.sum(dim=1, dtype=torch.int32) * -128)
        self.scale, self.bias = (nn.Buffer(_filled(values, num_outputs)) for values in (scale, bias))

    def forward(self, rows: torch.Tensor, function: Callable[..., int]) -> torch.Tensor:
        """
        Args:
            rows: float32 (rows, in_features), contiguous.
            function: What `int8_linear` returned.

        Returns:
            float32 (rows, out_features).

        Raises:
            MemoryError: There is no memory left.
        """
        outputs = rows.new_empty(len(rows), self.out_features)
        failed = function(
            rows.data_ptr(), len(rows), self.in_features, self.padded, self.weight.data_ptr(), self.scale.data_ptr(),
            self.corrections.data_ptr(), self.bias.data_ptr(), outputs.data_ptr(), self.out_features,
        )  # fmt: skip
        if failed:
            raise MemoryError("No memory is left for the inputs of an eight-bit layer.")
        return outputs


def _filled(values: torch.Tensor, size: int) -> torch.Tensor:
    filled = values.new_zeros(size)
    filled[: len(values)] = values
    return filled
