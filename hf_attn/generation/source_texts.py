# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What stands before the texts that a model reads, and what is asked of them."""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from ..checkpoint_files import reading_checkpoint
from ..unicode_text import is_text


def source_prefix(model: PreTrainedModel, prefix: str | None = None) -> str:
    """What goes before each text: as asked for, else the `prefix` of the model's config, which its training had."""
    return (getattr(model.config, "prefix", None) or "") if prefix is None else prefix


def check_text(name: str, text: str, place: str = "") -> None:
    """
    Refuses half a character, which no tokenizer takes.

    Args:
        name: Of the argument, for the message.
        text: What is read.
        place: Which of several texts it is, for the message, such as " as text 7".

    Raises:
        ValueError: UTF-8 cannot write the text.
    """
    if not is_text(text):
        raise ValueError(f"`{name}` must be text that UTF-8 can write, got {text!r}{place}")


def generate_as_trained(model: Any, adapter_dir: str | Path, argument: str) -> None:
    """
    Have the base of an adapter generate as the adapter's run did: by the generation config that a run saves beside its
    adapter, and with the prefix that it keeps there.

    Args:
        model: The base; without such a file it stays as it is.
        adapter_dir: Directory of the adapter.
        argument: Name of the argument that gives it, for messages.

    Raises:
        ValueError: The generation config cannot be read.
    """
    if not Path(adapter_dir, GENERATION_CONFIG_NAME).is_file():
        return
    with reading_checkpoint(argument, str(adapter_dir)):
        config = GenerationConfig.from_pretrained(adapter_dir)
    # `generate` knows no such option.
    prefix = vars(config).pop("prefix", None)
    if prefix != getattr(model.config, "prefix", None):
        model.config.prefix = prefix
    model.generation_config = config
