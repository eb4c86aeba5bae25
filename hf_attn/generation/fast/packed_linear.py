# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Linear layers made ready for inference on a CPU: in the kernel's own layout, or with weights of eight bits."""

import torch
from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from ...modeling_recurrent import FusedRecurrentMixer
from ...modeling_stacks import HfAttnEncoder
from .compiled_encoder import CompiledEncoder
from .int8_linear import Int8Linear


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

    @override
    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


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
    if weights == "int8":
        for module in model.modules():
            if type(module) is HfAttnEncoder:
                module.forward = CompiledEncoder(module)
    return model


def _replace(module: nn.Module, linear_class: type) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, linear_class(child))
        elif not (isinstance(child, FusedRecurrentMixer) and child.bridge_proj is None):
            _replace(child, linear_class)
