# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The compiled code in `native/`: made once a machine by whatever C compiler it has, called through `ctypes`."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from transformers.utils import logging


logger = logging.get_logger(__name__)

_SOURCES = Path(__file__).with_name("native")
# Outputs of a block of weights, inputs of a step, and inputs that are rounded together; as in the sources.
_OUTPUTS, _DEPTH, _INPUTS = 16, 4, 16

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long
# Of each function what it returns, and its arguments.
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "int8_linear": (ctypes.c_int, (_POINTER, _POINTER, _NUMBER, _POINTER)),
    "encoder_read": (ctypes.c_int, (_POINTER, _POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER)),
    "decoder_new": (_POINTER, (_POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER)),
    "decoder_free": (None, (_POINTER,)),
    "decoder_read": (ctypes.c_int, (_POINTER, _POINTER, _POINTER, _POINTER)),
    "decoder_best": (None, (_POINTER, _NUMBER, _POINTER, _POINTER, _POINTER)),
    "decoder_select": (ctypes.c_int, (_POINTER, _POINTER, _NUMBER)),
    "decoder_keep": (ctypes.c_int, (_POINTER, _POINTER, _NUMBER)),
    "decoder_search": (ctypes.c_int, (_POINTER, _POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER, _POINTER)),
}


@cache
def native_library() -> ctypes.CDLL | None:
    """
    The functions of the sources in `native/`; `None` where the processor lacks what they need (AVX-512 VNNI), or where
    there is no C compiler, which a warning says.
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
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _has_vnni() -> bool:
    """Whether it is worth while to look for a compiler."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and os.name == "posix"


def _compiled() -> Path:
    """The compiled library, made if it is not there."""
    sources = sorted(_SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    path = Path(HF_HOME, "hf_attn", f"native-{digest}.so")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as directory:
            made = Path(directory, path.name)
            build_library(made)
            # At once, whoever else makes it.
            made.replace(path)
    return path


def build_library(path: Path, *options: str) -> None:
    """
    Compiles the sources into a shared library.

    Args:
        path: Where it is to be.
        options: Further options of the compiler.

    Raises:
        OSError: There is no compiler.
        subprocess.CalledProcessError: The compiler fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("there is none on the path")
    sources = [str(source) for source in sorted(_SOURCES.glob("*.c"))]
    command = [compiler, "-O3", "-shared", "-fPIC", *options, "-o", str(path), *sources, "-lm"]
    subprocess.run(command, check=True, capture_output=True)


class LinearStructure(ctypes.Structure):
    """`Linear` of `native/linear.h`; all zeros: there is no such layer."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("num_inputs", "padded", "num_outputs")),
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "corrections", "bias")),
    ]


class KernelWeights(nn.Module):
    """
    The weights of an eight-bit layer as the compiled code reads them: whole blocks, the rest zeros.

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

    def structure(self) -> LinearStructure:
        """Points to the buffers, which must outlive it."""
        pointers = (tensor.data_ptr() for tensor in (self.weight, self.scale, self.corrections, self.bias))
        return LinearStructure(self.in_features, self.padded, self.out_features, *pointers)

    def forward(self, rows: torch.Tensor, library: ctypes.CDLL) -> torch.Tensor:
        """
        Args:
            rows: float32 (rows, in_features), contiguous.
            library: What `native_library` returned.

        Returns:
            float32 (rows, out_features).

        Raises:
            MemoryError: There is no memory left.
        """
        outputs = rows.new_empty(len(rows), self.out_features)
        structure = ctypes.byref(self.structure())
        if library.int8_linear(structure, rows.data_ptr(), len(rows), outputs.data_ptr()):
            raise MemoryError("No memory is left for the inputs of an eight-bit layer.")
        return outputs


def _filled(values: torch.Tensor, size: int) -> torch.Tensor:
    filled = values.new_zeros(size)
    filled[: len(values)] = values
    return filled
