# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Puts a saved adapter on its base, and refuses one that was made for another."""

import hashlib
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME, GENERATION_CONFIG_NAME

from .checkpoint_files import check_checkpoint, reading_checkpoint
from .json_files import read_json_object
from .sharded_weights import gathered_weights


BASE_FILE = "base_fingerprint.json"


FINGERPRINT_ATTRIBUTE = "base_fingerprint"


SHARED_EMBEDDING = "shared"


def base_fingerprint(model: PreTrainedModel) -> dict[str, str | list[int]]:
    """
    The identity of a base checkpoint, the same in whatever precision it is loaded.

    Returns:
        `model_type`, the `shape` of the embedding, and the sha256 of its values in bfloat16. Adapters and 4-bit
        loading leave the embedding as it is.
    """
    embedding = cast(nn.Embedding, model.get_input_embeddings())
    parameter = cast(nn.Parameter, embedding.weight)
    with gathered_weights([parameter]):
        weight = parameter.detach()
        values = weight.to(device="cpu", dtype=torch.bfloat16).contiguous().view(torch.int16).numpy()
        return {
            "model_type": model.config.model_type,
            "shape": list(weight.shape),
            "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        }


def load_adapter(model: PreTrainedModel, adapter_dir: str | Path, is_trainable: bool = False) -> PeftModel:
    """
    A model with an adapter on it.

    Args:
        model: The base.
        adapter_dir: Directory of the adapter.
        is_trainable: Whether training goes on.

    Raises:
        ValueError: The adapter was made for another base, by the fingerprint beside it or by the shapes; or it has an
            embedding of its own that no layer reads; or its weights are a pickle, or its files are damaged.
    """
    check_checkpoint("adapter", str(adapter_dir))
    check_saved_modules(adapter_dir)
    record = Path(adapter_dir) / BASE_FILE
    if record.is_file():
        expected, found = read_json_object(record, "`adapter`:"), base_fingerprint(model)
        differing = [name for name in expected if expected[name] != found.get(name)]
        if differing:
            details = "; ".join(f"{name} {expected[name]} there, {found.get(name)} here" for name in differing)
            raise ValueError(
                f"`adapter` {str(adapter_dir)!r} was made for another base: {details}. Its own base is "
                f"{base_name(adapter_dir)!r}."
            )
    with reading_checkpoint("adapter", str(adapter_dir)):
        try:
            return PeftModel.from_pretrained(model, str(adapter_dir), is_trainable=is_trainable)
        except (RuntimeError, ValueError) as error:
            # Other values that PEFT refuses say what they are.
            if isinstance(error, ValueError) and "not found in the base model" not in str(error):
                raise
            raise ValueError(
                f"it does not fit this model, it was made for another base, {base_name(adapter_dir)!r}: {error}"
            ) from error


def check_saved_modules(adapter_dir: str | Path) -> None:
    """
    Refuses an adapter whose own embedding has no effect, and would be saved with a merged model.

    Raises:
        ValueError: It keeps `shared`, of which the stacks have copies of their own, `embed_tokens`.
    """
    saved = read_json_object(Path(adapter_dir) / ADAPTER_CONFIG_NAME, "`adapter`:").get("modules_to_save")
    if isinstance(saved, list) and any(str(name).rsplit(".", 1)[-1] == SHARED_EMBEDDING for name in saved):
        raise ValueError(
            f"`adapter` {str(adapter_dir)!r} has `modules_to_save` = {saved}, and encoder and decoder read "
            "`embed_tokens`, not `shared`: it was trained without effect. Train it again with `embed_tokens` and "
            "`lm_head` in its place."
        )


def base_name(adapter_dir: str | Path, argument: str = "adapter") -> str:
    """
    The name of an adapter's base, from its config; "unknown" where there is none.

    Args:
        adapter_dir: Directory of the adapter.
        argument: Name of the argument that gives it, for messages.

    Raises:
        ValueError: The config is damaged.
    """
    config = read_json_object(Path(adapter_dir) / ADAPTER_CONFIG_NAME, f"`{argument}`:")
    return config.get("base_model_name_or_path") or "unknown"


def generate_as_trained(model: Any, adapter_dir: str | Path, argument: str) -> None:
    """
    Makes the base of an adapter generate as the adapter's run did: by the generation config that a run saves beside
    its adapter, and with the prefix that it keeps there.

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
