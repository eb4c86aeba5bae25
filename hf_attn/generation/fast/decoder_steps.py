# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The decoder, one token at a time: the numbers of `forward` with a cache, in as few operations as that takes.

Tensors that all tokens share are made once: keys and values of the source, one copy for all beams; tables of
positions; initial states. A step then works on two-dimensional tensors, one row a hypothesis. The weights stay where
they are: a step calls the model's own projections, so that adapters, packed and quantised layers do as they are.

A step of any mixer is its own `forward` on a cache of one layer (`MixerStep`), and one of any cross-attention its own
`forward` too (`CrossAttentionStep`). For those of this package there are faster ones, in two tables.

The formulas are the model's own wherever that costs no time: residual branches, feed-forwards, the gates of `lstm`,
`gru` and `rnn`, initial states, linear attention, cross-attention, positions and copying are asked of its modules.
Written again are the two that save operations: `ssru`, one interpolation in place of three operations, and the
products of `full_attention` and of cross-attention, in one kernel on keys that grow in place. The compiled stacks
(`native/*.c`) are written once more in C, and held to these steps by tests.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache
from typing_extensions import override

from ...modeling_attention import (
    AdditiveAttention,
    Attention,
    DotAttention,
    FixedContext,
    GeneralAttention,
    LinearAttention,
    SlidingAttention,
    eager_config,
)
from ...modeling_cache import build_cache
from ...modeling_copy import mixture_log_probabilities
from ...modeling_efficient_attention import linear_attention
from ...modeling_hf_attn import HfAttnForConditionalGeneration
from ...modeling_layers import FeedForward, HfAttnLayer, TensorFunction
from ...modeling_positions import rotate
from ...modeling_recurrent import FusedRecurrentMixer, GRUMixer, LSTMMixer, RNNMixer, SSRUMixer
from ...modeling_stacks import HfAttnDecoder
from .int8_linear import Int8Linear
from .packed_linear import PackedLinear


# Positions whose embeddings, rotations or keys are made room for at a time.
_POSITIONS_AT_A_TIME = 64

LinearWeights = tuple[torch.Tensor, torch.Tensor | None]


@dataclass
class Sources:
    """
    The encoded sources that the decoder reads.

    Attributes:
        states: Of the encoder, (batch_size, source_length, d_model).
        padding_mask: bool (batch_size, source_length), True at real tokens; `None`: all are real.
        token_ids: int64 (batch_size, source_length), where the model copies.
        pooled_context: (batch_size, d_model), where a layer reads it.
        num_beams: Rows of each source; they follow each other.
    """

    states: torch.Tensor
    padding_mask: torch.Tensor | None
    token_ids: torch.Tensor | None
    pooled_context: torch.Tensor | None
    num_beams: int

    @property
    def pooled_context_of_rows(self) -> torch.Tensor | None:
        """(rows, d_model)."""
        return None if self.pooled_context is None else self.pooled_context.repeat_interleave(self.num_beams, dim=0)

    @property
    def additive_mask(self) -> torch.Tensor | None:
        """(batch_size, 1, 1, source_length): 0, or the lowest number of the dtype at padding."""
        if self.padding_mask is None:
            return None
        shape, device = self.padding_mask.shape, self.padding_mask.device
        zeros = torch.zeros(shape, dtype=self.states.dtype, device=device)
        return zeros.masked_fill_(~self.padding_mask, torch.finfo(zeros.dtype).min)[:, None, None]


def without_hooks(module: nn.Module) -> TensorFunction:
    """A function that computes what calling `module` does, without the cost of `__call__` where there are no hooks."""
    if module._forward_hooks or module._forward_pre_hooks:
        return module
    if "forward" not in vars(module):
        if type(module) is nn.Linear:
            weight, bias = module.weight, module.bias
            return lambda states: nn.functional.linear(states, weight, bias)
        if type(module) is nn.LayerNorm:
            shape, scale, shift, epsilon = module.normalized_shape, module.weight, module.bias, module.eps
            return lambda states: torch.layer_norm(states, shape, scale, shift, epsilon)
        if type(module) is nn.ReLU:
            return torch.relu
    return module.forward


def linear_weights(module: nn.Module) -> LinearWeights | None:
    """Weight and bias of a linear layer; `None` where it does more, or what it does is not known here."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return None
    if type(module) is Int8Linear:
        return module.weight * module.scale[:, None], module.bias
    if type(module) in (nn.Linear, PackedLinear):
        return module.weight, module.bias  # type: ignore[return-value]
    return None


class MixerStep:
    """
    A step of any mixer: its `forward` on one position, with a cache that only its own layer uses.

    Args:
        mixer: Of a decoder layer.
        decoder: Read for its config and its positions.
        sources: The encoded sources.
    """

    def __init__(self, mixer: Any, decoder: HfAttnDecoder, sources: Sources):
        self.mixer, self.decoder = mixer, decoder
        self.positions = decoder.positions.of_layer(mixer.layer_idx)
        self.cache: Any = build_cache(decoder.config).self_attention_cache
        self.layer: Any = self.cache.layers[mixer.layer_idx]
        self.context = sources.pooled_context_of_rows

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        states = hidden_states[:, None]
        place = torch.tensor([[position]], device=states.device)
        mask = self.mixer.build_mask(self.decoder.config, states, None, self.cache, self.mixer.layer_idx, True)
        outputs = self.mixer(
            states,
            mask,
            cache=self.cache,
            pooled_context=self.context,
            positions=self.positions,
            rotations=self.positions.rotations(place),
        )[0]
        return outputs[:, 0]

    def select(self, rows: torch.Tensor) -> None:
        self.layer.reorder_cache(rows)
        if self.context is not None:
            self.context = self.context.index_select(0, rows)


class RecurrentStep:
    """A step of `lstm`, `gru` and `rnn`."""

    def __init__(self, mixer: FusedRecurrentMixer, decoder: HfAttnDecoder, sources: Sources):
        self.input_projection, self.state_projection = without_hooks(mixer.ih_proj), without_hooks(mixer.hh_proj)
        self.next_states = mixer._step
        rows = len(sources.states) * sources.num_beams
        context = sources.pooled_context_of_rows
        self.states = mixer._initial_states(sources.states.new_empty(rows, 1, mixer.d_model), context)

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        inputs = self.input_projection(hidden_states)
        self.states = self.next_states(inputs, self.state_projection(self.states[0]), self.states)
        return self.states[0]

    def select(self, rows: torch.Tensor) -> None:
        self.states = tuple(state.index_select(0, rows) for state in self.states)


class SSRUStep:
    """A step of `ssru`."""

    def __init__(self, mixer: SSRUMixer, decoder: HfAttnDecoder, sources: Sources):
        self.projection = without_hooks(mixer.in_proj)
        self.width = mixer.d_model
        rows = len(sources.states) * sources.num_beams
        (self.state,) = mixer._initial_states(sources.states.new_empty(rows, 1, mixer.d_model), None)

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        projected = self.projection(hidden_states)
        precise = projected.to(self.state.dtype)
        forget = torch.sigmoid(precise[:, : self.width])
        self.state = torch.lerp(precise[:, self.width :], self.state, forget)
        return torch.relu(self.state).to(projected.dtype)

    def select(self, rows: torch.Tensor) -> None:
        self.state = self.state.index_select(0, rows)


class AttentionStep:
    """A step of `full_attention`; keys and values lie in tensors with room for the next ones."""

    window: int | None = None
    num_global_tokens = 0

    def __init__(self, attention: Attention, decoder: HfAttnDecoder, sources: Sources):
        self.projections = [without_hooks(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj")]
        self.out_projection = without_hooks(attention.out_proj)
        self.num_key_value_heads, self.head_dim = attention.num_key_value_heads, attention.head_dim
        self.scaling = attention.scaling
        self.positions: Any = decoder.positions.of_layer(attention.layer_idx)
        rows = len(sources.states) * sources.num_beams
        shape = (rows, self.num_key_value_heads, 0, self.head_dim)
        self.keys, self.values = sources.states.new_empty(shape), sources.states.new_empty(shape)
        self.rotations: tuple[torch.Tensor, torch.Tensor] | None = None
        self.bias: torch.Tensor | None = None

    def grow(self) -> None:
        """Makes room for further positions, as many as there are already; tables grow with it."""
        used = self.keys.shape[2]
        room = used + max(used, _POSITIONS_AT_A_TIME)
        self.keys, self.values = (
            torch.cat([states, states.new_empty(*states.shape[:2], room - used, states.shape[3])], dim=2)
            for states in (self.keys, self.values)
        )
        places = torch.arange(room, device=self.keys.device)
        self.rotations = self.positions.rotations(places[None])
        if self.positions.biases_scores:
            # From the farthest key to the query itself.
            bias: Any = self.positions.score_bias(places - (room - 1))
            self.bias = bias.to(self.keys.dtype).view(1, self.num_key_value_heads, -1, room)

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        if position == self.keys.shape[2]:
            self.grow()
        query, key, value = (
            projection(hidden_states).view(len(hidden_states), self.num_key_value_heads, -1, self.head_dim)
            for projection in self.projections
        )
        if self.rotations is not None:
            cosines, sines = self.rotations
            rotations = cosines[:, position : position + 1], sines[:, position : position + 1]
            query, key = rotate(query, rotations), rotate(key, rotations)
        self.keys[:, :, position], self.values[:, :, position] = key[:, :, 0], value[:, :, 0]
        output = nn.functional.scaled_dot_product_attention(
            query,
            self.visible(self.keys, position),
            self.visible(self.values, position),
            attn_mask=None if self.bias is None else self.visible_bias(self.bias, position),
            scale=self.scaling,
        )
        return self.out_projection(output.reshape(len(hidden_states), -1))

    def visible(self, states: torch.Tensor, position: int) -> torch.Tensor:
        """The keys or values that the query at `position` sees."""
        first = 0 if self.window is None else max(0, position + 1 - self.window)
        in_window = states[:, :, first : position + 1]
        num_global_tokens = min(self.num_global_tokens, first)
        if not num_global_tokens:
            return in_window
        return torch.cat([states[:, :, :num_global_tokens], in_window], dim=2)

    def visible_bias(self, bias: torch.Tensor, position: int) -> torch.Tensor:
        """The biases of what `visible` gives."""
        by_place = bias[..., bias.shape[-1] - 1 - position :]
        return self.visible(by_place.transpose(2, 3), position).transpose(2, 3)

    def select(self, rows: torch.Tensor) -> None:
        self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)


class SlidingAttentionStep(AttentionStep):
    """A step of `sliding_attention`."""

    def __init__(self, attention: SlidingAttention, decoder: HfAttnDecoder, sources: Sources):
        super().__init__(attention, decoder, sources)
        self.window = attention.left + 1
        self.num_global_tokens = attention.num_global_tokens


class LinearAttentionStep:
    """A step of `linear_attention`."""

    def __init__(self, attention: LinearAttention, decoder: HfAttnDecoder, sources: Sources):
        self.attention = attention
        self.out_projection = without_hooks(attention.out_proj)
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        hidden_states = hidden_states[:, None]
        output, self.state = linear_attention(
            self.attention.query_states(hidden_states),
            self.attention.key_states(hidden_states),
            self.attention.value_states(hidden_states),
            is_causal=True,
            state=self.state,
        )
        return self.out_projection(output.reshape(len(hidden_states), -1))

    def select(self, rows: torch.Tensor) -> None:
        if self.state is not None:
            self.state = self.state[0].index_select(0, rows), self.state[1].index_select(0, rows)


class CrossAttentionStep:
    """
    A step of any cross-attention: its `forward`, in which the beams of a source are its queries.

    Args:
        attention: Of a decoder layer.
        decoder: Read for its config.
        sources: The encoded sources.
        keeps_weights: Whether `weights` are those of the last step, averaged over heads: float32 (batch_size,
            num_beams, source_length).
    """

    def __init__(self, attention: Any, decoder: HfAttnDecoder, sources: Sources, keeps_weights: bool):
        self.attention, self.num_beams = attention, sources.num_beams
        self.states, self.context = sources.states, sources.pooled_context
        config = eager_config(decoder.config) if keeps_weights else decoder.config
        queries = sources.states.new_empty(len(sources.states), sources.num_beams, sources.states.shape[-1])
        self.mask = attention.build_cross_attention_mask(config, queries, sources.states, sources.padding_mask)
        self.cache: Any = DynamicCache()
        self.options = {"output_attentions": True} if keeps_weights else {}
        self.weights: Any = None

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        outputs, weights = self.attention(
            hidden_states.view(len(self.states), self.num_beams, -1),
            attention_mask=self.mask,
            key_value_states=self.states,
            cache=self.cache,
            pooled_context=self.context,
            **self.options,
        )
        if self.options:
            self.weights = weights.mean(dim=1, dtype=torch.promote_types(weights.dtype, torch.float32))
        return outputs.reshape(hidden_states.shape)

    def select(self, batch_indices: torch.Tensor) -> None:
        self.states = self.states.index_select(0, batch_indices)
        if self.context is not None:
            self.context = self.context.index_select(0, batch_indices)
        if self.mask is not None:
            self.mask = self.mask.index_select(0, batch_indices)
        for layer in self.cache.layers:
            if layer.is_initialized:
                layer.reorder_cache(batch_indices)


class ProjectedCrossAttentionStep:
    """
    A step of cross-attention. All beams of a source are queries to one copy of its keys and values.

    Where `keeps_weights`, `weights` are those of the last step, averaged over heads: float32 (batch_size, num_beams,
    source_length).
    """

    def __init__(self, attention: Attention, decoder: HfAttnDecoder, sources: Sources, keeps_weights: bool):
        self.attention = attention
        self.num_beams = sources.num_beams
        self.keys = attention.key_states(sources.states)
        self.values = attention.value_states(sources.states)
        self.mask = sources.additive_mask
        self.keeps_weights = keeps_weights
        self.weights: Any = None
        self.out_projection = without_hooks(attention.out_proj)
        self.query_projection = without_hooks(attention.q_proj) if hasattr(attention, "q_proj") else None

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        query = hidden_states if self.query_projection is None else self.query_projection(hidden_states)
        query = query.view(len(self.keys), self.num_beams, -1, self.attention.head_dim)
        return self.out_projection(self.attend(query).reshape(len(hidden_states), -1))

    def attend(self, query: torch.Tensor) -> torch.Tensor:
        """The contexts of queries (batch_size, num_beams, heads, head_dim), in their order."""
        weights: Any
        output, weights = self.attention.attend(
            query.transpose(1, 2), self.keys, self.values, self.mask, None, output_attentions=True
        )
        if self.keeps_weights:
            self.weights = weights.mean(dim=1, dtype=torch.promote_types(weights.dtype, torch.float32))
        return output

    def select(self, batch_indices: torch.Tensor) -> None:
        self.keys, self.values = self.keys.index_select(0, batch_indices), self.values.index_select(0, batch_indices)
        if self.mask is not None:
            self.mask = self.mask.index_select(0, batch_indices)


class ProductCrossAttentionStep(ProjectedCrossAttentionStep):
    """A step of cross-attention whose logits are products: in one operation, unless the weights are wanted."""

    @override
    def attend(self, query: torch.Tensor) -> torch.Tensor:
        if self.keeps_weights:
            return super().attend(query)
        batch_size, num_key_value_heads = self.keys.shape[:2]
        grouped = query.view(batch_size, self.num_beams, num_key_value_heads, -1, query.shape[-1]).transpose(1, 2)
        output = nn.functional.scaled_dot_product_attention(
            grouped.flatten(2, 3), self.keys, self.values, attn_mask=self.mask, scale=self.attention.scaling
        )
        return output.reshape(grouped.shape).transpose(1, 2)


class FoldedCrossAttentionStep:
    """
    A step of cross-attention to one short source, its projections multiplied into the keys and values beforehand.

    With query projection W_q, output projection W_o and scale s, head h has the scores s (x W_q,h^T) K_h^T =
    x (s K_h W_q,h)^T and adds to the output p_h V_h W_o,h^T = p_h (V_h W_o,h^T): two small products in place of four.

    Args:
        attention: A scaled dot product.
        sources: A single one.
        query_projection, out_projection: Weight and bias of `q_proj` and `out_proj`.
    """

    weights = None
    #: Sizes of the folded keys and values, in terms of the projections', up to which they are worth while.
    largest = 2

    def __init__(
        self, attention: Attention, sources: Sources, query_projection: LinearWeights, out_projection: LinearWeights
    ):
        (query_weight, query_bias), (out_weight, out_bias) = query_projection, out_projection
        groups = attention.num_key_value_groups
        keys = attention.key_states(sources.states)[0].repeat_interleave(groups, dim=0) * attention.scaling
        values = attention.value_states(sources.states)[0].repeat_interleave(groups, dim=0)
        self.num_heads = attention.num_heads
        by_head = (self.num_heads, attention.head_dim)
        self.keys = torch.matmul(keys, query_weight.view(*by_head, -1)).flatten(0, 1)
        scores = keys.new_zeros(keys.shape[:2])
        if query_bias is not None:
            scores = torch.matmul(keys, query_bias.view(*by_head, 1))[..., 0]
        if sources.additive_mask is not None:
            scores = scores + sources.additive_mask[0, 0]
        self.score_bias = scores.flatten()
        self.values = torch.matmul(values, out_weight.view(-1, *by_head).permute(1, 2, 0)).flatten(0, 1)
        if out_bias is not None:
            # The weights of each head sum to 1.
            self.values = self.values + out_bias / self.num_heads

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        scores = nn.functional.linear(hidden_states, self.keys, self.score_bias)
        weights = scores.view(len(hidden_states), self.num_heads, -1).softmax(dim=-1)
        return torch.mm(weights.view(len(hidden_states), -1), self.values)

    def select(self, batch_indices: torch.Tensor) -> None:
        """There is but one."""


class FixedContextStep:
    """A step without attention: the same context for all tokens."""

    weights = None

    def __init__(self, context: FixedContext, decoder: HfAttnDecoder, sources: Sources, keeps_weights: bool):
        self.num_beams = sources.num_beams
        self.context = context.out_proj(sources.pooled_context)

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.context if self.num_beams == 1 else self.context.repeat_interleave(self.num_beams, dim=0)

    def select(self, batch_indices: torch.Tensor) -> None:
        self.context = self.context.index_select(0, batch_indices)


MIXER_STEPS: dict[type, type] = {
    Attention: AttentionStep,
    SlidingAttention: SlidingAttentionStep,
    LinearAttention: LinearAttentionStep,
    LSTMMixer: RecurrentStep,
    GRUMixer: RecurrentStep,
    RNNMixer: RecurrentStep,
    SSRUMixer: SSRUStep,
}
CROSS_ATTENTION_STEPS: dict[type, type] = {
    Attention: ProductCrossAttentionStep,
    GeneralAttention: ProductCrossAttentionStep,
    DotAttention: ProductCrossAttentionStep,
    AdditiveAttention: ProjectedCrossAttentionStep,
    FixedContext: FixedContextStep,
}


def feed_forward_step(feed_forward: FeedForward) -> TensorFunction:
    """`feed_forward`, with its children called directly."""
    return partial(
        feed_forward.compose,
        fc1=without_hooks(feed_forward.fc1),
        gate=None if feed_forward.gate is None else without_hooks(feed_forward.gate),
        activation=without_hooks(feed_forward.activation),
        fc2=without_hooks(feed_forward.fc2),
    )


def cross_attention_step(layer: HfAttnLayer, decoder: HfAttnDecoder, sources: Sources) -> Any:
    """The step of the layer's cross-attention."""
    attention: Any = layer.encoder_attn
    step = CROSS_ATTENTION_STEPS.get(type(attention), CrossAttentionStep)
    if step is ProductCrossAttentionStep and len(sources.states) == 1 and not layer.returns_cross_attention_weights:
        query_projection, out_projection = getattr(attention, "q_proj", None), attention.out_proj
        size = attention.num_heads * sources.states.shape[1]
        if query_projection is not None and size <= FoldedCrossAttentionStep.largest * out_projection.in_features:
            query_weights, out_weights = linear_weights(query_projection), linear_weights(out_projection)
            if query_weights is not None and out_weights is not None:
                return FoldedCrossAttentionStep(attention, sources, query_weights, out_weights)
    return step(attention, decoder, sources, layer.returns_cross_attention_weights)


class LayerStep:
    """A step of a decoder layer."""

    def __init__(self, layer: HfAttnLayer, decoder: HfAttnDecoder, sources: Sources):
        self.mixer = MIXER_STEPS.get(type(layer.mixer), MixerStep)(layer.mixer, decoder, sources)
        self.cross_attention = cross_attention_step(layer, decoder, sources)
        self.residual = layer.residual
        self.mixer_norm = norm_step(layer.mixer_layer_norm)
        self.cross_attention_norm = norm_step(layer.encoder_attn_layer_norm)
        self.feed_forward = None
        if layer.feed_forward is not None:
            self.feed_forward = feed_forward_step(layer.feed_forward)
            self.final_norm = norm_step(layer.final_layer_norm)

    def __call__(self, hidden_states: torch.Tensor, position: int) -> torch.Tensor:
        hidden_states = self.residual(hidden_states, lambda states: self.mixer(states, position), self.mixer_norm)
        hidden_states = self.residual(hidden_states, self.cross_attention, self.cross_attention_norm)
        if self.feed_forward is not None:
            hidden_states = self.residual(hidden_states, self.feed_forward, self.final_norm)
        return hidden_states


def norm_step(norm: nn.Module | None) -> TensorFunction | None:
    """`norm`, called directly; `None` where there is none."""
    return None if norm is None else without_hooks(norm)


class DecoderSteps:
    """
    The decoder and the output projection, for one batch of sources.

    Args:
        model: In evaluation mode.
        sources: Rows are `batch_size` times `num_beams`.
    """

    def __init__(self, model: HfAttnForConditionalGeneration, sources: Sources):
        decoder = model.model.decoder
        self.model = model
        self.decoder = decoder
        self.sources = sources
        self.position = 0
        self.layers = [LayerStep(layer, decoder, sources) for layer in decoder.layers]
        self.embed_tokens = without_hooks(decoder.embedding)
        self.embed_scale = decoder.embed_scale
        self.embedding_norm = norm_step(decoder.layernorm_embedding)
        self.final_norm = norm_step(decoder.layer_norm)
        self.output_projection = without_hooks(model.lm_head)
        adapted, bias = model.adapted_projection(), model.lm_head.bias
        if adapted is not None:
            self.output_projection = lambda states: nn.functional.linear(states, adapted, bias)
        self.position_embeddings: torch.Tensor | None = None
        self.inputs_embeds: Any = None

    def read(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        Reads the next token of each row.

        Args:
            token_ids: int64 (rows,).

        Returns:
            The outputs of the decoder, (rows, d_model).

        Raises:
            ValueError: The position table of the model ends before this token.
        """
        position = self.position
        if position % _POSITIONS_AT_A_TIME == 0:
            self.position_embeddings = self.next_position_embeddings(position)
        self.position += 1
        hidden_states = self.embed_tokens(token_ids)
        if self.embed_scale != 1.0:
            hidden_states = hidden_states * self.embed_scale
        self.inputs_embeds = hidden_states
        if self.embedding_norm is not None and self.decoder.norm_before_positions:
            hidden_states = self.embedding_norm(hidden_states)
        if self.position_embeddings is not None:
            place = position % _POSITIONS_AT_A_TIME
            if place == len(self.position_embeddings):
                # Refuses the position, in the model's own words.
                self.decoder.position_ids(hidden_states[:, None], None, position)
            hidden_states = hidden_states + self.position_embeddings[place]
        if self.embedding_norm is not None and not self.decoder.norm_before_positions:
            hidden_states = self.embedding_norm(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, position)
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)

    def next_position_embeddings(self, position: int) -> torch.Tensor | None:
        """The embeddings of the positions from `position` on, (positions, d_model), as far as the table goes."""
        limit = self.decoder.positions.max_positions
        end = position + _POSITIONS_AT_A_TIME
        places = torch.arange(position, end if limit is None else min(end, limit), device=self.sources.states.device)
        embeddings = self.decoder.positions(places[None])
        return None if embeddings is None else embeddings[0].to(self.sources.states.dtype)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The logits of the next token, float32 (rows, vocab_size)."""
        scaled = hidden_states if self.model.output_scale == 1.0 else hidden_states * self.model.output_scale
        logits = self.output_projection(scaled)
        copy_head = self.model.copy_head
        if copy_head is not None:
            cross_attention_weights = self.layers[-1].cross_attention.weights
            shape = (*cross_attention_weights.shape[:2], -1)
            copied = copy_head(
                hidden_states.view(shape),
                self.inputs_embeds.view(shape),
                self.sources.states,
                cross_attention_weights,
                self.sources.token_ids,
            )
            logits = mixture_log_probabilities(logits.view(shape), copied).flatten(0, 1)
        return logits.float()

    def best(self, hidden_states: torch.Tensor, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The `number` likeliest next tokens, the likeliest first: log-probabilities and tokens, (rows, number)."""
        logits = self.logits(hidden_states)
        top, tokens = logits.topk(min(number, logits.shape[-1]), dim=-1)
        return (top - logits.logsumexp(dim=-1, keepdim=True)).cpu().numpy(), tokens.cpu().numpy()

    def reorder(self, rows: torch.Tensor) -> None:
        """Row r goes on from the state of row `rows[r]`, of the same source; int64 (rows,)."""
        for layer in self.layers:
            layer.mixer.select(rows)

    def keep(self, batch_indices: torch.Tensor) -> None:
        """Drops all sources but those at `batch_indices`, int64 (kept,)."""
        num_beams, sources = self.sources.num_beams, self.sources
        rows = batch_indices
        if num_beams > 1:
            beams = torch.arange(num_beams, device=batch_indices.device)
            rows = (batch_indices[:, None] * num_beams + beams).flatten()
        self.reorder(rows)
        for layer in self.layers:
            layer.cross_attention.select(batch_indices)
        if self.model.copy_head is not None:
            token_ids: Any = sources.token_ids
            sources.states = sources.states.index_select(0, batch_indices)
            sources.token_ids = token_ids.index_select(0, batch_indices)
