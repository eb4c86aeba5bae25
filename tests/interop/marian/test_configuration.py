# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A description becomes a config and back; a config that Marian cannot run is refused by its fields."""

from dataclasses import fields

import pytest

from hf_attn import HfAttnConfig
from hf_attn.interop.marian.configuration import config_fields, describe_config
from tests.interop.marian.examples import SHAPES, SMALL, VOCABULARY_SIZE


SIZES = (VOCABULARY_SIZE, VOCABULARY_SIZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_description_comes_back_from_its_config(shape):
    config = HfAttnConfig(**config_fields(SHAPES[shape]))
    assert describe_config(config, SIZES) == SHAPES[shape]
    assert (config.pad_token_id, config.decoder_start_token_id, config.vocab_size) == (320, 320, 321)


def test_two_vocabularies_have_one_padding_token():
    config = HfAttnConfig(**config_fields(SHAPES["own_embeddings"], has_two_vocabularies=True, eos_token_id=3))
    assert (config.vocab_size, config.decoder_vocab_size, config.pad_token_id, config.eos_token_id) == (
        321,
        321,
        320,
        3,
    )
    assert describe_config(config, (312, 320)).vocabulary_sizes == (312, 320)


def test_training_and_lengths_are_free():
    free = {"dropout": 0.3, "label_smoothing": 0.2, "max_position_embeddings": 77, "layer_norm_eps": 1e-5}
    assert describe_config(HfAttnConfig(**{**config_fields(SMALL), **free}), SIZES) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_layer_types": ["full_attention", "lstm"]}, "`encoder_layer_types`: layer 1 is `lstm`"),
        ({"decoder_layer_types": "gru"}, r"`decoder_layer_types` must be one of full_attention, ssru in all layers"),
        (
            {"decoder_layers": 2, "decoder_layer_types": ["ssru", "full_attention"]},
            "`decoder_layer_types` must be one",
        ),
        ({"position_embedding_type": "sinusoidal"}, "`position_embedding_type` must be 'sinusoidal_tensor2tensor'"),
        ({"activation_function": "tanh"}, "`activation_function` must be one of relu, silu, gelu, quick_gelu"),
        ({"norm_position": "none"}, "`norm_position` must be one of post, pre, got 'none'"),
        ({"norm_position": "pre", "decoder_layer_types": "full_attention"}, "`norm_position`: 'pre' needs `ssru`"),
        ({"encoder_ffn_dim": 0}, "`encoder_ffn_dim` must be at least 1, got 0"),
        ({"layer_norm_eps": 1e-3}, "`layer_norm_eps` must be at most 1e-05, got 0.001"),
        ({"head_dim": 32}, "`head_dim` must be `d_model` divided by the number of heads, got 32"),
        ({"decoder_attention_heads": 2}, "`decoder_attention_heads` must be 4, got 2"),
        ({"encoder_key_value_heads": 2}, "`encoder_key_value_heads` must be 4, got 2"),
        ({"use_bias": False}, "`attention_bias` must be True, got False; `use_bias` must be True, got False"),
        ({"gated_ffn": True}, "`gated_ffn` must be False, got True"),
        ({"scale_embedding": False}, "`scale_embedding` must be True, got False"),
        ({"scale_attention": False}, "`scale_attention` must be True, got False"),
        ({"normalize_embedding": True}, "`normalize_embedding` must be False, got True"),
        ({"copy_attention": True}, "`copy_attention` must be False, got True"),
        ({"cross_attention_type": "additive"}, "`cross_attention_type` must be 'scaled_dot_product', got 'additive'"),
        ({"decoder_start_token_id": 0}, "`decoder_start_token_id` must be `pad_token_id`, .* got 0 and 320"),
        ({"eos_token_id": [0, 1]}, r"`eos_token_id` must be one token, got \[0, 1\]"),
    ],
)
def test_a_config_that_marian_cannot_run_is_refused(changes, message):
    config = HfAttnConfig(**{**config_fields(SMALL), **changes})
    with pytest.raises(ValueError, match=f"Marian cannot run this model: .*{message}"):
        describe_config(config, SIZES)


def test_every_field_is_either_free_or_checked():
    from hf_attn.interop.marian.configuration import _FREE_FIELDS

    assert {field.name for field in fields(HfAttnConfig)} >= _FREE_FIELDS
