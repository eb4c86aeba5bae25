# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Linear layers made ready for inference on a CPU: in the kernel's own layout, or with weights of eight bits."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..modeling_recurrent import FusedRecurrentMixer
from .int8_kernel import KernelWeights, int8_linear


# Rows that go through the steps of an eight-bit layer together, so that what lies between them stays in the cache.
_ROWS_AT_A_TIME = 256
# The compiled kernel has one thread: up to so many multiplications it is faster than others are with several.
_KERNEL_PRODUCTS = 2**24
# A single row times a weight of fewer numbers, which then stays in the cache, is faster without the packed layout.
_SMALL_WEIGHT = 2**20


class PackedLinear(nn.Module):
    """
    A linear layer with a second copy of its weight in oneDNN's layout, which it multiplies by.

    It computes, saves and loads as the layer that it is made from. Gradients, and weights that an optimizer or
    `load_state_dict` has changed since, go the old way. It is no `nn.Linear`, so that no adapter takes it for one:
    what merging writes into a weight shows in no count of its changes.

    Args:
        linear: float32, on a CPU. The parameters are shared with it.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed_weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._packed_version = self.weight._version
        self._is_small = self.weight.numel() < _SMALL_WEIGHT

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """From (..., in_features) to (..., out_features)."""
        is_stale = self.weight._version != self._packed_version or torch.is_grad_enabled()
        if is_stale or (self._is_small and input.numel() == self.in_features):
            return nn.functional.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self._packed_weight, self.bias, "none", [], "")

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Int8Linear(nn.Module):
    """
    x W^T + b with both x and W rounded to eight bits, symmetrically: W to one scale an output, x to one scale a row.

    The sums are exact, in 32 bits. As each row has its own scale, who else is in the batch changes no result. There is
    no gradient. On processors with AVX-512 VNNI, and with a C compiler at hand, a compiled kernel computes the same
    bits in a fifth of the time.

    Args:
        linear: On a CPU.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.weight = nn.Buffer((weight / scale[:, None]).round().to(torch.int8))
        self.scale = nn.Buffer(scale)
        bias = torch.zeros(self.out_features) if linear.bias is None else linear.bias.detach().float().clone()
        self.bias = nn.Buffer(bias)
        self._smallest = torch.tensor(torch.finfo(torch.float32).tiny)
        self.kernel_weights = None
        if int8_linear() is not None:
            self.kernel_weights = KernelWeights(self.weight, self.scale, self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """From (..., in_features) to float32 (..., out_features)."""
        rows = input.reshape(-1, self.in_features).float()
        function = None if self.kernel_weights is None else int8_linear()
        if function is not None and self.kernel_weights is not None:
            products = len(rows) * self.in_features * self.out_features
            if products <= _KERNEL_PRODUCTS or torch.get_num_threads() == 1:
                outputs = self.kernel_weights.forward(rows.contiguous(), function)
                return outputs if input.dim() == 2 else outputs.view(*input.shape[:-1], self.out_features)
        if len(rows) <= _ROWS_AT_A_TIME:
            return self._product(rows).view(*input.shape[:-1], self.out_features)
        outputs = rows.new_empty(len(rows), self.out_features)
        for some_rows, some_outputs in zip(rows.split(_ROWS_AT_A_TIME), outputs.split(_ROWS_AT_A_TIME), strict=True):
            some_outputs.copy_(self._product(some_rows))
        return outputs.view(*input.shape[:-1], self.out_features)

    def _product(self, rows: torch.Tensor) -> torch.Tensor:
        # A row of zeros has a scale too.
        scales = torch.add(self._smallest, rows.abs().amax(dim=1, keepdim=True), alpha=1 / 127)
        int8_rows = torch.div(rows, scales).round_().to(torch.int8)
        outputs = torch._int_mm(int8_rows, self.weight.t()).to(torch.float32).mul_(self.scale)
        return torch.addcmul(self.bias, outputs, scales, out=outputs)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            "A model with weights of eight bits cannot be saved: what was rounded off is lost. Save it before "
            "`pack_linears`, and call that again after loading."
        )


LINEAR_CLASSES = {"float32": PackedLinear, "int8": Int8Linear}


def pack_linears(model: PreTrainedModel, weights: str = "float32") -> PreTrainedModel:
    """
    Makes a model ready for inference on a CPU, in place: any model, of this family or another.

    Its linear layers are replaced. `float32` rounds nothing, and adds a second copy of their weights to the memory.
    `int8` rounds weights and activations and takes a quarter of the memory; the model can then neither be trained nor
    saved. Whole sequences of recurrent layers run in a kernel of their own, so that recurrent encoder layers are left
    as they are.

    Args:
        model: On a CPU; float32, or it becomes so. Adapters must be merged into it first.
        weights: `float32` or `int8`.

    Returns:
        `model`, in evaluation mode.

    Raises:
        ValueError: `weights` is neither of both, the model is not on a CPU, or it has adapters.
    """
    if weights not in LINEAR_CLASSES:
        raise ValueError(f"`weights` must be one of {', '.join(LINEAR_CLASSES)}, got {weights!r}")
    if model.device.type != "cpu":
        raise ValueError(
            f"`model` must be on a CPU for its layers to be packed, got {model.device}. On other devices load it with "
            "`dtype='bfloat16'`."
        )
    if any(hasattr(module, "merged_adapters") for module in model.modules()):
        raise ValueError(
            "`model` must have no adapters for its layers to be packed. Merge them first: "
            "`model = model.merge_and_unload()`."
        )
    model.float().eval()
    _replace(model, LINEAR_CLASSES[weights])
    return model


def _replace(module: nn.Module, linear_class: type) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, linear_class(child))
        elif not (isinstance(child, FusedRecurrentMixer) and child.bridge_proj is None):
            _replace(child, linear_class)
