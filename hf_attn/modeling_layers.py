# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""The layer: a mixer, cross-attention in a decoder, a feed-forward, each on a residual branch with its norm."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_hf_attn import HfAttnConfig
from .configuration_mechanisms import LAYER_TYPES, NORM_TYPES, check_choice
from .modeling_attention import AttentionMask, Rotations
from .modeling_dropout import dropout
from .modeling_keywords import LAYER_KEYWORDS, declares_keywords
from .modeling_positions import NoPositions


TensorFunction = Callable[[torch.Tensor], torch.Tensor]


def resolve_class(path: str | type) -> Any:
    """The class that a registry line of the configuration names, as `module.Class`, or is."""
    if isinstance(path, type):
        return path
    module, name = path.split(".")
    return getattr(import_module(f".{module}", __package__), name)


def build_norm(config: HfAttnConfig) -> nn.Module:
    """A norm over the hidden states, with learned scale (and shift: `layernorm`)."""
    return getattr(nn, NORM_TYPES[config.norm_type])(config.d_model, eps=config.layer_norm_eps)


class FeedForward(nn.Module):
    """
    fc2(activation(fc1(x))) (Vaswani et al. 2017, equation 2); gated: fc2(activation(gate(x)) * fc1(x)) (Shazeer 2020).

    Args:
        d_model, ffn_dim (`int`): Width outside and inside.
        activation_function (`str`): A name in `ACT2FN`.
        gated, bias (`bool`): Whether there is a gate, and biases.
        dropout (`float`): Probability, of the inner activations.

    Raises:
        ValueError: `activation_function` is not in `ACT2FN`.
    """

    def __init__(self, d_model: int, ffn_dim: int, activation_function: str, gated: bool, bias: bool, dropout: float):
        super().__init__()
        check_choice("activation_function", activation_function, sorted(ACT2FN))
        self.fc1 = nn.Linear(d_model, ffn_dim, bias=bias)
        self.gate = nn.Linear(d_model, ffn_dim, bias=bias) if gated else None
        self.fc2 = nn.Linear(ffn_dim, d_model, bias=bias)
        self.activation = ACT2FN[activation_function]
        self.dropout = dropout

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.compose(hidden_states, self.fc1, self.gate, self.activation, self.fc2)

    def compose(
        self,
        hidden_states: torch.Tensor,
        fc1: TensorFunction,
        gate: TensorFunction | None,
        activation: TensorFunction,
        fc2: TensorFunction,
    ) -> torch.Tensor:
        """The formula over its four functions: the children, or for a decoding step cheaper calls of them."""
        inner = fc1(hidden_states)
        inner = activation(inner) if gate is None else activation(gate(hidden_states)) * inner
        return fc2(dropout(inner, p=self.dropout, training=self.training))


class HfAttnLayer(GradientCheckpointingLayer):
    """
    One layer of either stack: a mixer, in the decoder a cross-attention, and a feed-forward.

    Args:
        config (`HfAttnConfig`): Names the mixer of the layer, the cross-attention, the norm and the sizes.
        stack (`str`): `"encoder"` or `"decoder"`.
        layer_idx (`int`): The layer's place in its stack.
    """

    def __init__(self, config: HfAttnConfig, stack: str, layer_idx: int):
        super().__init__()
        is_decoder = stack == "decoder"
        layer_type = getattr(config, f"{stack}_layer_types")[layer_idx]
        self.norm_first = config.norm_position == "pre"
        self.dropout = config.dropout
        has_norms = config.norm_position != "none"
        self.mixer = resolve_class(LAYER_TYPES[layer_type].path).from_config(
            config, stack=stack, layer_idx=layer_idx, is_causal=is_decoder
        )
        self.mixer_layer_norm = build_norm(config) if has_norms else None
        # CODEPATH: pointer-generators, and losses that penalise attending twice, read the last layer's weights.
        self.returns_cross_attention_weights = (
            is_decoder and config.reads_cross_attention_weights and layer_idx == config.decoder_layers - 1
        )
        if is_decoder:
            self.encoder_attn = resolve_class(config.cross_attention.path).from_config(
                config, stack=stack, layer_idx=layer_idx, is_causal=False
            )
            normalizes = has_norms and (self.encoder_attn.reads_hidden_states or not self.norm_first)
            self.encoder_attn_layer_norm = build_norm(config) if normalizes else None
        ffn_dim = getattr(config, f"{stack}_ffn_dim")
        self.feed_forward = None
        if ffn_dim:
            self.feed_forward = FeedForward(
                config.d_model,
                ffn_dim,
                config.activation_function,
                config.gated_ffn,
                config.use_bias,
                config.activation_dropout,
            )
            self.final_layer_norm = build_norm(config) if has_norms else None

    @declares_keywords(LAYER_KEYWORDS)
    def forward(
        self,
        hidden_states: torch.Tensor,
        mixer_mask: AttentionMask | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        pooled_context: torch.Tensor | None = None,
        cross_attention_mask: AttentionMask | None = None,
        cache: EncoderDecoderCache | None = None,
        positions: NoPositions | None = None,
        rotations: Rotations | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states (`torch.Tensor`): (batch, length, d_model).
            mixer_mask (`torch.Tensor` or `BlockMask`, *optional*): From the mixer's `build_mask`.
            encoder_hidden_states (`torch.Tensor`, *optional*): The source, (batch, source_length, d_model); without
                it a decoder layer has no cross-attention.
            pooled_context (`torch.Tensor`, *optional*): The pooled source, (batch, d_model).
            cross_attention_mask (`torch.Tensor` or `BlockMask`, *optional*): From the cross-attention's
                `build_cross_attention_mask`; for eager attention where the layer `returns_cross_attention_weights`.
            cache (`EncoderDecoderCache`, *optional*): Read and extended.
            positions, rotations: The stack's position scheme, and its rotations of these positions.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: Hidden states, (batch, length, d_model); and where the layer
            `returns_cross_attention_weights`, these averaged over heads, float32 (batch, length, source_length).
        """
        mixer_cache = None if cache is None else cache.self_attention_cache
        cross_attention_cache = None if cache is None else cache.cross_attention_cache

        def mix(states: torch.Tensor) -> torch.Tensor:
            return self.mixer(
                states,
                mixer_mask,
                cache=mixer_cache,
                pooled_context=pooled_context,
                positions=positions,
                rotations=rotations,
                **kwargs,
            )[0]

        cross_attention_weights = None

        def cross_attend(states: torch.Tensor) -> torch.Tensor:
            nonlocal cross_attention_weights
            outputs, weights = self.encoder_attn(
                states,
                attention_mask=cross_attention_mask,
                key_value_states=encoder_hidden_states,
                cache=cross_attention_cache,
                pooled_context=pooled_context,
                **(kwargs | {"output_attentions": True} if self.returns_cross_attention_weights else kwargs),
            )
            if self.returns_cross_attention_weights:
                precise = torch.promote_types(weights.dtype, torch.float32)
                cross_attention_weights = weights.mean(dim=1, dtype=precise)
            return outputs

        hidden_states = self.residual(hidden_states, mix, self.mixer_layer_norm)
        if encoder_hidden_states is not None:
            hidden_states = self.residual(hidden_states, cross_attend, self.encoder_attn_layer_norm)
        if self.feed_forward is not None:
            hidden_states = self.residual(hidden_states, self.feed_forward, self.final_layer_norm)
        return hidden_states, cross_attention_weights

    def residual(
        self, hidden_states: torch.Tensor, branch: TensorFunction, norm: TensorFunction | None
    ) -> torch.Tensor:
        """`hidden_states` plus the outputs of `branch` for them, the norm before the branch or after the sum."""
        inputs = norm(hidden_states) if norm is not None and self.norm_first else hidden_states
        outputs = dropout(branch(inputs), p=self.dropout, training=self.training)
        hidden_states = hidden_states + outputs
        return norm(hidden_states) if norm is not None and not self.norm_first else hidden_states
