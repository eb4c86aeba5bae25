# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The cache layers of recurrent states, and caches that were built elsewhere."""

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer

from hf_attn.modeling_cache import RecurrentCacheLayer, StaticRecurrentCacheLayer, adapt_cache, build_cache
from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import tiny_batch, tiny_config, tiny_model


MIXED = {"decoder_layers": 3, "decoder_layer_types": ["lstm", "sliding_attention", "full_attention"]}


def filled(layer_class=RecurrentCacheLayer, **kwargs):
    layer = layer_class(**kwargs)
    layer.update_states((torch.arange(6.0).view(3, 2), torch.arange(3.0).view(3, 1)), 4)
    return layer


@pytest.mark.parametrize("layer_class", [RecurrentCacheLayer, StaticRecurrentCacheLayer])
def test_states_are_kept_counted_and_forgotten(layer_class):
    layer = layer_class(max_cache_len=9)
    assert layer.get_seq_length() == 0
    assert not layer.is_initialized
    layer.update_states((torch.ones(3, 2),), 4)
    layer.update_states((torch.zeros(3, 2),), 1)
    assert layer.get_seq_length() == 5
    assert torch.equal(layer.states[0], torch.zeros(3, 2))
    layer.reset()
    assert layer.get_seq_length() == 0
    assert layer.states is None


def test_beams_reorder_repeat_and_select_rows():
    layer = filled()
    layer.reorder_cache(torch.tensor([2, 0, 0]))
    assert layer.states[0].tolist() == [[4, 5], [0, 1], [0, 1]]
    assert layer.states[1].tolist() == [[2], [0], [0]]
    layer.batch_select_indices(torch.tensor([0, 1]))
    layer.batch_repeat_interleave(2)
    assert layer.states[1].tolist() == [[2], [2], [0], [0]]


def test_a_static_layer_keeps_its_tensors():
    layer = filled(StaticRecurrentCacheLayer, max_cache_len=9)
    addresses = [state.data_ptr() for state in layer.states]
    layer.update_states((torch.zeros(3, 2), torch.ones(3, 1)), 1)
    assert [state.data_ptr() for state in layer.states] == addresses
    assert layer.states[0].sum() == 0
    assert layer.get_mask_sizes(1) == (9, 0)
    assert layer.get_max_length() == 9
    assert filled().get_max_length() == -1


def test_what_a_state_cannot_do_is_refused():
    layer = filled()
    layer.crop(0)
    assert layer.get_seq_length() == 4
    with pytest.raises(ValueError, match="A recurrent or linear-attention state cannot be cropped: it holds no past"):
        layer.crop(-1)
    with pytest.raises(TypeError, match="A recurrent cache layer holds no keys and values"):
        layer.update(torch.zeros(1), torch.zeros(1))
    with pytest.raises(TypeError, match="A recurrent cache layer holds no keys and values"):
        layer.lazy_initialization(torch.zeros(1), torch.zeros(1))


def test_caches_follow_the_layer_types():
    config = tiny_config(**MIXED)
    built = build_cache(config)
    assert [type(layer) for layer in built.self_attention_cache.layers] == [
        RecurrentCacheLayer,
        DynamicSlidingWindowLayer,
        DynamicLayer,
    ]
    static = StaticCache(config=config, max_cache_len=12)
    assert [type(layer) for layer in static.layers] == [
        StaticRecurrentCacheLayer,
        StaticSlidingWindowLayer,
        StaticLayer,
    ]


def test_caches_built_elsewhere_are_adapted():
    config = tiny_config(**MIXED)
    for plain in (DynamicCache(), EncoderDecoderCache(DynamicCache(), DynamicCache(config=config))):
        adapted = adapt_cache(plain, config, source_length=5)
        assert isinstance(adapted, EncoderDecoderCache)
        assert isinstance(adapted.self_attention_cache.layers[0], RecurrentCacheLayer)
        assert len(adapted.self_attention_cache.layers) == 3
        assert {type(layer) for layer in adapted.cross_attention_cache.layers} <= {DynamicLayer}
    static = EncoderDecoderCache(
        StaticCache(config=config, max_cache_len=12), StaticCache(config=config, max_cache_len=12)
    )
    self_attention_layers = list(static.self_attention_cache.layers)
    assert adapt_cache(static, config, source_length=5) is static
    assert static.self_attention_cache.layers == self_attention_layers
    # The source has no window and no state, and its own size; what fits stays.
    assert [(type(layer), layer.max_cache_len) for layer in static.cross_attention_cache.layers] == [
        (StaticLayer, 5),
        (StaticLayer, 5),
        (StaticLayer, 12),
    ]


def test_keys_in_the_place_of_a_state_are_refused():
    config = tiny_config(**MIXED)
    cache = DynamicCache()
    for layer_idx in range(3):
        cache.update(torch.zeros(1, 4, 2, 4), torch.zeros(1, 4, 2, 4), layer_idx)
    with pytest.raises(ValueError, match=f"`{CACHE_NAME}` holds keys and values for decoder layer 0, a `lstm`"):
        adapt_cache(cache, config)


def test_a_plain_dynamic_cache_serves_generation_steps():
    config = tiny_config(**MIXED)
    model = tiny_model(config)
    batch = tiny_batch(config, padding=None)
    ids = batch["labels"]
    expected = model(input_ids=batch["input_ids"], decoder_input_ids=ids, use_cache=False).logits
    past = DynamicCache()
    first = model(input_ids=batch["input_ids"], decoder_input_ids=ids[:, :3], cache=past, use_cache=True)
    second = model(input_ids=batch["input_ids"], decoder_input_ids=ids[:, 3:], cache=first[CACHE_NAME])
    torch.testing.assert_close(torch.cat((first.logits, second.logits), dim=1), expected, atol=1e-5, rtol=1e-5)


def test_a_static_cache_serves_global_tokens_of_padded_decoder_inputs():
    model = tiny_model(tiny_config(decoder_layer_types="sliding_attention", global_attention_tokens=2))
    source = tiny_batch(model.config, batch_size=2, padding=None)["input_ids"]
    prompt = {
        "decoder_input_ids": torch.tensor([[2, 5, 6], [1, 2, 7]]),
        "decoder_attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]]),
    }
    options = {"max_new_tokens": 9, "min_new_tokens": 9, "output_logits": True, "return_dict_in_generate": True}
    expected = model.generate(source, **prompt, **options, use_cache=False)
    found = model.generate(source, **prompt, **options, cache_implementation="static", disable_compile=True)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
