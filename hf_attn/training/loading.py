# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads or builds the tokenizer and the model that a recipe's arguments describe."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ..adapters import add_lora, four_bit_config
from ..adapters.lora import MATCH_EMBEDDING
from ..configuration_hf_attn import HfAttnConfig
from ..data import train_tokenizer
from ..loading.adapter import base_name
from ..loading.checkpoint_files import check_size, is_adapter, reading_checkpoint
from ..loading.sharded_weights import gathered_weights
from ..tasks import WRITING_HEAD, Head
from .arguments import AdapterArguments, ModelArguments, RecipeTrainingArguments
from .configs import build_config, checkpoint_config, parse_overrides
from .hardware import choose_attention


logger = logging.get_logger(__name__)


def load_tokenizer(arguments: ModelArguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """
    The tokenizer named by the arguments, else that of the checkpoint, else one trained on `texts`.

    Args:
        arguments: `tokenizer_name`, `model_name_or_path` and `vocab_size` are read.
        texts: The texts that a tokenizer for fresh weights is trained on; not read otherwise.

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
        # A tokenizer of its own is no file of the pinned checkpoint.
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
    Refuses what no training can start from, or nobody could use afterwards.

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
    if is_adapter(name):
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
    head: Head = WRITING_HEAD,
    labels: Sequence[str] | None = None,
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
        head: The model's head: the generative one, or that of a task, which starts from fresh weights where the
            checkpoint has none.
        labels: Names of the classes, in the order of the outputs of a model that classifies.

    Raises:
        ValueError: The tokenizer has more tokens than the checkpoint has embeddings, or the label smoothing of the
            config and of the training arguments differ, or the checkpoint lacks tensors or has them in other shapes,
            or an adapter is to be put on fresh weights or on those that the overrides add, or the checkpoint is an
            adapter itself, or has its weights as a pickle, or cannot be loaded.
    """
    check_base(arguments, adapter_arguments)
    auto_class = head.load_class()
    attention = choose_attention(arguments.attn_implementation, training_arguments.use_cpu)
    if arguments.model_config is not None:
        config = build_config(arguments, tokenizer)
        _name_classes(config, labels)
        model = auto_class.from_config(config, attn_implementation=attention)
    else:
        overrides = parse_overrides(arguments.config_overrides)
        # A checkpoint may be stored in half precision; it trains in float32 under autocast.
        name, config = str(arguments.model_name_or_path), checkpoint_config(arguments, overrides)
        _name_classes(config, labels)
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
        is_task_head = head is not WRITING_HEAD
        if is_task_head or overrides.get("copy_attention") or _saved_for_another_task(model):
            fresh = {key for key in loading["missing_keys"] if not key.startswith(f"{model.base_model_prefix}.")}
            # PEFT trains a task head whole.
            _allow_fresh(fresh, loading, adapter_arguments.lora and not is_task_head)
        if overrides.get("match_embedding"):
            vectors = {key for key in loading["missing_keys"] if MATCH_EMBEDDING in key.split(".")}
            _allow_fresh(vectors, loading, adapter_arguments.lora)
        _check_complete(name, loading)
    embedding = cast(torch.nn.Parameter, model.get_input_embeddings().weight)
    with gathered_weights([embedding]):
        num_embeddings = embedding.shape[0]
    if not adapter_arguments.load_in_4bit and len(tokenizer) > num_embeddings:
        raise ValueError(
            f"`tokenizer_name` has {len(tokenizer)} tokens and the model {num_embeddings} embeddings. Use the "
            "tokenizer of the checkpoint."
        )
    _move_label_smoothing(model, training_arguments)
    # A PEFT model hands on what it does not have itself.
    if not adapter_arguments.lora:
        return model
    return cast(Any, add_lora(model, adapter_arguments, revision=arguments.model_revision))


def _name_classes(config: PretrainedConfig, labels: Sequence[str] | None) -> None:
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        config.problem_type = "single_label_classification"


def _allow_fresh(keys: set[str], loading: dict[str, Any], is_frozen: bool) -> None:
    """Removes weights that a checkpoint may lack from those that it does, unless an adapter would freeze them."""
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
    errors = [f"`{key}` is missing" for key in sorted(loading["missing_keys"])]
    errors += [
        f"`{key}` has shape {tuple(stored)}, the config says {tuple(wanted)}"
        for key, stored, wanted in sorted(loading["mismatched_keys"])
    ]
    if errors:
        listed = "; ".join(errors[:5]) + (f"; and {len(errors) - 5} more" if len(errors) > 5 else "")
        raise ValueError(
            f"`model_name_or_path` {name!r} does not hold the weights that its config describes: {listed}. Copy or "
            "download the checkpoint again, or start from fresh weights with `model_config`."
        )


def _move_label_smoothing(model: PreTrainedModel, arguments: RecipeTrainingArguments) -> None:
    """Moves label smoothing from the arguments to the config of an hf_attn model, whose loss is inside the model."""
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
