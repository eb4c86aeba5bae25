# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`HfAttnConfig` from dicts, presets and files; what it takes can be written, read again, and made into a model."""

from dataclasses import fields

import pytest
import torch
from hypothesis import strategies as st

from hf_attn import PRESETS, HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.configuration_hf_attn import (
    CROSS_ATTENTION_TYPES,
    LAYER_TYPES,
    NORM_POSITIONS,
    NORM_TYPES,
    POSITION_EMBEDDING_TYPES,
)
from hf_attn.training import ModelArguments, build_config
from tests.fuzz.fuzzing import BROKEN_TEXTS, SCALARS, VALUES, altered, damaged, fuzz, many
from tests.utils import tiny_config


OWN_FIELDS = sorted(set(HfAttnConfig.__annotations__) - {"model_type", "keys_to_ignore_at_inference", "attribute_map"})
# Names that mean something to a config besides its fields, and some that mean nothing.
OTHER_NAMES = [
    *("to_dict", "__dict__", "__class__", "_name_or_path", "cache_layer_types", "_post_init_done", "rope_parameters"),
    *("rope_scaling", "base_model_tp_plan", "d_modle", "", "0", "self", "kwargs"),
]
NAMES = sorted(HfAttnConfig.known_keywords() | {field.name for field in fields(HfAttnConfig)}) + OTHER_NAMES
WORDS = [*LAYER_TYPES, *CROSS_ATTENTION_TYPES, *POSITION_EMBEDDING_TYPES, *NORM_TYPES, *NORM_POSITIONS, "gelu", "nn"]
WORDS += ["eager", "float32", "hf_attn", "single_label_classification"]
LIKELY = st.one_of(st.sampled_from(WORDS), st.lists(st.sampled_from(list(LAYER_TYPES)), max_size=4), SCALARS)
# Larger models are described, not built.
LARGEST = {"vocab_size": 10**5, "d_model": 10**4, "encoder_ffn_dim": 10**5, "decoder_ffn_dim": 10**5}
LARGEST |= {"max_position_embeddings": 10**5, "encoder_layers": 6, "decoder_layers": 6, "head_dim": 10**4}
LARGEST |= {"encoder_attention_heads": 64, "decoder_attention_heads": 64, "relative_attention_num_buckets": 10**4}


def check_config(config: HfAttnConfig, builds: bool) -> None:
    written = config.to_dict()
    config.to_json_string()
    repr(config)
    if builds and all((getattr(config, name) or 0) <= largest for name, largest in LARGEST.items()):
        assert HfAttnConfig.from_dict(written).to_dict() == written
        with torch.device("meta"):
            HfAttnForConditionalGeneration(config)


@many()
def test_dicts(examples):
    inputs = st.dictionaries(st.sampled_from(NAMES), LIKELY | VALUES, max_size=4)
    fuzz(lambda values: check_config(HfAttnConfig.from_dict(dict(values)), False), inputs, examples)


@many()
def test_presets_with_overrides(examples):
    overrides = st.dictionaries(st.sampled_from(OWN_FIELDS), LIKELY, max_size=3)

    def check(value: tuple[str, dict]) -> None:
        name, values = value
        check_config(HfAttnConfig.from_preset(name, **values), True)

    fuzz(check, st.tuples(st.sampled_from([*PRESETS, "other"]), overrides), examples)


@many()
def test_files(examples, tmp_path, tokenizer):
    content = tiny_config().to_dict()
    inputs = st.one_of(
        altered(content), damaged(tiny_config().to_json_string().encode()), BROKEN_TEXTS, st.binary(max_size=30)
    )
    file = tmp_path / "model.json"

    def check(written: bytes) -> None:
        file.write_bytes(written)
        build_config(ModelArguments(model_config=str(file)), tokenizer)

    fuzz(check, inputs, examples)


@many()
def test_overrides_on_the_command_line(examples, tokenizer):
    names = st.sampled_from([*OWN_FIELDS, "d_modle", "", "vocab_size"])
    values = st.sampled_from([*WORDS, "1e-5", "[lstm,gru]", "{", "true", "~", "2020-13-45", "*a", "&a 1", "0x10"])
    pairs = st.builds("{}={}".format, names, values | st.integers(-2, 40).map(str) | st.text(max_size=5))
    inputs = (
        st.lists(pairs, max_size=3).map(",".join) | st.text(max_size=20) | st.sampled_from(["[" * 1_000, "{" * 1_000])
    )

    def check(text: str) -> None:
        build_config(ModelArguments(model_config="transformer_tiny", config_overrides=text), tokenizer)

    fuzz(check, inputs, examples)


def test_no_number_of_labels_is_the_default():
    assert HfAttnConfig.from_dict({"num_labels": None}).num_labels == 2


def test_types_are_checked():
    # The annotations of the class were strings once, which `@strict` takes for no types at all.
    with pytest.raises(TypeError, match=r"`use_bias` must be bool, got 3 \(int\)"):
        HfAttnConfig(use_bias=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder_layers": 10**12}, "`encoder_layers` must be at most 1000, got 1000000000000"),
        ({"num_labels": 10**12}, "`num_labels` must be from 0 to 1000000, got 1000000000000"),
        ({"coverage_loss_weight": float("nan")}, "`coverage_loss_weight` must be 0 or more, got nan"),
        ({"layer_norm_eps": -1.0}, "`layer_norm_eps` must be greater than 0 and finite, got -1.0"),
        ({"rope_theta": 0}, "`rope_theta` must be greater than 0 and finite, got 0"),
        ({"head_dim": 0}, "`head_dim` must be at least 1, got 0"),
        ({"eos_token_id": [2, 10**6]}, r"`eos_token_id` must be in \[0, `vocab_size` = 32000\), got 1000000"),
        ({"hidden_size": 13}, "`d_model` must be divisible by `encoder_attention_heads`, got 13 and 8"),
        ({"dtype": "nn"}, "`dtype` must be one of float32, float16, bfloat16, float64, got 'nn'"),
        ({"to_dict": 3}, "`to_dict` is not a field of HfAttnConfig, which has something else of this name"),
        ({"__dict__": {}}, "`__dict__` is not a field of HfAttnConfig"),
        ({"id2label": {"": None}}, "The keys of `id2label` must be whole numbers, got ''"),
        ({"per_layer_config": {"a": {}}}, "The keys of `per_layer_config` must be whole numbers, got 'a'"),
        ({"cache_layer_types": ["lstm"]}, "`cache_layer_types` is not a field of HfAttnConfig"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_values_that_were_taken_or_broke_something_else(values, message):
    with pytest.raises(ValueError, match=message):
        HfAttnConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id2label": "lstm"}, r"`id2label` must be dict, got 'lstm' \(str\)"),
        ({"attn_implementation": 3}, r"`attn_implementation` must be str or dict, got 3 \(int\)"),
        ({"per_layer_config": []}, r"`per_layer_config` must be dict, got \[\] \(list\)"),
        ({"quantization_config": "4bit"}, "`quantization_config` must be a dict or a configuration, got '4bit'"),
        ({"torch_dtype": 3}, "`torch_dtype` must be one of float32, .* got 3"),
        ([], r"`config_dict` must map names to values, got \[\]"),
    ],
    ids=lambda value: next(iter(value), "list") if isinstance(value, (dict, list)) else None,
)
def test_values_of_other_types(values, message):
    with pytest.raises(TypeError, match=message):
        HfAttnConfig.from_dict(values)
