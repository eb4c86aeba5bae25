# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Defaults, presets, derived values, round trips and refusals of `HfAttnConfig`."""

import json
import logging
import re
from pathlib import Path

import pytest
from transformers import AutoConfig

from hf_attn import PRESETS, HfAttnConfig
from tests.utils import tiny_config


def test_defaults():
    config = HfAttnConfig()
    expected = {
        "vocab_size": 32000,
        "d_model": 512,
        "max_position_embeddings": 1024,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_layer_types": ["full_attention"] * 6,
        "decoder_layer_types": ["full_attention"] * 6,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
        "encoder_key_value_heads": 8,
        "decoder_key_value_heads": 8,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
        "cross_attention_type": "scaled_dot_product",
        "sliding_window": 256,
        "global_attention_tokens": 0,
        "bidirectional_encoder": True,
        "position_embedding_type": "sinusoidal",
        "norm_type": "layernorm",
        "norm_position": "pre",
        "activation_function": "relu",
        "gated_ffn": False,
        "use_bias": True,
        "scale_embedding": True,
        "tie_word_embeddings": True,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "label_smoothing": 0.0,
        "copy_attention": False,
        "coverage_loss_weight": 0.0,
        "match_embedding": False,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.hidden_size == 512
    assert config.num_hidden_layers == 6
    assert config.num_attention_heads == 8
    assert config.is_encoder_decoder


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_take_overrides(name):
    config = HfAttnConfig.from_preset(name, vocab_size=100)
    assert config.vocab_size == 100
    for field, value in PRESETS[name].items():
        expected = [value] * config.encoder_layers if field == "encoder_layer_types" else value
        expected = [value] * config.decoder_layers if field == "decoder_layer_types" else expected
        assert getattr(config, field) == expected
    assert HfAttnConfig.from_preset(name, dropout=0.3).dropout == 0.3


def test_presets_are_those_that_are_documented():
    assert list(PRESETS) == [
        "bahdanau2015",
        "luong2015",
        "transformer_tiny",
        "transformer_base",
        "hybrid_tiny",
        "hybrid_ssru",
        "hybrid_lstm",
        "long_encoder",
    ]
    folder = Path(__file__).parents[1] / "recipes" / "models"
    assert {path.stem for path in folder.glob("*.json")} >= set(PRESETS)
    for name in PRESETS:
        written = json.loads((folder / f"{name}.json").read_text())
        assert HfAttnConfig(**written).to_diff_dict() == HfAttnConfig.from_preset(name).to_diff_dict()


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name, tmp_path):
    config = HfAttnConfig.from_preset(name)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is HfAttnConfig
    ignored = {"_name_or_path", "transformers_version", "auto_map"}
    written, read = (
        {key: value for key, value in each.to_dict().items() if key not in ignored} for each in (config, loaded)
    )
    assert read == written
    assert HfAttnConfig(**config.to_diff_dict()).to_dict() == config.to_dict()


def test_layer_types_of_caches():
    config = tiny_config(
        encoder_layers=1, decoder_layers=3, decoder_layer_types=["lstm", "sliding_attention", "full_attention"]
    )
    types = config.get_text_config(decoder=True).layer_types
    assert types == ["hf_attn_state", "sliding_attention", "full_attention"]
    # A window forgets, the keys of global tokens must stay.
    config.global_attention_tokens = 1
    assert config.cache_layer_types == ["hf_attn_state", "full_attention", "full_attention"]


REFUSALS = [
    ({"encoder_layer_types": "lsm"}, "`encoder_layer_types` must be one of .*got 'lsm' (did you mean `lstm`?)"),
    (
        {"decoder_layer_types": ["lstm"]},
        "`decoder_layer_types` must name one type for all layers or one a layer: `decoder_layers` is 2, got a list of",
    ),
    ({"cross_attention_type": "aditive"}, "`cross_attention_type` must be one of .*(did you mean `additive`?)"),
    ({"position_embedding_type": "rotary"}, "`position_embedding_type` must be one of .*got 'rotary'"),
    ({"norm_type": "batchnorm"}, "`norm_type` must be one of layernorm, rmsnorm, got 'batchnorm'"),
    ({"norm_position": "mid"}, "`norm_position` must be one of pre, post, none, got 'mid'"),
    ({"heads": 3}, "`d_model` must be divisible by `encoder_attention_heads`, got 16 and 3"),
    (
        {"decoder_key_value_heads": 3},
        "`decoder_attention_heads` must be divisible by `decoder_key_value_heads`, got 4 and 3",
    ),
    (
        {"cross_attention_type": "dot", "decoder_key_value_heads": 2},
        "`decoder_key_value_heads` must equal `decoder_attention_heads` when `cross_attention_type` is `dot`",
    ),
    (
        {"cross_attention_type": "general", "head_dim": 8},
        "`head_dim` x `decoder_attention_heads` must equal `d_model` .*got 8 x 4 and 16",
    ),
    ({"decoder_vocab_size": 0}, "`decoder_vocab_size` must be at least 1, got 0"),
    (
        {"decoder_vocab_size": 30},
        "`share_encoder_decoder_embeddings` must be False where `decoder_vocab_size` is not `vocab_size`, got 30",
    ),
    (
        {"decoder_vocab_size": 30, "share_encoder_decoder_embeddings": False, "decoder_start_token_id": 35},
        "`decoder_start_token_id` must be in [0, `decoder_vocab_size` = 30), got 35",
    ),
    (
        {"share_encoder_decoder_embeddings": False, "copy_attention": True},
        "`copy_attention` writes tokens of the source, .* `share_encoder_decoder_embeddings` must be True, got False",
    ),
    (
        {"sliding_window": [4, 4, 4], "encoder_layer_types": "sliding_attention"},
        "`sliding_window` must be one number, or one a layer of the encoder: `encoder_layers` is 2, got a list of 3",
    ),
    (
        {"sliding_window": [4, 4], "decoder_layer_types": "sliding_attention"},
        "`sliding_window` must be one number where the decoder has `sliding_attention` layers, got [4, 4]",
    ),
    (
        {"global_attention_projections": True},
        "`global_attention_projections` are of `sliding_attention` layers of the encoder, and there is none",
    ),
    (
        {"position_offset": 2, "position_embedding_type": "rope"},
        "`position_offset` = 2 acts on sinusoids, and `position_embedding_type` is 'rope'",
    ),
    ({"norm_before_decoder_positions": True}, "`norm_before_decoder_positions` moves the norm that `normalize_emb"),
    ({"encoder_layerdrop": 1.0}, "`encoder_layerdrop` must be at least 0 and less than 1, got 1.0"),
    (
        {"d_model": 12, "position_embedding_type": "rope"},
        "A head must have an even width for `rope` positions, got 3 (encoder)",
    ),
    ({"d_model": 0}, "`d_model` must be at least 1, got 0"),
    ({"decoder_layers": 0}, "`decoder_layers` must be at least 1, got 0"),
    ({"encoder_ffn_dim": -1}, "`encoder_ffn_dim` must be 0 or more, got -1"),
    ({"dropout": 1.0}, "`dropout` must be at least 0 and less than 1, got 1.0"),
    ({"label_smoothing": -0.1}, "`label_smoothing` must be at least 0 and less than 1, got -0.1"),
    ({"pad_token_id": 40}, "`pad_token_id` must be in [0, `vocab_size` = 40), got 40"),
    (
        {"relative_attention_num_buckets": 2},
        "`relative_attention_num_buckets` must be at least 4 and less than twice",
    ),
    (
        {"encoder_layer_types": "gru", "decoder_layer_types": "ssru", "position_embedding_type": "alibi"},
        "`position_embedding_type` = 'alibi' acts on the scores of .*there is none",
    ),
    ({"global_attention_tokens": 1}, "`global_attention_tokens` = 1 acts in `sliding_attention` layers, and there is"),
    (
        {"encoder_layer_types": "sliding_attention", "sliding_window": 1},
        "`sliding_window` must be at least 2 in an encoder",
    ),
    (
        {"copy_attention": True, "cross_attention_type": "none"},
        "`copy_attention` and `coverage_loss_weight` read the weights of the cross-attention, and "
        "`cross_attention_type` = 'none' has none, got True and 0.0. Leave them",
    ),
    ({"coverage_loss_weight": 0.5, "cross_attention_type": "none"}, "has none, got False and 0.5"),
    ({"coverage_loss_weight": -1.0}, "`coverage_loss_weight` must be 0 or more, got -1.0"),
    (
        {"d_modle": 16},
        "`d_modle` is not a field of HfAttnConfig (did you mean `d_model`?). Known fields: .*vocab_size",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSALS, ids=[next(iter(case[0])) for case in REFUSALS])
def test_refusals(overrides, message):
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ValueError, match=pattern):
        tiny_config(**overrides)


def test_an_alias_that_says_something_else_is_refused():
    with pytest.raises(ValueError, match=r"`hidden_size` is another name of `d_model`, got 128 and 64\. Give one\."):
        HfAttnConfig(d_model=64, hidden_size=128)
    assert HfAttnConfig(hidden_size=128).d_model == HfAttnConfig(d_model=128, hidden_size=128).d_model == 128
    assert HfAttnConfig.from_preset("transformer_tiny", hidden_size=64).d_model == 64


def test_recurrent_stacks_need_no_heads():
    assert HfAttnConfig.from_preset("bahdanau2015", d_model=620).d_model == 620


def test_unknown_preset():
    with pytest.raises(
        ValueError, match=r"`name` must be a preset, got 'transformer_tny' \(did you mean `transformer_"
    ):
        HfAttnConfig.from_preset("transformer_tny")


def test_an_unknown_key_of_a_later_version_warns_and_is_kept(tmp_path, caplog):
    config = tiny_config().to_dict() | {"field_of_tomorrow": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    logging.getLogger("transformers_modules").propagate = True
    logging.getLogger("hf_attn").propagate = True
    with caplog.at_level(logging.WARNING):
        loaded = HfAttnConfig.from_pretrained(tmp_path)
    assert loaded.field_of_tomorrow == 7
    assert "keys that this version of hf_attn does not know" in caplog.text
    assert "`field_of_tomorrow`" in caplog.text
    assert loaded.to_dict()["field_of_tomorrow"] == 7
