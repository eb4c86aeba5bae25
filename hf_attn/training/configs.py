# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The config of the model that a recipe's arguments describe: of a checkpoint or of fresh weights, with overrides."""

import os
from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ..configuration_hf_attn import PRESETS, HfAttnConfig
from ..loading.checkpoint_files import reading_checkpoint
from ..loading.json_files import read_json_object
from .arguments import ModelArguments
from .parsing import read_yaml


def checkpoint_config(arguments: ModelArguments, overrides: Mapping[str, Any]) -> PretrainedConfig:
    """
    The config of a checkpoint with the overrides.

    Raises:
        ValueError: An override is not a field of the config, or the config does not take its value.
    """
    name = str(arguments.model_name_or_path)
    with reading_checkpoint("model_name_or_path", name):
        config = AutoConfig.from_pretrained(
            name, revision=arguments.model_revision, trust_remote_code=arguments.trust_remote_code
        )
    _check_fields(config, overrides)
    return type(config).from_dict({**config.to_dict(), **overrides}) if overrides else config


def _check_fields(config: PretrainedConfig, overrides: Mapping[str, Any]) -> None:
    for name in overrides:
        if not hasattr(config, name):
            raise ValueError(f"`config_overrides` names `{name}`, which is not a field of {type(config).__name__}.")


def build_config(arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """
    The config of fresh weights: a preset or json file, the sizes and ids of the tokenizer, and the overrides on top.

    Raises:
        ValueError: `model_config` is neither a preset nor a file, or an override is not a field of the config; or the
            file is of a `model_type` that transformers does not know.
    """
    overrides = parse_overrides(arguments.config_overrides)
    values = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if tokenizer.bos_token_id is not None:
        values["bos_token_id"] = tokenizer.bos_token_id
    name = str(arguments.model_config)
    if name in PRESETS:
        values["decoder_start_token_id"] = tokenizer.eos_token_id
        return HfAttnConfig.from_preset(name, **values, **_without(overrides, values))
    if not os.path.isfile(name):
        raise ValueError(
            f"`model_config` must be a preset ({', '.join(PRESETS)}) or a json file that exists, got {name!r}."
        )
    content = read_json_object(name, "`model_config`:")
    model_type = content.pop("model_type", HfAttnConfig.model_type)
    if model_type == HfAttnConfig.model_type:
        values["decoder_start_token_id"] = tokenizer.eos_token_id
        return HfAttnConfig(**{**content, **values, **_without(overrides, values)})
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"`model_type` in {name!r} must be '{HfAttnConfig.model_type}', or one that transformers knows, such as "
            f"'bart', 'marian' and 't5'; got {model_type!r}."
        )
    return _stock_config(model_type, content, values, _without(overrides, values))


def _stock_config(model_type: str, content: dict, values: dict, overrides: dict) -> PretrainedConfig:
    """The config of another family; its own start token is kept where the vocabulary has it."""
    known = AutoConfig.for_model(model_type)
    _check_fields(known, overrides)
    start = content.get("decoder_start_token_id")
    if start is None or start >= values["vocab_size"]:
        values = {**values, "decoder_start_token_id": values["pad_token_id"]}
    # Marian keeps a second vocabulary size for its decoder.
    if hasattr(known, "decoder_vocab_size"):
        values = {**values, "decoder_vocab_size": values["vocab_size"]}
    return AutoConfig.for_model(model_type, **{**content, **values, **overrides})


def _without(overrides: dict, values: dict) -> dict:
    for name in overrides:
        if name in values:
            raise ValueError(
                f"`config_overrides` cannot set `{name}`, which follows from the tokenizer, got {overrides[name]!r}. "
                "Change `vocab_size` or `tokenizer_name` instead."
            )
    return overrides


def parse_overrides(text: str | None) -> dict[str, Any]:
    """
    The fields in `name=value,name=value`; values are written as in YAML, lists in brackets.

    Raises:
        ValueError: The text does not have this form.
    """
    if not text:
        return {}
    try:
        parsed = read_yaml("{" + text.replace("=", ": ") + "}")
    except ValueError:
        parsed = None
    is_plain = isinstance(parsed, dict) and all(isinstance(name, str) for name in parsed)
    if not is_plain or any(value is None for value in parsed.values()):
        raise ValueError(
            f"`config_overrides` must look like d_model=192,encoder_layer_types=[lstm,gru], got {text!r}."
        )
    return {name: _number(value) for name, value in parsed.items()}


def _number(value: Any) -> Any:
    """A value as a number where it is one; YAML 1.1 reads 1e-5 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
