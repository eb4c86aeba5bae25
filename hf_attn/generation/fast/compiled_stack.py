# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Stacks of eight-bit layers as the compiled code in `native/` reads them: structures that point to their weights.

What the code computes is said here, in one place: `compiled_encoder` and `compiled_decoder` give `None` for a model
with any part that it does not know, and that model goes on as it does without.
"""

import ctypes
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.utils import output_capturing

from ...modeling_attention import Attention, DotAttention, GeneralAttention
from ...modeling_hf_attn import HfAttnForConditionalGeneration
from ...modeling_layers import FeedForward, HfAttnLayer
from ...modeling_positions import (
    AlibiPositions,
    LearnedPositions,
    NoPositions,
    RelativeBias,
    RotaryPositions,
    SinusoidalPositions,
    Tensor2TensorPositions,
)
from ...modeling_recurrent import SSRUMixer
from ...modeling_stacks import HfAttnStack
from .int8_kernel import LinearStructure, native_library
from .int8_linear import Int8Linear


# As in `native/layers.h`.
FINE, NO_MEMORY, REFUSED = range(3)
_NORMS: dict[type, int] = {nn.LayerNorm: 1, nn.RMSNorm: 2}
_ACTIVATIONS: dict[str, int] = {
    "relu": 0, "gelu": 1, "gelu_new": 2, "gelu_pytorch_tanh": 2, "silu": 3, "swish": 3, "tanh": 4,
}  # fmt: skip
_ACTIVATIONS_BY_CLASS = {type(ACT2FN[name]): number for name, number in _ACTIVATIONS.items()}
_CROSS_ATTENTIONS = (Attention, GeneralAttention, DotAttention)
# Where position schemes keep the embeddings that they add, if they do.
_POSITION_TABLES: dict[type, str | None] = {
    NoPositions: None,
    RotaryPositions: None,
    RelativeBias: None,
    AlibiPositions: None,
    SinusoidalPositions: "table",
    Tensor2TensorPositions: "table",
    LearnedPositions: "weight",
}
# Places of a position table that is made anew.
_FIRST_LENGTH = 64


def _structure(name: str, **fields: Any) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _fields(kind: type, *names: str) -> dict[str, type]:
    return dict.fromkeys(names, kind)


_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long
# The structures of `native/layers.h`, field by field.
Norm: Any = _structure("Norm", kind=_NUMBER, scale=_POINTER, shift=_POINTER, epsilon=ctypes.c_double)
AttentionStructure: Any = _structure(
    "Attention",
    **_fields(LinearStructure, "query", "key", "value", "out"),
    **_fields(_NUMBER, "num_heads", "num_key_value_heads", "head_dim"),
    scaling=ctypes.c_double,
)
LayerStructure: Any = _structure(
    "Layer",
    ssru=LinearStructure,
    **_fields(AttentionStructure, "attention", "cross_attention"),
    **_fields(LinearStructure, "first", "gate", "second"),
    activation=_NUMBER,
    **_fields(Norm, "mixer_norm", "cross_attention_norm", "final_norm"),
)
StackStructure: Any = _structure(
    "Stack",
    **_fields(_NUMBER, "d_model", "num_layers", "norm_first", "num_tokens", "num_positions"),
    **_fields(_POINTER, "layers", "embeddings", "position_embeddings"),
    embed_scale=ctypes.c_double,
    **_fields(Norm, "embedding_norm", "final_norm"),
    output=LinearStructure,
)
TablesStructure: Any = _structure(
    "Tables", **_fields(_NUMBER, "length", "bias_width"), **_fields(_POINTER, "cosines", "sines", "bias")
)


class NotCompiledError(Exception):
    """A part of a model that the compiled code does not know."""


def _has_hooks(module: Any) -> bool:
    """Whether the module has hooks, or a `forward` of its own instance."""
    if module is None:
        return False
    if "forward" in vars(module):
        return True
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    # What records hidden states and attentions stays for good once they were asked for.
    return any(hook.__module__ != output_capturing.__name__ for hook in hooks)


class CompiledStack:
    """
    One stack of a model for the compiled code.

    Args:
        stack: Its encoder or decoder.
        model: The model, of which the compiled decoder has the output projection; `None` for an encoder.

    Raises:
        NotCompiledError: It has a part that is not known.
    """

    def __init__(self, stack: HfAttnStack, model: HfAttnForConditionalGeneration | None = None):
        # What was found where. A module is held by what holds it: the stack must be free to go.
        self._modules: list[tuple[dict, str, Any]] = []
        self._tensors: list[tuple[dict, str, torch.Tensor, int]] = []
        self._tables: dict[int, Any] = {}
        self.positions: Any = stack.positions
        self.is_bidirectional = stack.stack == "encoder"
        layers = self._module(stack, "layers")
        self._layers = (LayerStructure * len(layers))()
        self.d_model, self.num_heads = stack.config.d_model, 1
        self.structure = StackStructure(
            d_model=self.d_model,
            num_layers=len(layers),
            layers=ctypes.addressof(self._layers),
            embed_scale=stack.embed_scale,
            norm_first=stack.config.norm_position == "pre",
        )
        if model is not None:
            self._module(self._module(model, "model"), "decoder")
            self.structure.output = self._linear(model, "lm_head")
            if model.copy_head is not None:
                raise NotCompiledError("copy_head")
            if model.output_scale != 1.0:
                raise NotCompiledError("output_scale")
        for index, layer in enumerate(layers):
            self._module(layers, str(index))
            self._fill(self._layers[index], layer)
        self._module(layers, str(len(layers)))  # none, unless layers are added
        self._stack = ref(stack)
        if stack.adapted_embedding is not None:
            raise NotCompiledError(type(stack.adapted_embedding).__name__)
        embedding = self._module(stack, "embed_tokens", nn.Embedding)
        self.structure.embeddings = self._tensor(embedding, "weight", self.d_model)
        self.structure.num_tokens = len(embedding.weight)
        self._add_positions(stack)
        self.structure.embedding_norm = self._norm(stack, "layernorm_embedding")
        if stack.norm_before_positions:
            raise NotCompiledError("a norm before positions")
        self.structure.final_norm = self._norm(stack, "layer_norm")

    def is_current(self) -> bool:
        """Whether all parts are where they were, and without hooks."""
        stack = self._stack()
        if stack is None or stack.adapted_embedding is not None:
            return False
        if any(held.get(name) is not module or _has_hooks(module) for held, name, module in self._modules):
            return False
        return all(held.get(name) is tensor and tensor.data_ptr() == at for held, name, tensor, at in self._tensors)

    def tables(self, length: int) -> Any:
        """Rotations and biases of attention, for at least `length` positions of a sequence."""
        # A list of its own: another thread may add one.
        sizes = sorted(self._tables)
        for size in sizes:
            if size >= length:
                return self._tables[size]
        length = max(length, _FIRST_LENGTH, 2 * max(sizes, default=0))
        tables = TablesStructure(length=length)
        tensors = list(self.positions.rotations(torch.arange(length, device="cpu")[None]) or ())
        if tensors:
            tables.cosines, tables.sines = (tensor.data_ptr() for tensor in tensors)
        last = length if self.is_bidirectional else 1
        bias = self.positions.score_bias(torch.arange(1 - length, last, device="cpu"))
        if bias is not None:
            tensors.append(bias.float().contiguous())
            tables.bias, tables.bias_width = tensors[-1].data_ptr(), bias.shape[1]
        # The structure keeps alive what it points to.
        tables.tensors = tensors
        if next(self.positions.parameters(), None) is None:
            self._tables[length] = tables
        return tables

    def _module(self, parent: nn.Module, name: str, *classes: type) -> Any:
        """The module of that name, of one of these classes if there are any; `None` where there is none."""
        module: Any = parent._modules.get(name)
        self._modules.append((parent._modules, name, module))
        if module is not None:
            if classes and type(module) not in classes:
                raise NotCompiledError(type(module).__name__)
            if _has_hooks(module):
                raise NotCompiledError(f"hooks of {name}")
        return module

    def _tensor(self, module: nn.Module, name: str, width: int) -> int:
        """Where the numbers of a parameter or buffer begin, whose rows have `width` of them."""
        held: Any = module._parameters if name in module._parameters else module._buffers
        tensor = held[name]
        if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise NotCompiledError(f"{name} of {tensor.dtype} on {tensor.device}")
        if tensor.shape[-1] != width:
            raise NotCompiledError(f"{name} of shape {tuple(tensor.shape)}")
        self._tensors.append((held, name, tensor, tensor.data_ptr()))
        return tensor.data_ptr()

    def _linear(self, parent: nn.Module, name: str) -> LinearStructure:
        linear = self._module(parent, name, Int8Linear)
        if linear is None:
            return LinearStructure()
        weights = linear.kernel_weights
        if weights is None:
            raise NotCompiledError("weights of another dtype, or on another device")
        # Another device replaces both, another dtype the second.
        for buffer in ("weight", "scale"):
            tensor = getattr(weights, buffer)
            self._tensors.append((weights._buffers, buffer, tensor, tensor.data_ptr()))
        return weights.structure()

    def _norm(self, parent: nn.Module, name: str) -> Any:
        norm = self._module(parent, name, *_NORMS)
        if norm is None:
            return Norm()
        shift = None
        if getattr(norm, "bias", None) is not None:
            shift = self._tensor(norm, "bias", self.d_model)
        epsilon = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        return Norm(_NORMS[type(norm)], self._tensor(norm, "weight", self.d_model), shift, epsilon)

    def _attention(self, attention: Attention) -> Any:
        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
        return AttentionStructure(
            **{field: self._linear(attention, name) for field, name in names.items()},
            num_heads=attention.num_heads,
            num_key_value_heads=attention.num_key_value_heads,
            head_dim=attention.head_dim,
            scaling=attention.scaling,
        )

    def _fill(self, structure: Any, layer: HfAttnLayer) -> None:
        """Describes a layer."""
        mixer = self._module(layer, "mixer", Attention, SSRUMixer)
        if type(mixer) is Attention:
            structure.attention = self._attention(mixer)
            self.num_heads = mixer.num_heads
        elif self.is_bidirectional:
            raise NotCompiledError("SSRU of an encoder")
        else:
            structure.ssru = self._linear(mixer, "in_proj")
        structure.mixer_norm = self._norm(layer, "mixer_layer_norm")
        if not self.is_bidirectional:
            if layer.returns_cross_attention_weights:
                raise NotCompiledError("cross-attention weights")
            structure.cross_attention = self._attention(self._module(layer, "encoder_attn", *_CROSS_ATTENTIONS))
            structure.cross_attention_norm = self._norm(layer, "encoder_attn_layer_norm")
        feed_forward = self._module(layer, "feed_forward", FeedForward)
        if feed_forward is not None:
            structure.first, structure.gate, structure.second = (
                self._linear(feed_forward, name) for name in ("fc1", "gate", "fc2")
            )
            activation = self._module(feed_forward, "activation", *_ACTIVATIONS_BY_CLASS)
            structure.activation = _ACTIVATIONS_BY_CLASS[type(activation)]
            structure.final_norm = self._norm(layer, "final_layer_norm")

    def _add_positions(self, stack: HfAttnStack) -> None:
        positions = self._module(stack, "positions", *_POSITION_TABLES)
        name = _POSITION_TABLES[type(positions)]
        if name is not None:
            holder = positions if name == "table" else self._module(positions, "embedding", nn.Embedding)
            self.structure.position_embeddings = self._tensor(holder, name, self.d_model)
            self.structure.num_positions = len(getattr(holder, name))


_STACKS: WeakKeyDictionary[nn.Module, CompiledStack] = WeakKeyDictionary()


def _known(owner: nn.Module, stack: HfAttnStack, model: HfAttnForConditionalGeneration | None) -> CompiledStack | None:
    known = _STACKS.get(owner)
    if known is not None and known.is_current():
        return known
    _STACKS.pop(owner, None)
    if native_library() is None:
        return None
    try:
        known = CompiledStack(stack, model)
    except NotCompiledError:
        return None
    _STACKS[owner] = known
    return known


def compiled_encoder(encoder: HfAttnStack) -> CompiledStack | None:
    """The encoder for the compiled code; `None`: it cannot compute it."""
    return _known(encoder, encoder, None)


def compiled_decoder(model: HfAttnForConditionalGeneration) -> CompiledStack | None:
    """The decoder and its output projection for the compiled code; `None`: it cannot compute them."""
    return _known(model, model.model.decoder, model)
