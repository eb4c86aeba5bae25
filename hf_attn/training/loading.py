# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads or builds the tokenizer and the model that a recipe's arguments describe."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, logging

from ..adapters import add_lora, four_bit_config
from ..adapters.lora import MATCH_EMBEDDING, base_name
from ..checkpoint_files import check_size, reading_checkpoint
from ..configuration_hf_attn import PRESETS, HfAttnConfig
from ..data import load_splits, source_target_lengths, train_tokenizer
from ..data.translation import read_sides
from ..json_files import read_json_object
from ..position_limits import target_positions
from ..spread_weights import whole_weights
from .arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from .hardware import choose_attention
from .parsing import read_yaml


logger = logging.get_logger(__name__)


def read_splits(
    arguments: DataArguments, training_arguments: RecipeTrainingArguments
) -> dict[str, Dataset | IterableDataset]:
    """
    The splits that the arguments name, cut to `max_*_samples` rows; those of `do_train`, `do_eval` and `do_predict`.

    With `streaming` only the training split is streamed; the splits that are scored have to be counted.

    Returns:
        Those of `train`, `validation` and `test` that there are.
    """
    splits = load_splits(
        arguments.dataset_name,
        arguments.dataset_config_name,
        arguments.train_file,
        arguments.validation_file,
        arguments.test_file,
        revision=arguments.dataset_revision,
        streaming=arguments.streaming,
        max_samples={
            "train": arguments.max_train_samples,
            "validation": arguments.max_eval_samples,
            "test": arguments.max_predict_samples,
        },
    )
    wanted = {
        "train": training_arguments.do_train,
        "validation": training_arguments.do_eval,
        "test": training_arguments.do_predict,
    }
    splits = {name: splits[name] for name in wanted if wanted[name] and name in splits}
    return {
        name: Dataset.from_list(list(split)) if name != "train" and isinstance(split, IterableDataset) else split
        for name, split in splits.items()
    }


def texts_of(split: Dataset | IterableDataset, language: str, column: str) -> Iterator[str]:
    """
    One side of sentence pairs, from a column `translation`, or one named after the language, or else that of the side.

    Args:
        split: Rows as `translation_preprocessor` takes them.
        language: Name of the language in the rows.
        column: The side, `source` or `target`.

    Raises:
        ValueError: As `translation_preprocessor` does.
    """
    for (texts,) in read_sides(split, {column: language}):
        yield from texts


def training_split(splits: Mapping[str, Dataset | IterableDataset]) -> Dataset | IterableDataset:
    """
    The split that a tokenizer for fresh weights is trained on.

    Raises:
        ValueError: There is none.
    """
    if "train" not in splits:
        raise ValueError(
            "`train_file` or `dataset_name` must give a training split to train a tokenizer on, got none."
        )
    return splits["train"]


def load_tokenizer(arguments: ModelArguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """
    The tokenizer named by the arguments, else that of the checkpoint, else one trained on `texts`.

    Args:
        arguments: `tokenizer_name`, `model_name_or_path` and `vocab_size` are read.
        texts: What a tokenizer for fresh weights is trained on; not read otherwise.

    Raises:
        ValueError: The tokenizer cannot be loaded.
    """
    name = arguments.tokenizer_name or arguments.model_name_or_path
    if name is not None:
        argument = "tokenizer_name" if arguments.tokenizer_name is not None else "model_name_or_path"
        if arguments.vocab_size != ModelArguments.vocab_size:
            logger.warning(
                f"`vocab_size`={arguments.vocab_size} has no effect: it is for a tokenizer that is trained, and this "
                f"one comes from `{argument}` {name!r}."
            )
        # A tokenizer of its own is no part of the pinned checkpoint.
        revision = arguments.model_revision if arguments.tokenizer_name is None else "main"
        with reading_checkpoint(argument, name):
            return AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=arguments.trust_remote_code
            )
    tokenizer = train_tokenizer(texts, arguments.vocab_size)
    logger.info(f"Trained a tokenizer of {len(tokenizer)} tokens on the training set.")
    return tokenizer


def check_base(arguments: ModelArguments, adapter_arguments: AdapterArguments) -> None:
    """
    Refuse what no training can start from, or nobody could use afterwards.

    Raises:
        ValueError: `lora` goes with `model_config`, so that the adapter would have no base to be loaded on; or
            `model_name_or_path` holds an adapter in place of a whole model.
    """
    name = arguments.model_name_or_path
    if name is None:
        if adapter_arguments.lora:
            raise ValueError(
                "`lora` needs `model_name_or_path`: an adapter on weights that start fresh could not be loaded. Got "
                f"`model_config`={arguments.model_config!r}. Train it whole first, and an adapter on the result."
            )
        return
    if os.path.isfile(os.path.join(name, ADAPTER_CONFIG_NAME)) and not os.path.exists(os.path.join(name, CONFIG_NAME)):
        base = base_name(name, "model_name_or_path")
        raise ValueError(
            f"`model_name_or_path` {name!r} holds an adapter for {base!r}, not a whole model. Train it with "
            "`merge_adapter` and name its folder `merged` instead; or save what PEFT's `merge_and_unload` makes of it."
        )


def load_model(
    arguments: ModelArguments,
    adapter_arguments: AdapterArguments,
    training_arguments: RecipeTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    auto_class: Any = AutoModelForSeq2SeqLM,
) -> PreTrainedModel:
    """
    The checkpoint named by the arguments, or fresh weights of a config; with a LoRA adapter where they ask for one.

    Label smoothing of an hf_attn model goes into its config, since its loss is inside the model;
    `training_arguments.label_smoothing_factor` is then set to 0 so that it does not act twice.

    Args:
        arguments: Names the checkpoint or the config.
        adapter_arguments: Ask for an adapter, and for 4 bits.
        training_arguments: `use_cpu` and `label_smoothing_factor` are read.
        tokenizer: Gives fresh weights their sizes.
        auto_class: `AutoModelForSeq2SeqLM`, or that of a task head, which starts from fresh weights where the
            checkpoint has none.

    Raises:
        ValueError: The tokenizer has more tokens than the checkpoint has embeddings, or the label smoothing of the
            config and of the training arguments differ, or the checkpoint lacks tensors or has them in other shapes,
            or an adapter is to be put on fresh weights or on those that the overrides add, or the checkpoint is an
            adapter itself, or has its weights as a pickle, or cannot be loaded.
    """
    check_base(arguments, adapter_arguments)
    attention = choose_attention(arguments.attn_implementation, training_arguments.use_cpu)
    if arguments.model_config is not None:
        config = build_config(arguments, tokenizer)
        model = auto_class.from_config(config, attn_implementation=attention)
    else:
        overrides = parse_overrides(arguments.config_overrides)
        # A checkpoint may be stored in half precision; it trains in float32 under autocast.
        name, config = str(arguments.model_name_or_path), _checkpoint_config(arguments, overrides)
        options: dict[str, Any] = {"dtype": torch.float32, "config": config}
        if adapter_arguments.load_in_4bit:
            options["quantization_config"] = four_bit_config()
        with reading_checkpoint("model_name_or_path", name):
            check_size(name, config, auto_class, arguments.trust_remote_code)
            model, loading = auto_class.from_pretrained(
                name,
                revision=arguments.model_revision,
                attn_implementation=attention,
                trust_remote_code=arguments.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
        is_task_head = auto_class is not AutoModelForSeq2SeqLM
        if is_task_head or overrides.get("copy_attention") or _saved_for_another_task(model):
            head = {key for key in loading["missing_keys"] if not key.startswith(f"{model.base_model_prefix}.")}
            # PEFT trains a task head whole.
            _allow_fresh(head, loading, adapter_arguments.lora and not is_task_head)
        if overrides.get("match_embedding"):
            vectors = {key for key in loading["missing_keys"] if MATCH_EMBEDDING in key.split(".")}
            _allow_fresh(vectors, loading, adapter_arguments.lora)
        _check_complete(name, loading)
    embedding = cast(torch.nn.Parameter, model.get_input_embeddings().weight)
    with whole_weights([embedding]):
        num_embeddings = embedding.shape[0]
    if not adapter_arguments.load_in_4bit and len(tokenizer) > num_embeddings:
        raise ValueError(
            f"`tokenizer_name` has {len(tokenizer)} tokens and the model {num_embeddings} embeddings. Use the "
            "tokenizer of the checkpoint."
        )
    _place_label_smoothing(model, training_arguments)
    # A PEFT model hands on what it does not have itself.
    if not adapter_arguments.lora:
        return model
    return cast(Any, add_lora(model, adapter_arguments, revision=arguments.model_revision))


def _allow_fresh(keys: set[str], loading: dict[str, Any], is_frozen: bool) -> None:
    """Takes weights that a checkpoint may lack out of those that it does, unless an adapter would freeze them."""
    if not keys:
        return
    listed = ", ".join(f"`{key}`" for key in sorted(keys))
    if is_frozen:
        raise ValueError(
            f"`model_name_or_path` lacks {listed}: an adapter could not be loaded on weights that start fresh. "
            "Fine-tune it whole, or start from a checkpoint that has them."
        )
    logger.info(f"{listed} start from fresh weights: the checkpoint has none.")
    loading["missing_keys"] = set(loading["missing_keys"]) - keys


def _saved_for_another_task(model: PreTrainedModel) -> bool:
    """Whether the checkpoint was saved with another head, such as a span head, which has neither logits nor a copy."""
    architectures = model.config.architectures
    return type(model).__name__ not in architectures if architectures else False


def _check_complete(name: str, loading: dict[str, Any]) -> None:
    """Refuses a checkpoint from which some weights would start at random."""
    faults = [f"`{key}` is missing" for key in sorted(loading["missing_keys"])]
    faults += [
        f"`{key}` has shape {tuple(stored)}, the config says {tuple(wanted)}"
        for key, stored, wanted in sorted(loading["mismatched_keys"])
    ]
    if faults:
        listed = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise ValueError(
            f"`model_name_or_path` {name!r} does not hold the weights that its config describes: {listed}. Copy or "
            "download the checkpoint again, or start from fresh weights with `model_config`."
        )


def _place_label_smoothing(model: PreTrainedModel, arguments: RecipeTrainingArguments) -> None:
    if model.config.model_type != HfAttnConfig.model_type:
        return
    inside, outside = model.config.label_smoothing, arguments.label_smoothing_factor
    if outside and inside and inside != outside:
        raise ValueError(
            "`label_smoothing_factor` and the `label_smoothing` of the model's config differ, got "
            f"{outside} and {inside}. Give one of them."
        )
    if outside:
        logger.info(f"label_smoothing={outside} goes into the model's config: its loss is inside the model.")
        model.config.label_smoothing = outside
        arguments.label_smoothing_factor = 0.0


def _checkpoint_config(arguments: ModelArguments, overrides: Mapping[str, Any]) -> PretrainedConfig:
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
    Read `name=value,name=value`; values are written as in YAML, lists in brackets.

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
    """YAML 1.1 reads 1e-5 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def longest_target(train: Dataset | IterableDataset | None, arguments: DataArguments) -> int | None:
    """Tokens of the longest target in a tokenized training split; the limit where it is streamed; else `None`."""
    if isinstance(train, Dataset):
        return int(source_target_lengths(train)[:, 1].max())
    return None if train is None else arguments.max_target_length


def set_generation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target_length: int | None,
    num_beams: int,
    forced_bos_token_id: int | None = None,
    max_length: int | None = None,
    max_target_length: int | None = None,
    **search: float | bool | None,
) -> None:
    """
    Make the model's generation config fit the task; it is saved with the model.

    Args:
        model: Its `generation_config` is changed.
        tokenizer: Gives the ids of the special tokens.
        target_length: Tokens of the longest target in training, the end included; half as many again may be generated,
            as far as the decoder has positions, and there is no least length. `None`, without training, leaves the
            limits of the checkpoint.
        num_beams: Beams of `generate` without arguments.
        forced_bos_token_id: The token that an output starts with, such as that of a language; `None` leaves the
            checkpoint's.
        max_length: Tokens of the longest output, the one that starts it included, in place of what `target_length`
            gives.
        max_target_length: How many may be generated without training where the checkpoint has no limit.
        **search: Further fields, such as `length_penalty` and `no_repeat_ngram_size`; `None` leaves the checkpoint's.
    """
    config = model.generation_config
    limit = None
    if max_length is not None:
        limit = max_length - 1
    elif target_length is not None:
        limit = math.ceil(1.5 * target_length)
    elif config.max_new_tokens is None and config.max_length is None:
        limit = max_target_length
    if limit is not None:
        positions = target_positions(model)
        config.max_new_tokens = limit if positions is None else min(limit, positions - 1)
        config.max_length = None
    for name in ("min_length", "min_new_tokens") if target_length is not None else ():
        if getattr(config, name):
            logger.info(f"`{name}`={getattr(config, name)} of the checkpoint is dropped: targets may be shorter.")
            setattr(config, name, None)
    config.num_beams = num_beams
    config.update(**{name: value for name, value in search.items() if value is not None})
    config.use_cache = True
    config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.decoder_start_token_id = model.config.decoder_start_token_id
    if config.forced_eos_token_id is not None:
        config.forced_eos_token_id = tokenizer.eos_token_id
    if forced_bos_token_id is not None:
        config.forced_bos_token_id = forced_bos_token_id
    # From here on it stands for itself.
    config._from_model_config = False
