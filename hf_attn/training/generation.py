# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The generation config of the model that is trained."""

import math
from collections.abc import Mapping

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..data import source_target_lengths
from ..loading.position_limits import source_positions, target_positions
from .arguments import DataArguments
from .run import Run


logger = logging.get_logger(__name__)


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
    Sets the model's generation config for the task; it is saved with the model.

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
        max_target_length: Tokens that may be generated without training where the checkpoint has no limit.
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


def prepare_generation(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokenized: Mapping[str, Dataset | IterableDataset],
    forced_bos_token_id: int | None = None,
    source_prefix: str = "",
) -> None:
    """
    Sets the generation config by the training targets, as `set_generation` does, once it is sure that the rows fit;
    and keeps what stands before each source in training as the `prefix` of the model's config, which pipelines put
    before a text.

    Raises:
        ValueError: A row has more tokens than the model has positions.
    """
    check_positions(model, tokenized)
    target_length = longest_target(tokenized.get("train"), run.data_args)
    arguments = run.training_args
    set_generation(
        model,
        tokenizer,
        target_length,
        arguments.num_beams,
        forced_bos_token_id,
        max_length=arguments.generation_max_length,
        max_target_length=run.data_args.max_target_length,
        length_penalty=arguments.length_penalty,
        early_stopping=arguments.early_stopping,
        no_repeat_ngram_size=arguments.no_repeat_ngram_size,
    )
    config = unwrap_peft_model(model).config
    if "train" in tokenized and (source_prefix or getattr(config, "prefix", None)):
        config.prefix = source_prefix or None


def check_positions(model: PreTrainedModel, tokenized: Mapping[str, Dataset | IterableDataset]) -> None:
    """
    Checks that the rows of tokenized splits fit the model.

    Raises:
        ValueError: A row has more tokens than the model has positions.
    """
    limit = source_positions(unwrap_peft_model(model))
    if limit is None:
        return
    for name, split in tokenized.items():
        if not isinstance(split, Dataset):
            continue
        longest = source_target_lengths(split).max(axis=0)
        for side, length in zip(("source", "target"), longest, strict=True):
            if length > limit:
                raise ValueError(
                    f"`max_{side}_length` must keep within the {limit} positions of the model, got a {side} of "
                    f"{length} tokens in `{name}`. Set `max_{side}_length` to {limit} or less; fresh weights may have "
                    "more `max_position_embeddings` in `config_overrides`."
                )
