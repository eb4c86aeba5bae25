# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""Attention whose time and memory grow linearly with the length: a blocked sliding window, and linear attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast


AttentionFunction = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]
]
RelativeBias = Callable[[torch.Tensor], torch.Tensor]

# Tokens. A block near half the window is fastest (one CPU thread, head_dim 64, windows of 32 to 2048, chunks of 64 to
# 256); the bounds keep the fixed costs of small blocks and the surplus scores of large ones low.
SMALLEST_BLOCK, LARGEST_BLOCK = 64, 256
LINEAR_ATTENTION_CHUNK = 64


def sliding_window_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    left: int,
    right: int,
    padding_mask: torch.Tensor | None,
    num_global_tokens: int,
    relative_bias: RelativeBias | None,
    attention_function: AttentionFunction,
    global_states: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """
    Attention in which query i sees the keys from i - `left` to i + `right`, and the global tokens.

    The pattern is that of Longformer (Beltagy et al. 2020, section 3.1). Queries are cut into blocks, which are folded
    into the batch; each block attends densely to the keys that any of its queries sees. Time and memory are O(length x
    (left + right + block + global tokens)); no tensor of length x length numbers is made. A sequence no longer than a
    block's keys is one block: dense attention.

    Args:
        query (`torch.Tensor` of shape `(batch_size, num_heads, length, head_dim)`): Float queries.
        key, value (`torch.Tensor` of shape `(batch_size, num_key_value_heads, length, head_dim)`): Float keys and
            values at the same positions as the queries.
        left, right (`int`): Tokens before and after itself that a query sees. `right` = 0 means causal.
        padding_mask (`torch.BoolTensor` of shape `(batch_size, length)`, *optional*): True for a real token; others
            are seen by nobody.
        num_global_tokens (`int`): The first so many real tokens of each row are seen by every query, and see every
            real key; in causal attention, as far as causality allows both.
        relative_bias (`Callable`, *optional*): Maps key position minus query position, a long tensor of any shape, to
            biases of shape `(num_heads, *shape)` that are added to the scores.
        attention_function (`Callable`): Maps query, key, value and an additive mask in the query's dtype,
            broadcastable to `(batch, num_heads, query_length, key_length)`, to an output of shape `(batch,
            query_length, num_heads, head_dim)` and weights, which are not used. It scales, drops out and repeats
            grouped heads. `batch` counts the blocks of all rows.
        global_states (`tuple` of three `torch.Tensor`, *optional*): Queries, keys and values by which global tokens
            see, where these have projections of their own; shapes as of the others.

    Returns:
        `torch.Tensor` of shape `(batch_size, length, num_heads, head_dim)`; 0 where a query sees no key.

    Raises:
        ValueError: `key` and `query` differ in length.
        TypeError: `padding_mask` is not boolean.
    """
    _check_inputs(query, key, padding_mask)
    batch_size, num_heads, length, _ = query.shape
    is_causal = right == 0
    block, num_blocks, first_offset, span = _block_geometry(length, left, right)
    real, is_global = real_and_global_tokens(length, padding_mask, num_global_tokens, query.device)

    query_positions = torch.arange(num_blocks * block, device=query.device).view(num_blocks, block, 1)
    key_positions = query_positions[:, :1] + first_offset + torch.arange(span, device=query.device)
    distances = key_positions[0] - query_positions[0]  # the same in every block: (block, span)
    in_window = (distances >= -left) & (distances <= right) & (key_positions >= 0) & (key_positions < length)
    # A global key is seen as such, through the columns put in front of the window, and not again within it.
    visible = in_window & (real & ~is_global)[:, key_positions.clamp(0, length - 1)]  # (rows, num_blocks, block, span)
    bias = None if relative_bias is None else relative_bias(distances)[None, None]

    query_by_position, key_by_position, value_by_position = (
        states.transpose(1, 2) for states in (query, key, value)
    )  # (batch_size, length, heads, head_dim)
    global_keys = global_values = global_positions = None
    num_global_tokens = min(num_global_tokens, length)
    if num_global_tokens:
        global_positions = _global_positions(real, num_global_tokens)
        global_keys = _gather_positions(key_by_position, global_positions)
        global_values = _gather_positions(value_by_position, global_positions)
        columns = global_positions[:, None, None, :]
        last_visible = query_positions if is_causal else length - 1
        global_visible = columns <= last_visible
        global_visible = global_visible.expand(-1, num_blocks, block, -1)
        visible = torch.cat((global_visible, visible), dim=-1)
        if bias is not None and relative_bias is not None:
            global_bias = relative_bias(columns - query_positions).permute(1, 2, 0, 3, 4)
            bias = torch.cat((global_bias, bias.expand(*global_bias.shape[:2], -1, -1, -1)), dim=-1)

    mask = _additive_mask(visible[:, :, None], bias, query.dtype).expand(batch_size, -1, -1, -1, -1).flatten(0, 1)
    folded_query = _pad_positions(query_by_position, 0, num_blocks * block - length)
    folded_query = folded_query.reshape(batch_size * num_blocks, block, num_heads, -1)
    folded_key, folded_value = (
        _key_windows(states, in_front, block, num_blocks, first_offset, span).flatten(0, 1)
        for states, in_front in ((key_by_position, global_keys), (value_by_position, global_values))
    )
    output, _ = attention_function(
        folded_query.transpose(1, 2), folded_key.transpose(1, 2), folded_value.transpose(1, 2), mask
    )
    output = output.reshape(batch_size, num_blocks * block, num_heads, -1)[:, :length]
    if padding_mask is not None:
        sees_nothing = ~visible.any(dim=-1).flatten(1)[:, :length]
        output = output.masked_fill(sees_nothing[:, :, None, None], 0.0)

    if global_positions is None or is_causal:
        return output
    distances = torch.arange(length, device=query.device) - global_positions[..., None]
    bias = None if relative_bias is None else relative_bias(distances).transpose(0, 1)
    mask = _additive_mask(real[:, None, None].expand(-1, -1, num_global_tokens, -1), bias, query.dtype)
    query, key, value = (query, key, value) if global_states is None else global_states
    global_query = _gather_positions(query.transpose(1, 2), global_positions).transpose(1, 2)
    global_output, _ = attention_function(global_query, key, value, mask)
    # Positions of tokens that a row lacks are `length`: they are written to a spare place.
    index = global_positions[..., None, None].expand_as(global_output)
    return _pad_positions(output, 0, 1).scatter(1, index, global_output.to(output.dtype))[:, :length]


def sliding_window_mask(
    length: int,
    left: int,
    right: int,
    padding_mask: torch.Tensor | None,
    num_global_tokens: int,
    device: torch.device | None = None,
) -> torch.Tensor:
    """
    The pattern of `sliding_window_attention` as a dense mask, for attention maps: memory grows as length squared.

    Args:
        length, left, right, padding_mask, num_global_tokens: As in `sliding_window_attention`.
        device (`torch.device`, *optional*): Where the mask is made when there is no `padding_mask`.

    Returns:
        `torch.BoolTensor` of shape `(batch_size or 1, 1, length, length)`; True where a query, the third axis, sees a
        key, the fourth.
    """
    device = device if padding_mask is None else padding_mask.device
    real, is_global = real_and_global_tokens(length, padding_mask, num_global_tokens, device)
    positions = torch.arange(length, device=device)
    distances = positions - positions[:, None]
    visible = ((distances >= -left) & (distances <= right)) | is_global[:, None, :]
    visible = visible & (distances <= 0) if right == 0 else visible | is_global[:, :, None]
    return (visible & real[:, None, :])[:, None]


def linear_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    is_causal: bool,
    padding_mask: torch.Tensor | None = None,
    state: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """
    Attention with weights phi(q) . phi(k) / sum phi(q) . phi(k) in place of the softmax, phi(x) = elu(x) + 1.

    Source: Katharopoulos et al. 2020, equations 4 to 7, and 8 to 12 when causal. Causal sums run over chunks: within a
    chunk as a masked product, across chunks as a running state, O(length) in time and memory in both directions.
    Computed in float32, or in float64 for such inputs, also under autocast.

    Args:
        query (`torch.Tensor` of shape `(batch_size, num_heads, length, head_dim)`): Float queries.
        key, value (`torch.Tensor` of shape `(batch_size, num_key_value_heads, length, head_dim)`): Float keys and
            values at the same positions as the queries.
        is_causal (`bool`): Whether a query sees only keys up to its own position.
        padding_mask (`torch.BoolTensor` of shape `(batch_size, length)`, *optional*): True for a real token; others
            are seen by nobody and leave the state as it was.
        state (`tuple` of two `torch.Tensor`, *optional*): The state after earlier tokens, which every query sees.

    Returns:
        The output of shape `(batch_size, length, num_heads, head_dim)` in the query's dtype, 0 where a query sees no
        key; and the state after these tokens in float32 (float64): the sums of phi(k) v^T, of shape `(batch_size,
        num_heads, head_dim, head_dim)`, and of phi(k), of shape `(batch_size, num_heads, head_dim)`.

    Raises:
        ValueError: `key` and `query` differ in length.
        TypeError: `padding_mask` is not boolean.
    """
    _check_inputs(query, key, padding_mask)
    length = query.shape[2]
    with maybe_autocast(device_type=query.device.type, enabled=False):
        query_features, key_features = _linear_features(query, key, padding_mask)
        value = _repeat_heads(value.to(query_features.dtype), query.shape[1])
        value = nn.functional.pad(
            value, (0, 1), value=1.0
        )  # a column of ones: the denominator comes with the numerator
        sums = None if state is None else torch.cat((state[0], state[1][..., None]), dim=-1)
        if is_causal and length > 1:
            result, sums = _causal_linear_sums(query_features, key_features, value, sums)
        else:
            new_sums = key_features.transpose(-1, -2) @ value
            sums = new_sums if sums is None else sums + new_sums
            result = query_features @ sums
        output = _normalize(result[..., :-1], result[..., -1:])
    # Copies, so that a cache does not keep the sums of all chunks alive.
    return output.to(query.dtype).transpose(1, 2), (sums[..., :-1].contiguous(), sums[..., -1].contiguous())


def linear_attention_weights(
    query: torch.Tensor, key: torch.Tensor, *, is_causal: bool, padding_mask: torch.Tensor | None
) -> torch.Tensor:
    """
    The weights that `linear_attention` without a state gives each value, for attention maps: memory grows as length
    squared.

    Args:
        query, key, is_causal, padding_mask: As in `linear_attention`.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_heads, length, length)` in the query's dtype: queries in the third
        axis, keys in the fourth. Each query's weights sum to 1, or are 0 where it sees no key.
    """
    _check_inputs(query, key, padding_mask)
    with maybe_autocast(device_type=query.device.type, enabled=False):
        query_features, key_features = _linear_features(query, key, padding_mask)
        scores = query_features @ key_features.transpose(-1, -2)
        if is_causal:
            scores = scores.tril()
        return _normalize(scores, scores.sum(dim=-1, keepdim=True)).to(query.dtype)


def _check_inputs(query: torch.Tensor, key: torch.Tensor, padding_mask: torch.Tensor | None) -> None:
    if query.shape[2] != key.shape[2]:
        raise ValueError(
            f"`key` must be as long as `query`, got lengths {key.shape[2]} and {query.shape[2]}. Earlier tokens "
            "come in a state (linear attention) or need dense attention (sliding window)."
        )
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        raise TypeError(
            f"`padding_mask` must be of dtype torch.bool (True: a real token), got {padding_mask.dtype}. Pass "
            "`attention_mask.bool()`."
        )


def _block_geometry(length: int, left: int, right: int) -> tuple[int, int, int, int]:
    """Queries a block, blocks, position of a block's first key less that of its first query, and keys a block."""
    half_window = 64 * -(-(left + right) // 128)  # rounded up to a multiple of 64
    block = min(max(half_window, SMALLEST_BLOCK), LARGEST_BLOCK)
    span = block + left + right
    if length <= span:
        return length, 1, 0, length
    return block, -(-length // block), -left, span


def real_and_global_tokens(
    length: int, padding_mask: torch.Tensor | None, num_global_tokens: int, device: torch.device | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens are not padding, and which are global: two masks of shape (batch_size or 1, length)."""
    real = torch.ones(1, length, dtype=torch.bool, device=device) if padding_mask is None else padding_mask
    return real, real & (real.cumsum(dim=-1) <= num_global_tokens)


def _global_positions(real: torch.Tensor, num_global_tokens: int) -> torch.Tensor:
    """Positions of the first real tokens, (batch_size or 1, num_global_tokens); `length` where a row has no more."""
    ranks = torch.arange(1, num_global_tokens + 1, device=real.device)
    return (real.cumsum(dim=-1)[:, None] < ranks[:, None]).sum(dim=-1)


def _gather_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows of `states` (batch_size, length, heads, head_dim) at `positions` (batch_size or 1, number)."""
    index = positions.clamp(max=states.shape[1] - 1)[..., None, None]
    return states.gather(1, index.expand(states.shape[0], -1, *states.shape[2:]))


def _pad_positions(states: torch.Tensor, before: int, after: int) -> torch.Tensor:
    return nn.functional.pad(states, (0, 0, 0, 0, before, after))


def _key_windows(
    states: torch.Tensor, in_front: torch.Tensor | None, block: int, num_blocks: int, first_offset: int, span: int
) -> torch.Tensor:
    """
    What each block sees of `states` (batch_size, length, heads, head_dim): (batch_size, num_blocks, keys, heads,
    head_dim), where the keys are those `in_front`, the same for all blocks, then the `span` keys of the window.
    """
    # Joined from shifted copies of the sequence cut into blocks: their gradient is a sum of slices, not a scatter.
    shifts = range(0, span, block)
    padded_length = shifts[-1] + num_blocks * block
    states = _pad_positions(states, -first_offset, padded_length + first_offset - states.shape[1])
    pieces = [] if in_front is None else [in_front[:, None].expand(-1, num_blocks, -1, -1, -1)]
    for shift in shifts:
        blocks = states[:, shift : shift + num_blocks * block].unflatten(1, (num_blocks, block))
        pieces.append(blocks[:, :, : span - shift])
    return torch.cat(pieces, dim=2)


def _additive_mask(visible: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """`bias`, or 0, where `visible`, elsewhere the lowest number; a row that sees nothing is opened to stay finite."""
    opened = visible | ~visible.any(dim=-1, keepdim=True)
    bias = torch.zeros((), dtype=dtype, device=visible.device) if bias is None else bias.to(dtype)
    return torch.where(opened, bias, torch.finfo(dtype).min)


def _repeat_heads(states: torch.Tensor, num_heads: int) -> torch.Tensor:
    return states.repeat_interleave(num_heads // states.shape[1], dim=1) if states.shape[1] != num_heads else states


def _linear_features(
    query: torch.Tensor, key: torch.Tensor, padding_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """phi of queries and keys, 0 for masked keys, both of shape (batch_size, num_heads, length, head_dim)."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    # elu(x) + 1, written so that small values keep their digits: elu(-20) + 1 is 0 in float32.
    query_features, key_features = (
        states.clamp(max=0).exp() + states.relu() for states in (query.to(dtype), key.to(dtype))
    )
    if padding_mask is not None:
        key_features = key_features.masked_fill(~padding_mask[:, None, :, None], 0.0)
    return query_features, _repeat_heads(key_features, query.shape[1])


def _causal_linear_sums(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, initial: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """phi(q) times the running sum of phi(k) v^T that starts from `initial`, at each position; and the last sum."""
    length = query.shape[2]
    num_chunks = -(-length // LINEAR_ATTENTION_CHUNK)
    padding = (0, 0, 0, num_chunks * LINEAR_ATTENTION_CHUNK - length)
    query, key, value = (
        nn.functional.pad(states, padding).unflatten(2, (num_chunks, LINEAR_ATTENTION_CHUNK))
        for states in (query, key, value)
    )  # (batch_size, num_heads, num_chunks, chunk, head_dim)
    chunk_sums = key.transpose(-1, -2) @ value
    first = torch.zeros_like(chunk_sums[:, :, :1]) if initial is None else initial[:, :, None]
    sums = torch.cat((first, chunk_sums), dim=2).cumsum(dim=2)
    result = (query @ key.transpose(-1, -2)).tril() @ value + query @ sums[:, :, :-1]
    return result.flatten(2, 3)[:, :, :length], sums[:, :, -1]


def _normalize(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    # The bound is far under any sum of features, and its square does not underflow in the gradient.
    return numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny ** 0.5)
