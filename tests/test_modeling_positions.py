# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Each position scheme against the paper's formula or transformers' own code."""

import math

import pytest
import torch
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.t5.modeling_t5 import T5Attention

from hf_attn.configuration_mechanisms import POSITION_EMBEDDING_TYPES
from hf_attn.modeling_layers import resolve_class
from hf_attn.modeling_positions import SinusoidalPositions, Tensor2TensorPositions, rotate
from tests.utils import tiny_batch, tiny_config, tiny_model


def scheme(name, bidirectional=True, d_model=16, num_heads=4, num_buckets=8, max_distance=20):
    return resolve_class(POSITION_EMBEDDING_TYPES[name].path)(
        d_model=d_model,
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        max_positions=32,
        bidirectional=bidirectional,
        rope_theta=10000.0,
        num_buckets=num_buckets,
        max_distance=max_distance,
        num_layers=2,
    ).of_layer(1)


def test_each_scheme_acts_in_one_place():
    places = torch.arange(5)[None]
    acting = {}
    for name in POSITION_EMBEDDING_TYPES:
        positions = scheme(name)
        answers = positions(places), positions.rotations(places), positions.score_bias(places)
        acting[name] = [answer is not None for answer in answers]
        assert positions.biases_scores == acting[name][2]
    assert acting == {
        "sinusoidal": [True, False, False],
        "sinusoidal_tensor2tensor": [True, False, False],
        "learned": [True, False, False],
        "rope": [False, True, False],
        "relative_bias": [False, False, True],
        "layer_relative_bias": [False, False, True],
        "alibi": [False, False, True],
        "none": [False, False, False],
    }


@pytest.mark.parametrize(("length", "d_model"), [(32, 16), (1000, 512), (40, 33)])
def test_sinusoids_are_transformers(length, d_model):
    marian = MarianSinusoidalPositionalEmbedding(length, d_model).create_weight()
    assert torch.equal(SinusoidalPositions.sinusoids(length, d_model), marian)
    m2m100 = M2M100SinusoidalPositionalEmbedding.get_embedding(length, d_model)
    assert torch.equal(Tensor2TensorPositions.sinusoids(length, d_model), m2m100)


def test_an_offset_moves_the_sinusoids():
    fields = {"d_model": 16, "num_heads": 4, "head_dim": 4, "bidirectional": True, "rope_theta": 1e4}
    positions = Tensor2TensorPositions(**fields, max_positions=10, num_buckets=8, max_distance=20, position_offset=3)
    assert torch.equal(positions(torch.arange(10)), Tensor2TensorPositions.sinusoids(13, 16)[3:])


def test_sinusoids_are_those_of_the_paper():
    positions = scheme("sinusoidal")
    # Vaswani et al. 2017: PE(pos, 2i) = sin(pos / 10000^(2i / d)), here in the first half of the channels.
    assert positions(torch.tensor([7]))[0, 3].item() == pytest.approx(math.sin(7 / 10000 ** (6 / 16)), abs=1e-6)


def test_rotation_turns_pairs_and_keeps_relative_products():
    positions = scheme("rope", d_model=32)
    query, key = torch.randn(1, 4, 1, 8), torch.randn(1, 4, 1, 8)

    def product(query_place, key_place):
        turned = [
            rotate(states, positions.rotations(torch.tensor([[place]])))
            for states, place in ((query, query_place), (key, key_place))
        ]
        return (turned[0] * turned[1]).sum(-1)

    torch.testing.assert_close(product(3, 5), product(10, 12))
    assert not torch.allclose(product(3, 5), product(3, 6))
    # Su et al. 2021, equation 15, channel i paired with channel i + 4.
    turned = rotate(query, positions.rotations(torch.tensor([[3]])))[0, 0, 0]
    for pair in range(4):
        angle = 3 * 10000 ** (-2 * pair / 8)
        first, second = query[0, 0, 0, pair], query[0, 0, 0, pair + 4]
        assert turned[pair].item() == pytest.approx(
            (first * math.cos(angle) - second * math.sin(angle)).item(), abs=1e-5
        )
        assert turned[pair + 4].item() == pytest.approx(
            (first * math.sin(angle) + second * math.cos(angle)).item(), abs=1e-5
        )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(8, 20), (32, 128), (6, 12)])
def test_buckets_are_t5s(bidirectional, num_buckets, max_distance):
    positions = scheme("relative_bias", bidirectional, num_buckets=num_buckets, max_distance=max_distance)
    distances = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(distances, bidirectional, num_buckets, max_distance)
    assert torch.equal(positions.buckets(distances), expected)
    bias = positions.score_bias(distances[None])
    assert bias.shape == (4, 1, 601)
    torch.testing.assert_close(bias[2, 0], positions.embedding.weight[expected, 2])


def test_alibi_slopes_are_those_of_the_paper():
    # Press et al. 2022, section 3: for 8 heads 1/2, 1/4, ..., 1/256.
    bias = scheme("alibi", num_heads=8).score_bias(torch.tensor([-3, 0, 2]))
    slopes = 2.0 ** -torch.arange(1, 9)
    torch.testing.assert_close(bias, -slopes[:, None] * torch.tensor([3.0, 0.0, 2.0]))


@pytest.mark.parametrize("name", POSITION_EMBEDDING_TYPES)
def test_order_matters_where_there_are_positions(name):
    config = tiny_config(position_embedding_type=name)
    encoder = tiny_model(config).get_encoder()
    ids = tiny_batch(config, padding=None)["input_ids"]
    order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(1))
    states, shuffled = encoder(ids).last_hidden_state, encoder(ids[:, order]).last_hidden_state
    assert torch.allclose(states[:, order], shuffled, atol=1e-5) == (name == "none")


@pytest.mark.parametrize(
    ("name", "limited"),
    [(name, "sinusoidal" in name or name == "learned") for name in POSITION_EMBEDDING_TYPES],
)
def test_sequences_longer_than_the_positions(name, limited):
    config = tiny_config(position_embedding_type=name, max_position_embeddings=8)
    model = tiny_model(config)
    batch = tiny_batch(config, source_length=9, target_length=9, padding=None)
    short = tiny_batch(config, source_length=8, target_length=8, padding=None)
    model(**short)
    if not limited:
        model(**batch)
        return
    with pytest.raises(
        ValueError, match="The source has 9 tokens, `max_position_embeddings` allows 8 with `position_"
    ):
        model(input_ids=batch["input_ids"], labels=short["labels"])
    with pytest.raises(ValueError, match=f"The target has 9 tokens.*'{name}'.*truncation=True, max_length=8"):
        model(input_ids=short["input_ids"], labels=batch["labels"])
    with pytest.raises(ValueError, match="The target has 9 tokens"):
        model.generate(short["input_ids"], max_new_tokens=12, min_new_tokens=12)
