# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Each attention against a loop over rows, heads, queries and keys that follows the paper's formula."""

import math

import pytest
import torch

from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES
from hf_attn.modeling_attention import (
    AdditiveAttention,
    Attention,
    DotAttention,
    FixedContext,
    GeneralAttention,
    LinearAttention,
    SlidingAttention,
    padding_mask_of,
)
from hf_attn.modeling_layers import resolve_class
from tests.utils import tiny_config


def product_score(module, query, key, head):
    return query @ key / (math.sqrt(module.head_dim) if module.config.scale_attention else 1)


def additive_score(module, query, key, head):
    return module.score_vector[head] @ torch.tanh(query + key)


# How queries and keys come from the hidden states, and the score of one of each.
REFERENCES = {
    "scaled_dot_product": ("q_proj", "k_proj", product_score),
    "additive": ("q_proj", "k_proj", additive_score),
    "dot": (None, None, product_score),
    "general": (None, "k_proj", product_score),
}


def naive_attention(module, kind, hidden_states, source, is_visible):
    """Output (batch, queries, d_model) and weights; `is_visible` (batch, queries, keys)."""
    query_name, key_name, score = REFERENCES[kind]
    size = module.head_dim
    queries = hidden_states if query_name is None else getattr(module, query_name)(hidden_states)
    keys = source if key_name is None else getattr(module, key_name)(source)
    values = module.v_proj(source)
    rows = []
    weights = torch.zeros(hidden_states.shape[0], module.num_heads, hidden_states.shape[1], source.shape[1])
    for row in range(hidden_states.shape[0]):
        outputs = []
        for position in range(hidden_states.shape[1]):
            heads = []
            for head in range(module.num_heads):
                shared = head // module.num_key_value_groups
                visible = [place for place in range(source.shape[1]) if is_visible[row, position, place]]
                scores = torch.stack(
                    [
                        score(
                            module,
                            queries[row, position, head * size : (head + 1) * size],
                            keys[row, place, shared * size : (shared + 1) * size],
                            head,
                        )
                        for place in visible
                    ]
                )
                probabilities = scores.exp() / scores.exp().sum()
                weights[row, head, position, visible] = probabilities.detach()
                heads.append(
                    sum(
                        probability * values[row, place, shared * size : (shared + 1) * size]
                        for probability, place in zip(probabilities, visible, strict=True)
                    )
                )
            outputs.append(torch.cat(heads))
        rows.append(torch.stack(outputs))
    return module.out_proj(torch.stack(rows)), weights


def build(attention_class, heads=4, key_value_heads=None, is_causal=False, **overrides):
    config = tiny_config(heads=heads, decoder_key_value_heads=key_value_heads, **overrides)
    config._attn_implementation = "sdpa"
    module = attention_class.from_config(config, stack="decoder", layer_idx=0, is_causal=is_causal)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return config, module


def gradients(output, module, *inputs):
    weighted = (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    return torch.autograd.grad(weighted, [*module.parameters(), *inputs])


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("heads", [(1, 1), (4, 4), (4, 2)], ids=["one", "many", "grouped"])
@pytest.mark.parametrize("is_scaled", [True, False], ids=["scaled", "unscaled"])
@pytest.mark.parametrize("kind", REFERENCES)
def test_cross_attention_is_the_formula(kind, is_scaled, heads, backend):
    if kind == "dot" and heads == (4, 2):
        heads = (2, 2)  # without a key projection there is nothing to group
    attention_class = resolve_class(CROSS_ATTENTION_TYPES[kind].path)
    config, module = build(attention_class, *heads, cross_attention_type=kind, scale_attention=is_scaled)
    config._attn_implementation = backend
    hidden_states = torch.randn(2, 3, 16, requires_grad=True)
    source = torch.randn(2, 4, 16, requires_grad=True)
    padding_mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]])
    mask = attention_class.build_cross_attention_mask(config, hidden_states, source, padding_mask)
    output, weights = module(hidden_states, mask, key_value_states=source)
    is_visible = padding_mask[:, None].expand(-1, 3, -1)
    expected, expected_weights = naive_attention(module, kind, hidden_states, source, is_visible)
    torch.testing.assert_close(output, expected)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(
        gradients(output, module, hidden_states, source),
        gradients(expected, module, hidden_states, source),
        rtol=1e-5,
        atol=3e-5,
    )


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("attention_class", [Attention, SlidingAttention])
def test_self_attention_is_the_formula(attention_class, is_causal):
    config, module = build(attention_class, 4, 2, is_causal=is_causal, sliding_window=2)
    hidden_states = torch.randn(2, 5, 16, requires_grad=True)
    padding_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    mask = attention_class.build_mask(config, hidden_states, padding_mask, None, 0, is_causal)
    output, _ = module(hidden_states, mask)
    distance = torch.arange(5) - torch.arange(5)[:, None]
    pattern = distance <= 0 if is_causal else torch.ones(5, 5, dtype=torch.bool)
    if attention_class is SlidingAttention:
        # A window of 2: oneself and the one before, or one on each side.
        pattern = pattern & (distance >= -1) & (distance <= 1)
    is_visible = pattern[None] & padding_mask.bool()[:, None]
    expected, _ = naive_attention(module, "scaled_dot_product", hidden_states, hidden_states, is_visible)
    real = padding_mask.bool()
    torch.testing.assert_close(output[real], expected[real])
    torch.testing.assert_close(
        gradients(output[real], module, hidden_states), gradients(expected[real], module, hidden_states)
    )


@pytest.mark.parametrize("is_causal", [False, True])
def test_linear_attention_is_the_formula(is_causal):
    config, module = build(LinearAttention, 4, 2, is_causal=is_causal)
    hidden_states = torch.randn(2, 5, 16, requires_grad=True)
    padding_mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    mask = LinearAttention.build_mask(config, hidden_states, padding_mask, None, 0, is_causal)
    output, weights = module(hidden_states, mask, output_attentions=True)
    query, key, value = (
        projection(hidden_states).view(2, 5, -1, 4) for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    features = [torch.nn.functional.elu(states) + 1 for states in (query, key)]
    expected = torch.zeros(2, 5, 4, 4)
    for row in range(2):
        for position in range(5):
            places = [place for place in range(5) if padding_mask[row, place] and (place <= position or not is_causal)]
            for head in range(4) if places else ():
                scores = torch.stack(
                    [features[0][row, position, head] @ features[1][row, place, head // 2] for place in places]
                )
                shares = scores / scores.sum()
                expected[row, position, head] = shares @ value[row, places, head // 2]
                torch.testing.assert_close(weights[row, head, position, places], shares)
    expected = module.out_proj(expected.flatten(2))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients(output, module, hidden_states), gradients(expected, module, hidden_states))


def test_fixed_context_shows_every_position_the_pooled_context():
    config = tiny_config(cross_attention_type="none")
    module = FixedContext.from_config(config)
    pooled = torch.randn(2, 16)
    output, weights = module(torch.randn(2, 3, 16), pooled_context=pooled)
    assert weights is None
    assert output.shape == (2, 3, 16)
    for position in range(3):
        torch.testing.assert_close(output[:, position], pooled @ module.out_proj.weight.T + module.out_proj.bias)


def test_parameters_are_those_of_the_papers():
    names = {
        attention_class: {name for name, _ in build(attention_class)[1].named_parameters() if "bias" not in name}
        for attention_class in (Attention, AdditiveAttention, GeneralAttention, DotAttention)
    }
    value_and_output = {"v_proj.weight", "out_proj.weight"}
    assert names[DotAttention] == value_and_output
    assert names[GeneralAttention] == value_and_output | {"k_proj.weight"}
    assert names[Attention] == value_and_output | {"k_proj.weight", "q_proj.weight"}
    assert names[AdditiveAttention] == names[Attention] | {"score_vector"}


def test_pooling_is_the_mean_over_real_tokens():
    _, module = build(Attention)
    hidden_states = torch.randn(2, 4, 16)
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
    pooled = module.pool(hidden_states, mask)
    torch.testing.assert_close(pooled[0], hidden_states[0, :2].mean(0))
    torch.testing.assert_close(pooled[1], hidden_states[1, 1:].mean(0))
    torch.testing.assert_close(module.pool(hidden_states, None), hidden_states.mean(1))


def test_attention_dropout_acts_in_training_only():
    for backend in ("eager", "sdpa"):
        config, module = build(Attention, attention_dropout=0.5)
        config._attn_implementation = backend
        hidden_states = torch.randn(2, 6, 16)
        module.eval()
        assert torch.equal(module(hidden_states)[0], module(hidden_states)[0])
        module.train()
        assert not torch.allclose(module(hidden_states)[0], module(hidden_states)[0])


def test_masks_under_autocast_are_in_the_dtype_of_the_scores():
    config = tiny_config()
    config._attn_implementation = "eager"
    states, padding_mask = torch.randn(2, 5, config.d_model), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = [Attention.build_mask(config, states, padding_mask, None, 0, is_decoder) for is_decoder in (0, 1)]
        masks.append(Attention.build_cross_attention_mask(config, states, states, padding_mask))
    for mask in masks:
        assert mask.dtype == torch.bfloat16
        assert torch.isfinite(mask).all()


def test_masks_of_query_by_key_shape_are_refused_where_they_cannot_act():
    with pytest.raises(
        ValueError, match=r"`attention_mask` must be of shape \(batch_size, length\).*got \(1, 1, 3, 3\)"
    ):
        padding_mask_of(torch.zeros(1, 3, 16), torch.ones(1, 1, 3, 3))
