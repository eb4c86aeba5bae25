# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Windowed and linear attention against slow dense references: outputs, gradients, and growth with the length."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

from hf_attn import modeling_efficient_attention
from hf_attn.modeling_efficient_attention import (
    linear_attention,
    linear_attention_weights,
    sliding_window_attention,
    sliding_window_mask,
)
from tests.utils import pairwise


HEAD_DIM = 4
PADDINGS = ("none", "full", "left", "right", "holes", "all_padding")
WINDOWS = ((3, 3), (2, 5), (7, 0), (0, 0), (13, 11), (100, 100), (100, 0))
BACKENDS = {"eager": eager_attention_forward, "sdpa": sdpa_attention_forward}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 queries, so that short sequences have many."""
    monkeypatch.setattr(modeling_efficient_attention, "SMALLEST_BLOCK", 8)
    monkeypatch.setattr(modeling_efficient_attention, "LARGEST_BLOCK", 8)


def make_inputs(
    length: int, num_heads: int = 2, num_key_value_heads: int = 2, batch_size: int = 3, dtype=torch.float64
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(batch_size, heads, length, HEAD_DIM, generator=generator, dtype=dtype).requires_grad_()
        for heads in (num_heads, num_key_value_heads, num_key_value_heads)
    ]


def make_padding(kind: str, length: int, batch_size: int = 3) -> torch.Tensor | None:
    if kind == "none":
        return None
    mask = torch.ones(batch_size, length, dtype=torch.bool)
    for row in range(1, batch_size):
        amount = min(length - 1, row * length // batch_size)
        if kind == "left":
            mask[row, :amount] = False
        elif kind == "right":
            mask[row, length - amount :] = False
        elif kind == "holes":
            mask[row, row :: row + 1] = False
            mask[row, length // 3 : length // 2] = False
        elif kind == "all_padding":
            mask[row] = False
    return mask


def bind_attention(backend: str, num_heads: int = 2, num_key_value_heads: int = 2) -> Callable:
    """transformers' attention function as an attention module calls it."""
    module = SimpleNamespace(num_key_value_groups=num_heads // num_key_value_heads, is_causal=False, training=False)
    scaling = HEAD_DIM**-0.5

    def attention_function(query, key, value, attention_mask):
        return BACKENDS[backend](module, query, key, value, attention_mask, scaling=scaling, dropout=0.0)

    return attention_function


def reference_mask(
    length: int, left: int, right: int, padding_mask: torch.Tensor | None, num_global_tokens: int
) -> torch.Tensor:
    """Which key each query sees, read off the definition pair by pair."""
    rows = [[True] * length] if padding_mask is None else padding_mask.tolist()
    result = torch.zeros(len(rows), 1, length, length, dtype=torch.bool)
    for row, real in enumerate(rows):
        global_tokens = [position for position in range(length) if real[position]][:num_global_tokens]
        for query in range(length):
            for key in range(length):
                sees = query - left <= key <= query + right or key in global_tokens
                if right > 0:
                    sees = sees or query in global_tokens
                else:
                    sees = sees and key <= query
                result[row, 0, query, key] = sees and real[key]
    return result


def reference_softmax_attention(query, key, value, mask, bias=None):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * HEAD_DIM**-0.5
    if bias is not None:
        scores = scores + bias
    exponentials = (scores - scores.amax(dim=-1, keepdim=True)).exp() * mask
    weights = exponentials / exponentials.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return (weights @ value).transpose(1, 2)


def reference_linear_attention(query, key, value, padding_mask, is_causal):
    """Katharopoulos et al. 2020, equation 4, one query and one key at a time; also the weights."""
    batch_size, num_heads, length, _ = query.shape
    groups = num_heads // key.shape[1]
    query, key = nn.functional.elu(query) + 1, nn.functional.elu(key) + 1
    weights = torch.zeros(batch_size, num_heads, length, length, dtype=query.dtype)
    for row in range(batch_size):
        for position in range(length):
            for other in range(position + 1 if is_causal else length):
                if padding_mask is None or padding_mask[row, other]:
                    keys = key[row, :, other].repeat_interleave(groups, dim=0)
                    weights[row, :, position, other] = (query[row, :, position] * keys).sum(-1)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return (weights @ value.repeat_interleave(groups, dim=1)).transpose(1, 2), weights


def assert_same_with_gradients(
    actual: torch.Tensor, expected: torch.Tensor, leaves: list[torch.Tensor], tolerance: float = 1e-9
) -> None:
    upstream = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view(expected.shape).cos()
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    actual_gradients = torch.autograd.grad(actual, leaves, upstream)
    expected_gradients = torch.autograd.grad(expected, leaves, upstream)
    for actual_gradient, expected_gradient in zip(actual_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(actual_gradient, expected_gradient, rtol=tolerance, atol=tolerance)


def table_bias(table: torch.Tensor) -> Callable:
    """A learned bias per head and distance, from `table` of shape (num_heads, 2 * largest distance + 1)."""
    largest = table.shape[1] // 2
    return lambda distances: table[:, distances.clamp(-largest, largest) + largest]


@pairwise({"left, right": WINDOWS, "num_global_tokens": (0, 1, 5, 50), "padding": PADDINGS})
def test_sliding_window_mask_follows_its_definition(left, right, num_global_tokens, padding):
    padding_mask = make_padding(padding, 17)
    mask = sliding_window_mask(17, left, right, padding_mask, num_global_tokens)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, reference_mask(17, left, right, padding_mask, num_global_tokens))


@pairwise({"length": (1, 29, 40), "left, right": WINDOWS, "num_global_tokens": (0, 1, 5, 50), "padding": PADDINGS})
def test_sliding_window_equals_dense_reference(small_blocks, length, left, right, num_global_tokens, padding):
    inputs = make_inputs(length)
    padding_mask = make_padding(padding, length)
    actual = sliding_window_attention(
        *inputs,
        left=left,
        right=right,
        padding_mask=padding_mask,
        num_global_tokens=num_global_tokens,
        relative_bias=None,
        attention_function=bind_attention("sdpa"),
    )
    mask = sliding_window_mask(length, left, right, padding_mask, num_global_tokens)
    assert_same_with_gradients(actual, reference_softmax_attention(*inputs, mask), inputs)


@pairwise(
    {
        "padding": ("none", "left", "all_padding"),
        "left, right": ((4, 4), (7, 0)),
        "num_global_tokens": (0, 2),
        "num_key_value_heads": (1, 2, 4),
        "backend": BACKENDS,
    }
)
def test_sliding_window_with_bias_and_grouped_heads(
    small_blocks, padding, left, right, num_global_tokens, num_key_value_heads, backend
):
    inputs = make_inputs(37, num_heads=4, num_key_value_heads=num_key_value_heads)
    padding_mask = make_padding(padding, 37)
    table = torch.randn(4, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    positions = torch.arange(37)
    actual = sliding_window_attention(
        *inputs,
        left=left,
        right=right,
        padding_mask=padding_mask,
        num_global_tokens=num_global_tokens,
        relative_bias=table_bias(table),
        attention_function=bind_attention(backend, 4, num_key_value_heads),
    )
    mask = sliding_window_mask(37, left, right, padding_mask, num_global_tokens)
    bias = table_bias(table)(positions - positions[:, None])
    # transformers' eager attention takes its softmax in float32, whatever the inputs are.
    tolerance = 1e-9 if backend == "sdpa" else 1e-5
    expected = reference_softmax_attention(*inputs, mask, bias)
    assert_same_with_gradients(actual, expected, [*inputs, table], tolerance)


@pairwise(
    {
        "length, left, right": ((128, 32, 32), (129, 32, 32), (321, 16, 16), (513, 128, 128), (600, 255, 0)),
        "padding": ("none", "left"),
        "backend": BACKENDS,
    }
)
def test_sliding_window_with_blocks_of_real_size_in_float32(length, left, right, padding, backend):
    inputs = make_inputs(length, batch_size=2, dtype=torch.float32)
    padding_mask = make_padding(padding, length, batch_size=2)
    actual = sliding_window_attention(
        *inputs,
        left=left,
        right=right,
        padding_mask=padding_mask,
        num_global_tokens=3,
        relative_bias=None,
        attention_function=bind_attention(backend),
    )
    mask = sliding_window_mask(length, left, right, padding_mask, 3)
    assert_same_with_gradients(actual, reference_softmax_attention(*inputs, mask), inputs, tolerance=1e-5)


@pytest.mark.parametrize(("left", "right"), [(3, 3), (5, 0)])
def test_sliding_window_ignores_where_the_padding_is(small_blocks, left, right):
    inputs = make_inputs(30, batch_size=1)
    settings = {"left": left, "right": right, "num_global_tokens": 2, "relative_bias": None}
    settings["attention_function"] = bind_attention("sdpa")
    alone = sliding_window_attention(*inputs, padding_mask=None, **settings)
    for before, after in ((9, 0), (0, 11), (3, 14)):
        padded = [nn.functional.pad(states, (0, 0, before, after), value=100.0) for states in inputs]
        padding_mask = torch.zeros(1, 30 + before + after, dtype=torch.bool)
        padding_mask[:, before : before + 30] = True
        output = sliding_window_attention(*padded, padding_mask=padding_mask, **settings)
        torch.testing.assert_close(output[:, before : before + 30], alone, rtol=1e-12, atol=1e-12)


@pairwise({"left, right": ((3, 3), (5, 0)), "dtype": (torch.bfloat16, torch.float16), "backend": BACKENDS})
def test_sliding_window_in_half_precision_is_finite_and_close(small_blocks, left, right, dtype, backend):
    inputs = make_inputs(40, dtype=torch.float32)
    # Scores of -20 and below: the lowest float16 plus such a score is minus infinity.
    inputs = [(4 * states.detach()).to(dtype).requires_grad_() for states in inputs]
    table = torch.randn(2, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    padding_mask = make_padding("all_padding", 40)
    output = sliding_window_attention(
        *inputs,
        left=left,
        right=right,
        padding_mask=padding_mask,
        num_global_tokens=2,
        relative_bias=table_bias(table),
        attention_function=bind_attention(backend),
    )
    assert output.dtype == dtype
    assert not output[1:].any()
    positions = torch.arange(40)
    expected = reference_softmax_attention(
        *(states.float() for states in inputs),
        sliding_window_mask(40, left, right, padding_mask, 2),
        table_bias(table)(positions - positions[:, None]),
    )
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.15)
    for gradient in torch.autograd.grad(output.float().square().sum(), [*inputs, table]):
        assert gradient.isfinite().all()


@pairwise({"length": (1, 5, 8, 21), "num_key_value_heads": (1, 2, 4), "is_causal": (True, False), "padding": PADDINGS})
def test_linear_attention_equals_dense_reference(monkeypatch, length, num_key_value_heads, is_causal, padding):
    monkeypatch.setattr(modeling_efficient_attention, "LINEAR_ATTENTION_CHUNK", 4)
    inputs = make_inputs(length, num_heads=4, num_key_value_heads=num_key_value_heads)
    padding_mask = make_padding(padding, length)
    actual, state = linear_attention(*inputs, is_causal=is_causal, padding_mask=padding_mask)
    expected, expected_weights = reference_linear_attention(*inputs, padding_mask, is_causal)
    assert_same_with_gradients(actual, expected, inputs)
    assert [part.shape for part in state] == [(3, 4, HEAD_DIM, HEAD_DIM), (3, 4, HEAD_DIM)]

    weights = linear_attention_weights(*inputs[:2], is_causal=is_causal, padding_mask=padding_mask)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-9, atol=1e-9)
    total = weights.sum(dim=-1)
    sees_something = expected_weights.sum(dim=-1) > 0
    torch.testing.assert_close(total, sees_something.to(total.dtype), rtol=1e-9, atol=1e-9)
    if padding_mask is not None:
        assert not weights.masked_select(~padding_mask[:, None, None, :]).any()


@pytest.mark.parametrize("padding", ["none", "left", "holes"])
@pytest.mark.parametrize("length", [63, 64, 65, 128, 200])
def test_causal_linear_attention_across_chunk_boundaries(length, padding):
    inputs = make_inputs(length, dtype=torch.float32)
    padding_mask = make_padding(padding, length)
    actual, _ = linear_attention(*inputs, is_causal=True, padding_mask=padding_mask)
    weights = linear_attention_weights(*inputs[:2], is_causal=True, padding_mask=padding_mask)
    assert_same_with_gradients(actual, (weights @ inputs[2]).transpose(1, 2), inputs, tolerance=1e-5)


@pytest.mark.parametrize("padding", ["none", "left", "right", "all_padding"])
@pytest.mark.parametrize("cuts", [[1] * 21, [9, 12], [4, 1, 1, 15], [20, 1]])
def test_linear_attention_state_carried_over_pieces_equals_the_whole(monkeypatch, cuts, padding):
    monkeypatch.setattr(modeling_efficient_attention, "LINEAR_ATTENTION_CHUNK", 4)
    inputs = make_inputs(21)
    padding_mask = make_padding(padding, 21)
    whole, whole_state = linear_attention(*inputs, is_causal=True, padding_mask=padding_mask)
    state, outputs, start = None, [], 0
    for size in cuts:
        piece = slice(start, start + size)
        output, state = linear_attention(
            *(states[:, :, piece] for states in inputs),
            is_causal=True,
            padding_mask=None if padding_mask is None else padding_mask[:, piece],
            state=state,
        )
        outputs.append(output)
        start += size
    assert start == 21
    assert_same_with_gradients(torch.cat(outputs, dim=1), whole, inputs)
    for actual, expected in zip(state, whole_state, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_linear_attention_state_does_not_keep_the_sums_of_all_chunks_alive():
    _, state = linear_attention(*make_inputs(300), is_causal=True)
    for part in state:
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


@pytest.mark.parametrize("is_causal", [True, False])
def test_linear_attention_computes_in_float32_under_autocast_and_for_bfloat16(is_causal):
    inputs = make_inputs(90, dtype=torch.float32)
    exact, exact_state = linear_attention(*inputs, is_causal=is_causal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast, _ = linear_attention(*inputs, is_causal=is_causal)
    assert torch.equal(autocast, exact)

    halves = [states.detach().bfloat16().requires_grad_() for states in inputs]
    output, state = linear_attention(*halves, is_causal=is_causal)
    assert output.dtype == torch.bfloat16 and {part.dtype for part in state} == {torch.float32}
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
    torch.testing.assert_close(state[0], exact_state[0], rtol=0.05, atol=0.2)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.float().sum(), halves))


@pytest.mark.parametrize("is_causal", [True, False])
def test_linear_attention_is_finite_for_very_negative_features(is_causal):
    inputs = [(states.detach() - 40).requires_grad_() for states in make_inputs(70, dtype=torch.float32)]
    output, _ = linear_attention(*inputs, is_causal=is_causal)
    assert output.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def largest_tensor(function: Callable, length: int) -> int:
    """The largest tensor of forward and backward."""
    inputs = make_inputs(length, batch_size=2, dtype=torch.float32)
    with LargestTensor() as recorder:
        function(*inputs, make_padding("left", length, batch_size=2)).sum().backward()
    assert all(states.grad is not None for states in inputs)
    return recorder.numel


def windowed(left: int, right: int, backend: str, with_bias: bool = False) -> Callable:
    table = torch.zeros(2, 21, requires_grad=True)
    return lambda query, key, value, padding_mask: sliding_window_attention(
        query,
        key,
        value,
        left=left,
        right=right,
        padding_mask=padding_mask,
        num_global_tokens=2,
        relative_bias=table_bias(table) if with_bias else None,
        attention_function=bind_attention(backend),
    )


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(windowed(32, 32, "eager"), id="window-eager"),
        pytest.param(windowed(32, 32, "sdpa"), id="window-sdpa"),
        pytest.param(windowed(63, 0, "eager"), id="window-causal"),
        pytest.param(windowed(32, 32, "eager", with_bias=True), id="window-bias"),
        pytest.param(lambda *inputs: linear_attention(*inputs[:3], is_causal=True)[0], id="linear-causal"),
        pytest.param(
            lambda *inputs: linear_attention(*inputs[:3], is_causal=False, padding_mask=inputs[3])[0], id="linear"
        ),
    ],
)
def test_no_tensor_grows_faster_than_the_length(function):
    short, long = largest_tensor(function, 2048), largest_tensor(function, 4096)
    assert short < 2048 * 2048
    assert long <= 2.2 * short


def test_the_dense_maps_do_grow_as_length_squared():
    """The recorder of the test above sees such a tensor when there is one."""

    def dense(query, key, value, padding_mask):
        weights = linear_attention_weights(query, key, is_causal=True, padding_mask=padding_mask)
        return weights @ value

    assert largest_tensor(dense, 512) > 3.9 * largest_tensor(dense, 256)


@pytest.mark.parametrize(
    "function",
    [
        lambda *inputs, padding_mask: windowed(1, 1, "eager")(*inputs, padding_mask),
        lambda *inputs, padding_mask: linear_attention(*inputs, is_causal=True, padding_mask=padding_mask),
        lambda *inputs, padding_mask: linear_attention_weights(*inputs[:2], is_causal=True, padding_mask=padding_mask),
    ],
)
def test_bad_inputs_are_refused(function):
    query, key, value = make_inputs(6)
    with pytest.raises(ValueError, match="`key` must be as long as `query`, got lengths 6 and 2"):
        function(query[:, :, :2], key, value, padding_mask=None)
    with pytest.raises(TypeError, match=r"`padding_mask` must be of dtype torch.bool .* got torch.int64"):
        function(query, key, value, padding_mask=torch.ones(3, 6, dtype=torch.long))
