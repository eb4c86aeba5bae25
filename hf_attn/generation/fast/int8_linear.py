# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A linear layer with weights and activations of eight bits."""

from typing import Any

import torch
from torch import nn
from typing_extensions import override

from .int8_kernel import KernelWeights, native_library


# Rows that go through the steps of an eight-bit layer together, so that what lies between them stays in the cache.
_ROWS_AT_A_TIME = 256
# The compiled kernel has one thread: up to so many multiplications it is faster than others are with several.
_KERNEL_PRODUCTS = 2**24


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
        bias = scale.new_zeros(self.out_features) if linear.bias is None else linear.bias.detach().float().clone()
        self.bias = nn.Buffer(bias)
        self._smallest = scale.new_tensor(torch.finfo(torch.float32).tiny)
        self.kernel_weights: KernelWeights | None = None
        if native_library() is not None:
            self.kernel_weights = KernelWeights(self.weight, self.scale, self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """From (..., in_features) to float32 (..., out_features)."""
        rows = input.reshape(-1, self.in_features).float()
        kernel_weights = self.kernel_weights
        library = None if kernel_weights is None else native_library()
        if library is not None and kernel_weights is not None and rows.is_cpu:
            products = len(rows) * self.in_features * self.out_features
            if products <= _KERNEL_PRODUCTS or torch.get_num_threads() == 1:
                outputs = kernel_weights.forward(rows.contiguous(), library)
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

    @override
    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"

    @override
    def _apply(self, fn: Any, recurse: bool = True) -> "Int8Linear":
        super()._apply(fn, recurse)
        # Compiled code reads float32 on a CPU, and the layer may now have another dtype or device.
        if self.scale.dtype != torch.float32 or not self.scale.is_cpu:
            self.kernel_weights = None
        return self

    @override
    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            "A model with weights of eight bits cannot be saved: what was rounded off is lost. Save it before "
            "`pack_linears`, and call that again after loading."
        )
