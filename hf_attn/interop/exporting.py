# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of hf_attn leave for other engines: loaded, converted, checked, and only then written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME

from ..configuration_hf_attn import HfAttnConfig
from ..configuration_mechanisms import check_choice
from ..loading.adapter import base_name
from ..loading.checkpoint_files import is_adapter
from ..loading.inference import load_for_inference
from .importing import ORIGIN_FOLDER, new_directory
from .marian import Origin, write_folder
from .proof import prove
from .to_transformers import to_transformers


def export_checkpoint(
    model: str | Path,
    out: str | Path,
    format: str,
    quantization: str | None = None,
    adapter: str | Path | None = None,
) -> list[str]:
    """
    Writes a checkpoint for another engine.

    Args:
        model: A directory, or the name of a checkpoint on the Hub, or the directory of an adapter. An adapter is
            merged into its base first.
        out: A directory that is not there, or empty.
        format: `marian` (`.npz` in float32, `.bin` in 8 bits, with vocabulary and settings, for Marian, Bergamot and
            Firefox) or `transformers` (the family that it came from, or the first whose shape fits).
        quantization: `int8`, where the format has it.
        adapter: The directory of an adapter for `model`.

    Returns:
        Lines that say what was done.

    Raises:
        ValueError: The format cannot hold the model; the message says which part. Or `out` holds something. Nothing is
            written then.
    """
    check_choice("format", format, FORMATS)
    if quantization is not None:
        check_choice("quantization", quantization, ("int8",))
        if format == "transformers":
            raise ValueError("`quantization` has no effect with `format` = 'transformers': leave it out.")
    name = str(model)
    if adapter is None and is_adapter(name):
        name, adapter = base_name(name, "MODEL"), name
    loaded: Any
    loaded, tokenizer = load_for_inference(name, None if adapter is None else str(adapter))
    lines = []
    if adapter is not None:
        loaded = loaded.merge_and_unload(safe_merge=True)
        lines.append(f"The adapter {str(adapter)!r} was merged into {name!r}.")
    if not isinstance(loaded.config, HfAttnConfig):
        raise ValueError(f"`MODEL` must be a checkpoint of hf_attn, got {loaded.config.model_type!r}.")
    loaded = loaded.to("cpu").float().eval()
    with new_directory(out) as directory:
        lines += FORMATS[format](loaded, tokenizer, Path(name), directory, quantization)
    return lines


def _write_transformers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: Path, directory: Path, quantization: str | None
) -> list[str]:
    target = to_transformers(model, _origin(source))
    # What came in the other way was held to the source; here the checkpoint is the source.
    proof = prove(target, model)
    target.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return [f"{type(target).__name__}, equal to the model: {proof}."]


def _origin(source: Path) -> PreTrainedConfig | None:
    """The config that a checkpoint was imported with."""
    folder = source / ORIGIN_FOLDER
    return AutoConfig.from_pretrained(folder) if (folder / CONFIG_NAME).is_file() else None


def _write_marian(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: Path, directory: Path, quantization: str | None
) -> list[str]:
    origin = Origin.load(source)
    if origin is None:
        raise ValueError(
            f"`MODEL` {str(source)!r} has no SentencePiece vocabulary, which Marian's engines read: those that were "
            "imported from Marian or Firefox keep it in their folder `marian`."
        )
    weights = model.state_dict()

    def read(name: str) -> np.ndarray:
        return weights[name].numpy()

    written = write_folder(
        directory,
        cast(HfAttnConfig, model.config),
        read,
        tokenizer,
        origin,
        quantize=quantization is not None,
    )
    return [f"{kind}: {path.name}" for kind, path in written.items()]


FORMATS: dict[str, Callable[..., list[str]]] = {"marian": _write_marian, "transformers": _write_transformers}
"""Name of a format -> a function of model, tokenizer, the source, an empty directory and a quantization."""
