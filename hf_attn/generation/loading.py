# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads a model and its tokenizer to generate with them."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME

from ..checkpoint_files import check_size, load_complete, reading_checkpoint
from ..json_files import read_json_object
from .packed_linear import pack_linears
from .source_texts import generate_as_trained


def load_for_inference(
    name: str, adapter: str | None = None, weights: str | None = None, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A seq2seq model in evaluation mode, on the GPU where there is one, and its tokenizer.

    Args:
        name: A directory or the name of a checkpoint on the Hub.
        adapter: A directory of a PEFT adapter to put on it.
        weights: `float32` or `int8`: make it ready for a CPU with `pack_linears`, the adapter merged into it. It is
            then on the CPU in any case.
        options: For `AutoModelForSeq2SeqLM.from_pretrained`, such as `attn_implementation`.

    Raises:
        ValueError: There is no such model or adapter, `name` is itself an adapter, the model lacks weights because it
            was trained for another task, the adapter was made for another base, or there are no such `weights`.
    """
    _refuse_adapter(name)
    from_adapter = None
    if adapter is not None:
        if not os.path.isfile(Path(adapter, ADAPTER_CONFIG_NAME)):
            raise ValueError(f"`--adapter` must be the directory of a PEFT adapter, got {adapter!r}")
        from_adapter = read_json_object(Path(adapter, ADAPTER_CONFIG_NAME), "`--adapter`:").get("modules_to_save")
    # Told nothing, transformers asks on standard input whether to run code that comes with a checkpoint.
    trust = bool(options.setdefault("trust_remote_code", False))
    options.setdefault("use_safetensors", True)
    with reading_checkpoint("MODEL", name):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust)
        check_size(name, config, AutoModelForSeq2SeqLM, trust)
        model: Any = load_complete(AutoModelForSeq2SeqLM, name, from_adapter, **options)
    if adapter is not None:
        # PEFT takes as long to import as all else; most models come without an adapter.
        from ..adapters import load_adapter

        generate_as_trained(model, adapter, "--adapter")
        model = load_adapter(model, adapter)
    if weights is not None:
        # The merged weights must not be rounded to fewer bits than the sum of both has.
        model = model.float() if adapter is None else model.float().merge_and_unload()
        return pack_linears(model, weights), tokenizer
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def _refuse_adapter(name: str) -> None:
    if os.path.isfile(Path(name, ADAPTER_CONFIG_NAME)) and not os.path.isfile(Path(name, CONFIG_NAME)):
        from ..adapters.lora import base_name

        base = base_name(name, "MODEL")
        raise ValueError(
            f"`MODEL` {name!r} holds an adapter for {base!r}, which goes with it: "
            f"`hf-attn generate {base} --adapter {name}`."
        )
