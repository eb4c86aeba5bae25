# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Mechanisms of a package of one's own: registered, built from a config, decoded by every search."""

import pytest
import torch
from torch import nn

import hf_attn
from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES
from hf_attn.generation import fast_generate
from hf_attn.modeling_attention import Attention
from hf_attn.modeling_recurrent import SSRUMixer
from tests.utils import tiny_batch, tiny_config, tiny_model


class CosineAttention(Attention):
    """10 cos(q, k)."""

    def attend(self, query, key, value, attention_mask, position_bias, **kwargs):
        query, key = (nn.functional.normalize(states, dim=-1) * 10**0.5 for states in (query, key))
        return super().attend(query, key, value, attention_mask, position_bias, **kwargs)


class BoundedMixer(SSRUMixer):
    """An SSRU whose outputs are bounded."""

    def _mix(self, hidden_states, attention_mask, states, keep_states):
        outputs, states = super()._mix(hidden_states, attention_mask, states, keep_states)
        return outputs.tanh(), states


@pytest.fixture
def registered(monkeypatch):
    for registry in (LAYER_TYPES, CROSS_ATTENTION_TYPES):
        for name, line in dict(registry).items():
            monkeypatch.setitem(registry, name, line)
    hf_attn.register_layer_type("bounded_ssru", BoundedMixer, carries_state=True)
    hf_attn.register_cross_attention("plugin_cosine", CosineAttention)
    yield
    del LAYER_TYPES["bounded_ssru"], CROSS_ATTENTION_TYPES["plugin_cosine"]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_registered_mechanisms_compute_and_decode(registered, num_beams):
    config = tiny_config(
        decoder_layer_types=["bounded_ssru", "full_attention"], cross_attention_type="plugin_cosine", logits_bias=True
    )
    model = tiny_model(config)
    first = model.model.decoder.layers[0]
    assert type(first.mixer) is BoundedMixer and type(first.encoder_attn) is CosineAttention
    batch = tiny_batch(config)
    assert model(**batch).loss.isfinite()
    del batch["labels"]
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    expected = model.generate(**batch, **options)
    assert torch.equal(model.generate(**batch, **options, custom_generate=fast_generate), expected)
    uncached = model.generate(**batch, **options, use_cache=False)
    assert torch.equal(uncached, expected)


def test_names_that_are_taken_or_no_words_are_refused(registered):
    hf_attn.register_layer_type("bounded_ssru", BoundedMixer, carries_state=True)  # the same again
    with pytest.raises(
        ValueError, match="`name` of `register_layer_type` must not be taken by another class, got 'lstm'"
    ):
        hf_attn.register_layer_type("lstm", BoundedMixer)
    with pytest.raises(ValueError, match=r"`name` of `register_cross_attention` must be a word, such as .*'a b'"):
        hf_attn.register_cross_attention("a b", CosineAttention)


def test_a_config_of_a_mechanism_that_is_not_registered_is_refused():
    with pytest.raises(
        ValueError, match=r"`decoder_layer_types` must be one of full_attention, .*, got 'bounded_ssru'"
    ):
        tiny_config(decoder_layer_types="bounded_ssru")
