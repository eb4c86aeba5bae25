# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads a model and its tokenizer to generate with them."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..adapters import load_adapter


def load_for_inference(
    name: str, adapter: str | None = None, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A seq2seq model in evaluation mode, on the GPU where there is one, and its tokenizer.

    Args:
        name: A directory or the name of a checkpoint on the Hub.
        adapter: A directory of a PEFT adapter to put on it.
        options: For `AutoModelForSeq2SeqLM.from_pretrained`, such as `attn_implementation`.

    Raises:
        ValueError: There is no such model or adapter, or the adapter was made for another base.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(name, **options)
    except OSError as error:
        raise ValueError(f"`MODEL` must be a checkpoint with a tokenizer, got {name!r}: {error}") from error
    if adapter is not None:
        if not Path(adapter, "adapter_config.json").is_file():
            raise ValueError(f"`--adapter` must be the directory of a PEFT adapter, got {adapter!r}")
        # A run saves how its adapter is to generate beside it.
        if Path(adapter, "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(adapter)
        model = load_adapter(model, adapter)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer
