# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
Self-attention and cross-attention: one contract, one class a mechanism, one registry line.

Shape letters: queries (batch, heads, query_length, head_dim), keys and values (batch, key_value_heads, key_length,
head_dim), weights (batch, heads, query_length, key_length).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from typing_extensions import override

from .configuration_hf_attn import HfAttnConfig
from .modeling_efficient_attention import (
    RelativeBias,
    linear_attention,
    linear_attention_weights,
    real_and_global_tokens,
    sliding_window_attention,
    sliding_window_mask,
)
from .modeling_keywords import LAYER_KEYWORDS, declares_keywords
from .modeling_loss import product_dtype
from .modeling_positions import NoPositions, rotate


# What a backend takes: added to the logits (batch, 1, query_length, key_length), or a `BlockMask` of flex attention.
AttentionMask = torch.Tensor | BlockMask
Rotations = tuple[torch.Tensor, torch.Tensor]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float = 1.0,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    softmax(Q K^T * scaling + position_bias + mask) V (Vaswani et al. 2017, equation 1).

    Args:
        attention_mask (`torch.Tensor`, *optional*): Additive, 0 or the lowest number of the dtype.
        position_bias (`torch.Tensor`, *optional*): Added to the scores, (1, heads, query_length, key_length).

    Returns:
        The output, (batch, query_length, heads, head_dim), and the weights before dropout.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    return attend(scores, value, attention_mask, position_bias, dropout, module.training)


def attend(
    scores: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_bias: torch.Tensor | None,
    dropout: float,
    training: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """From scores (batch, heads, query_length, key_length) and values of as many heads to output and weights."""
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1).to(value.dtype)
    output = torch.matmul(nn.functional.dropout(weights, p=dropout, training=training), value)
    return output.transpose(1, 2).contiguous(), weights


def eager_config(config: HfAttnConfig) -> HfAttnConfig:
    """A shallow copy of `config` for which masks are built as `eager_attention_forward` takes them."""
    config = copy.copy(config)
    config._attn_implementation = "eager"
    return config


# trf-ignore: TRF025 the class methods that build masks are called by the stack, once for all its layers
class Attention(nn.Module):
    """
    Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2), and the contract of all attentions.

    As a layer's *mixer* it is a self-attention; with `key_value_states`, the source, a cross-attention.

    Args:
        config (`HfAttnConfig`): Read for `d_model`, `head_dim`, `attention_bias`, `attention_dropout`,
            `scale_attention` and the attention backend.
        num_heads, num_key_value_heads (`int`): Query heads, and the key and value heads which groups of them share.
        is_causal (`bool`): A query sees no later key.
        layer_idx (`int`): The layer's place in its stack and in the cache.
    """

    #: The layer reads the pooled context of the source.
    needs_pooling = False
    #: The output depends on the layer's own hidden states.
    reads_hidden_states = True

    # trf-ignore: TRF029 encoder and decoder have fields of their own for the heads; `from_config` reads the right ones
    def __init__(
        self, config: HfAttnConfig, *, num_heads: int, num_key_value_heads: int, is_causal: bool, layer_idx: int
    ):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads
        self.num_key_value_groups = num_heads // num_key_value_heads
        self.head_dim = config.head_dim or config.d_model // num_heads
        self.is_causal = is_causal
        self.layer_idx = layer_idx
        self.dropout = config.attention_dropout
        # CODEPATH: T5 and Luong et al. leave their scores unscaled.
        self.scaling = self.head_dim**-0.5 if config.scale_attention else 1.0
        self.add_score_parameters()
        self.v_proj = self.heads_projection(num_key_value_heads)
        self.out_proj = nn.Linear(num_heads * self.head_dim, config.d_model, bias=config.attentions_have_bias)

    @classmethod
    def from_config(cls, config: HfAttnConfig, *, stack: str, layer_idx: int, is_causal: bool) -> Self:
        """The attention of layer `layer_idx` of `stack` (`"encoder"` or `"decoder"`)."""
        return cls(
            config,
            num_heads=getattr(config, f"{stack}_attention_heads"),
            num_key_value_heads=getattr(config, f"{stack}_key_value_heads"),
            is_causal=is_causal,
            layer_idx=layer_idx,
        )

    def heads_projection(self, num_heads: int) -> nn.Linear:
        return nn.Linear(self.config.d_model, num_heads * self.head_dim, bias=self.config.attentions_have_bias)

    def add_score_parameters(self) -> None:
        """Creates what the score needs; values and output are projected alike in all attentions."""
        self.q_proj = self.heads_projection(self.num_heads)
        self.k_proj = self.heads_projection(self.num_key_value_heads)

    def query_states(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.split_heads(self.q_proj(hidden_states))

    def key_states(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.split_heads(self.k_proj(hidden_states))

    def value_states(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.split_heads(self.v_proj(hidden_states))

    def split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, heads * head_dim) to (batch, heads, length, head_dim)."""
        return states.view(*states.shape[:-1], -1, self.head_dim).transpose(1, 2)

    @classmethod
    def build_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        layer_idx: int,
        is_decoder: bool,
    ) -> AttentionMask | None:
        """
        The mask that `forward` takes, the same for all layers of this class in a stack.

        Args:
            inputs_embeds (`torch.Tensor`): (batch, query_length, d_model), read for its shape, dtype and device.
            padding_mask (`torch.Tensor`, *optional*): (batch, past_length + query_length), 1 at real tokens.
            cache (`Cache`, *optional*): The cache of the stack's self-attention.
            layer_idx (`int`): The first layer of this class.
        """
        inputs_embeds = inputs_embeds.to(product_dtype(inputs_embeds))
        if not is_decoder:
            return create_bidirectional_mask(config, inputs_embeds, padding_mask)
        return create_causal_mask(config, inputs_embeds, padding_mask, cache, layer_idx=layer_idx)

    @classmethod
    def build_cross_attention_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None,
    ) -> AttentionMask | None:
        """As `build_mask`, for cross-attention; `padding_mask` is that of the source, (batch, source_length)."""
        encoder_hidden_states = encoder_hidden_states.to(product_dtype(encoder_hidden_states))
        return create_bidirectional_mask(
            config, inputs_embeds, padding_mask, encoder_hidden_states=encoder_hidden_states
        )

    @declares_keywords(LAYER_KEYWORDS)
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        cache: Cache | None = None,
        positions: NoPositions | None = None,
        rotations: Rotations | None = None,
        pooled_context: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states (`torch.Tensor`): (batch, query_length, d_model).
            attention_mask (`torch.Tensor`, *optional*): What `build_mask` or `build_cross_attention_mask` made.
            key_value_states (`torch.Tensor`, *optional*): The source, (batch, source_length, d_model).
            cache (`Cache`, *optional*): The self-attention's or the cross-attention's, to read and extend.
            positions (`NoPositions`, *optional*): The stack's scheme, asked for a bias of the scores.
            rotations (`tuple`, *optional*): Cosines and sines of the query positions.
            pooled_context (`torch.Tensor`, *optional*): For the layers that `needs_pooling`; not used here.
            kwargs: For the backend.

        Returns:
            The output, (batch, query_length, d_model), and the weights (batch, heads, query_length, key_length) where
            the backend makes them or `output_attentions` asks for them.
        """
        query = self.query_states(hidden_states)
        if key_value_states is None:
            past_length = 0 if cache is None else cache.get_seq_length(self.layer_idx)
            key, value = self.key_states(hidden_states), self.value_states(hidden_states)
            if rotations is not None:
                query, key = rotate(query, rotations), rotate(key, rotations)
            global_states = self.global_states(hidden_states, rotations)
            if global_states is not None:
                kwargs["global_states"] = global_states
            output, weights = self.self_attention(
                query, key, value, attention_mask, cache, past_length, positions, **kwargs
            )
        else:
            key, value = self.cross_attention_states(key_value_states, cache)
            output, weights = self.attend(query, key, value, attention_mask, None, **kwargs)
        return self.out_proj(output.flatten(2)), weights

    def self_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: AttentionMask | None,
        cache: Cache | None,
        past_length: int | torch.Tensor,
        positions: NoPositions | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention over the sequence, its cached past included."""
        query_positions: torch.Tensor | None = None
        if positions is not None and positions.biases_scores:
            # Before the update: a static cache counts in place, in the tensor that `past_length` is.
            query_positions = past_length + torch.arange(query.shape[2], device=query.device)
        key_offset = 0
        if cache is not None:
            _, key_offset = cache.get_mask_sizes(query.shape[2], self.layer_idx)
            key, value = cache.update(key, value, self.layer_idx)
        position_bias = None
        if query_positions is not None:
            key_positions = key_offset + torch.arange(key.shape[2], device=query.device)
            bias: Any = positions.score_bias(key_positions - query_positions[:, None])
            # One for each row, without a copy: `flex_attention` looks biases up by the row.
            position_bias = bias.to(query.dtype).expand(len(query), -1, -1, -1)
        return self.attend(query, key, value, attention_mask, position_bias, **kwargs)

    def global_states(
        self, hidden_states: torch.Tensor, rotations: Rotations | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Queries, keys and values by which global tokens attend, where these have separate projections."""
        return None

    def cross_attention_states(
        self, key_value_states: torch.Tensor, cache: Cache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the source, projected once a sequence."""
        if cache is None:
            return self.key_states(key_value_states), self.value_states(key_value_states)
        layers = cache.layers
        if self.layer_idx >= len(layers) or not layers[self.layer_idx].is_initialized:
            cache.update(self.key_states(key_value_states), self.value_states(key_value_states), self.layer_idx)
        layer: Any = layers[self.layer_idx]
        return layer.keys, layer.values

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: AttentionMask | None,
        position_bias: torch.Tensor | None,
        output_attentions: bool | None = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scores, weights and their sum over `value`, by the backend that the config names."""
        backend: Callable[..., Any] = eager_attention_forward if output_attentions else self.backend()
        if position_bias is not None:
            kwargs["position_bias"] = position_bias
        dropout = self.dropout if self.training else 0.0
        return backend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)

    def backend(self) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
        """The attention function that the config names."""
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)

    def pool(self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
        """The pooled context of a source whose last layer this is: the mean over real tokens, (batch, d_model)."""
        if padding_mask is None:
            return hidden_states.mean(dim=1)
        mask = padding_mask.to(hidden_states.dtype)[..., None]
        return (hidden_states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


class GeneralAttention(Attention):
    """
    The score h_t^T W h_s (Luong et al. 2015, section 3.1, "general"), multi-head where there are several.

    `k_proj` is W, so that the source is projected once a sequence; the query is the hidden state itself. Values and
    output are projected as in `Attention`, `out_proj` in the place of W_c (equation 5). `scale_attention` divides by
    sqrt(head_dim), which the paper does not: with normed hidden states the softmax saturates otherwise, and training
    gets stuck.
    """

    @override
    def add_score_parameters(self) -> None:
        self.k_proj = self.heads_projection(self.num_key_value_heads)

    @override
    def query_states(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.split_heads(hidden_states)


class DotAttention(GeneralAttention):
    """The score h_t^T h_s (Luong et al. 2015, section 3.1, "dot"): no parameters in it. Scaled as in "general"."""

    @override
    def add_score_parameters(self) -> None:
        """Adds none."""

    @override
    def key_states(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.split_heads(hidden_states)


class AdditiveAttention(Attention):
    """
    The score v^T tanh(W h_t + U h_s) (Bahdanau et al. 2015, appendix A.1.2), one v a head.

    It is no dot product, so it has one backend: this one. Memory grows with query_length x source_length x d_model.
    """

    @override
    def add_score_parameters(self) -> None:
        super().add_score_parameters()
        self.score_vector = nn.Parameter(torch.empty(self.num_heads, self.head_dim))

    def init_parameters(self) -> None:
        """Gives `score_vector` fresh values, uniform within 1 / sqrt(head_dim)."""
        bound = self.head_dim**-0.5
        init.uniform_(self.score_vector, -bound, bound)

    @override
    @classmethod
    def build_cross_attention_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None,
    ) -> AttentionMask | None:
        config = eager_config(config)
        return super().build_cross_attention_mask(config, inputs_embeds, encoder_hidden_states, padding_mask)

    @override
    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_bias: torch.Tensor | None,
        output_attentions: bool | None = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.num_key_value_groups > 1:
            key, value = (states.repeat_interleave(self.num_key_value_groups, dim=1) for states in (key, value))
        energies = torch.tanh(query[:, :, :, None] + key[:, :, None])  # (batch, heads, query, key, head_dim)
        scores = torch.einsum("bhqkd,hd->bhqk", energies, self.score_vector.to(energies.dtype))
        return attend(scores, value, attention_mask, position_bias, self.dropout, self.training)


class FixedContext(nn.Module):
    """
    No attention: every target position sees the same pooled context of the source (Sutskever et al. 2014).

    The arguments are those of `Attention`; there are no weights to return.
    """

    needs_pooling = True
    reads_hidden_states = False

    def __init__(self, d_model: int, bias: bool):
        super().__init__()
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

    @classmethod
    def from_config(cls, config: HfAttnConfig, **kwargs: Any) -> Self:
        """The module of any decoder layer."""
        return cls(config.d_model, config.use_bias)

    @classmethod
    def build_cross_attention_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None,
    ) -> None:
        """There is nothing to mask: the pooled context leaves out padding."""

    @declares_keywords(LAYER_KEYWORDS | {"attention_mask", "key_value_states"})
    def forward(
        self, hidden_states: torch.Tensor, *, pooled_context: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        return self.out_proj(pooled_context)[:, None].expand_as(hidden_states), None


# trf-ignore: TRF025 as in `Attention`
class SlidingAttention(Attention):
    """
    Scaled dot-product attention over a window (Beltagy et al. 2020, section 3.1), at a cost linear in the length.

    In an encoder a query sees `sliding_window // 2` keys on each side, in a decoder the last `sliding_window`, itself
    included; the first `global_attention_tokens` see and are seen by all. A whole sequence is computed in blocks; a
    step that continues a cached sequence attends to the keys that the cache kept.
    """

    def __init__(self, config: HfAttnConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        window = config.window(self.layer_idx)
        self.left, self.right = (window - 1, 0) if self.is_causal else (window // 2, window // 2)
        self.num_global_tokens = config.global_attention_tokens
        # CODEPATH: LED.
        self.has_global_projections = config.global_attention_projections and not self.is_causal
        if self.has_global_projections:
            self.q_proj_global = self.heads_projection(self.num_heads)
            self.k_proj_global = self.heads_projection(self.num_key_value_heads)
            self.v_proj_global = self.heads_projection(self.num_key_value_heads)

    @override
    def global_states(
        self, hidden_states: torch.Tensor, rotations: Rotations | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        if not self.has_global_projections or not self.num_global_tokens:
            return None
        projections = (self.q_proj_global, self.k_proj_global, self.v_proj_global)
        query, key, value = (self.split_heads(projection(hidden_states)) for projection in projections)
        if rotations is not None:
            query, key = rotate(query, rotations), rotate(key, rotations)
        return query, key, value

    @override
    @classmethod
    def build_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        layer_idx: int,
        is_decoder: bool,
    ) -> AttentionMask | None:
        """For a whole sequence its padding mask, bool (batch, length); for a step what its backend takes."""
        if not cls.continues(inputs_embeds, cache, layer_idx):
            return padding_mask_of(inputs_embeds, padding_mask)
        # CODEPATH: `long_encoder` has global tokens.
        if not config.global_attention_tokens:
            return create_sliding_window_causal_mask(config, inputs_embeds, padding_mask, cache, layer_idx=layer_idx)

        def in_window_or_global(
            batch_idx: torch.Tensor, head_idx: torch.Tensor, query_idx: torch.Tensor, key_idx: torch.Tensor
        ) -> torch.Tensor:
            in_window = query_idx - key_idx < config.window(layer_idx)
            if padding_mask is None:
                return in_window | (key_idx < config.global_attention_tokens)
            # A static cache has more keys than there are tokens yet.
            key_idx = key_idx.clamp(max=padding_mask.shape[1] - 1)
            return in_window | (padding_mask.cumsum(-1)[batch_idx, key_idx] <= config.global_attention_tokens)

        return create_causal_mask(
            config,
            inputs_embeds,
            padding_mask,
            cache,
            and_mask_function=in_window_or_global,
            layer_idx=layer_idx,
        )

    @staticmethod
    def continues(states: torch.Tensor, cache: Cache | None, layer_idx: int) -> bool:
        """Whether `states` (..., query_length, width) are a step, or follow others, so that keys come from a cache."""
        if cache is None:
            return False
        return states.shape[-2] == 1 or bool(cache.get_seq_length(layer_idx) > 0)

    @override
    def self_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: AttentionMask | None,
        cache: Cache | None,
        past_length: int | torch.Tensor,
        positions: NoPositions | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.continues(query, cache, self.layer_idx):
            return super().self_attention(query, key, value, attention_mask, cache, past_length, positions, **kwargs)
        padding_mask: Any = attention_mask  # as `build_mask` made it
        if cache is not None:
            cache.update(key, value, self.layer_idx)
        score_bias: Any = positions.score_bias if positions is not None and positions.biases_scores else None
        global_states = kwargs.get("global_states")
        if kwargs.get("output_attentions"):
            return self.attend_densely(query, key, value, padding_mask, score_bias, global_states)
        output = sliding_window_attention(
            query,
            key,
            value,
            left=self.left,
            right=self.right,
            padding_mask=padding_mask,
            num_global_tokens=self.num_global_tokens,
            relative_bias=score_bias,
            attention_function=self.attend_block,
            global_states=global_states,
        )
        return output, None

    def attend_block(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One block of queries against its keys; `attention_mask` is additive."""
        backend = self.backend()
        if backend is not ALL_ATTENTION_FUNCTIONS["sdpa"]:
            # The other backends take no additive mask.
            backend = eager_attention_forward
        dropout = self.dropout if self.training else 0.0
        return backend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling)

    def attend_densely(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        padding_mask: torch.Tensor | None,
        score_bias: RelativeBias | None,
        global_states: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same numbers with every weight written out, for `output_attentions`: cost quadratic in the length."""
        length = query.shape[2]
        visible = sliding_window_mask(
            length, self.left, self.right, padding_mask, self.num_global_tokens, query.device
        )
        attention_mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(
            ~visible, torch.finfo(query.dtype).min
        )
        position_bias = None
        if score_bias is not None:
            indices = torch.arange(length, device=query.device)
            position_bias = score_bias(indices - indices[:, None])[None].to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        attend_all: Any = partial(
            eager_attention_forward,
            self,
            attention_mask=attention_mask,
            scaling=self.scaling,
            dropout=dropout,
            position_bias=position_bias,
        )
        output, weights = attend_all(query, key, value)
        if global_states is None:
            return output, weights
        global_output, global_weights = attend_all(*global_states)
        _, is_global = real_and_global_tokens(length, padding_mask, self.num_global_tokens, query.device)
        is_global = is_global[:, None, :, None]
        output = torch.where(is_global.transpose(1, 2), global_output, output)
        return output, torch.where(is_global, global_weights, weights)


class LinearAttention(Attention):
    """
    Attention with the kernel phi(q)^T phi(k), phi(x) = elu(x) + 1 (Katharopoulos et al. 2020, equations 4 to 12).

    The cost is linear in the length; a decoder carries a state of fixed size. Positions that turn queries or bias
    scores have no place in it. There are weights to return only without a past: a state holds no single token.
    """

    @override
    @classmethod
    def build_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        layer_idx: int,
        is_decoder: bool,
    ) -> torch.Tensor | None:
        """The padding mask of these positions, bool (batch, length)."""
        return padding_mask_of(inputs_embeds, padding_mask)

    @override
    @declares_keywords(LAYER_KEYWORDS)
    def forward(
        self,
        hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key = self.query_states(hidden_states), self.key_states(hidden_states)
        value = self.value_states(hidden_states)
        cache_layer: Any = None if cache is None else cache.layers[self.layer_idx]
        past_state = cache_layer.states if cache_layer is not None and cache_layer.is_initialized else None
        output, state = linear_attention(
            query, key, value, is_causal=self.is_causal, padding_mask=padding_mask, state=past_state
        )
        if cache_layer is not None:
            cache_layer.update_states(state, hidden_states.shape[1])
        weights = None
        if kwargs.get("output_attentions") and past_state is None:
            weights = linear_attention_weights(query, key, is_causal=self.is_causal, padding_mask=padding_mask)
        return self.out_proj(output.flatten(2)), weights


def padding_mask_of(inputs_embeds: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor | None:
    """The part of `padding_mask` that covers `inputs_embeds`, as booleans (batch, length)."""
    if padding_mask is None:
        return None
    if padding_mask.dim() != 2:
        raise ValueError(
            "`attention_mask` must be of shape (batch_size, length), 1 at real tokens, for recurrent, sliding and "
            f"linear layers, got {tuple(padding_mask.shape)}. Masks of query x key are for `full_attention` alone."
        )
    return padding_mask[:, -inputs_embeds.shape[1] :].bool()
