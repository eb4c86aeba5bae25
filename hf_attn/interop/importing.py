# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of others become hf_attn's: read, converted, proved equal, and only then written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME

from ..configuration_hf_attn import HfAttnConfig
from ..loading.checkpoint_files import is_adapter, load_complete
from ..loading.json_files import read_json_object
from ..modeling_hf_attn import HfAttnForConditionalGeneration
from ..text.tokenizer_files import TOKENIZER_FILES
from .conversion import convert, family_of, from_weights
from .marian import read_folder
from .proof import Proof, prove


ORIGIN_FOLDER = "transformers"
"""Where the config that a checkpoint came with is kept, for the way back."""
ADAPTER_FOLDER = "adapter"
"""Where an adapter is written inside the directory of its base."""


@dataclass(frozen=True)
class Imported:
    """
    A checkpoint that was imported.

    Attributes:
        model: In evaluation mode, in the dtype of the source.
        tokenizer: `None` where the source has none.
        proof: How well it agreed with the source; `None` where the source's own engine is not at hand.
        adapter_proof: As `proof`, with the adapter on both.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    proof: Proof | None
    adapter_proof: Proof | None = None


def import_checkpoint(source: str | Path, out: str | Path, adapter: str | Path | None = None) -> Imported:
    """
    Imports a checkpoint of transformers, or a folder of Marian or Firefox Translations, into a directory.

    Weights of a pickle are read too, by `torch.load(weights_only=True)`, which runs no code, and are written as
    safetensors. Whether embeddings are tied is what the files say, not what the config does.

    Args:
        source: A directory, or the name of a checkpoint on the Hub.
        out: A directory that is not there, or empty.
        adapter: The directory of a LoRA that PEFT trained on `source`; goes to `adapter` inside `out`.

    Returns:
        The model and tokenizer that were written; with `adapter` the model has it on.

    Raises:
        ValueError: `source` is of no family that can be held, or its files disagree, or the result does not compute
            what it does; or `out` holds something. Nothing is written then.
    """
    with new_directory(out) as directory:
        if _is_marian(Path(source)):
            if adapter is not None:
                raise ValueError("`--adapter` is for checkpoints of transformers; Marian has none.")
            return _import_marian(Path(source), directory)
        folder = _folder(str(source))
        if is_adapter(str(folder)):
            raise ValueError(
                f"`SOURCE` {str(source)!r} holds an adapter. Import its base, and the adapter beside it: "
                "`hf-attn import BASE OUT --adapter SOURCE`."
            )
        model = _load(folder)
        target = convert(model)
        tokenizer, proof = _tokenizer(folder), prove(model, target)
        target.save_pretrained(directory)
        model.config.save_pretrained(directory / ORIGIN_FOLDER)
        if tokenizer is not None:
            tokenizer.save_pretrained(directory)
        if adapter is None:
            return Imported(target, tokenizer, proof)
        # PEFT takes as long to import as all else.
        from .adapters import import_adapter

        adapter_proof = import_adapter(adapter, model, target, directory / ADAPTER_FOLDER, base_name=str(out))
        return Imported(target, tokenizer, proof, adapter_proof)


def _is_marian(source: Path) -> bool:
    """Whether this is a model file of Marian, or a directory with one and without a config of transformers."""
    if source.is_dir():
        names = [path.name.removesuffix(".gz") for path in source.iterdir()]
        return CONFIG_NAME not in names and any(name.endswith((".npz", ".bin")) for name in names)
    return source.is_file()


def _import_marian(source: Path, directory: Path) -> Imported:
    read = read_folder(source)
    weights = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in read.weights()}
    model = from_weights(HfAttnForConditionalGeneration, HfAttnConfig(**read.config), weights, torch.float32)
    model.generation_config = GenerationConfig(**read.generation)
    model.save_pretrained(directory)
    read.tokenizer.save_pretrained(directory)
    read.origin.save(directory)
    return Imported(model, read.tokenizer, None)


def _folder(source: str) -> Path:
    """The directory of a checkpoint, which is downloaded if it is the name of one on the Hub."""
    if os.path.isdir(source):
        folder = Path(source)
        if not (folder / CONFIG_NAME).is_file() and not is_adapter(source):
            raise ValueError(
                f"`SOURCE` must hold the config.json of transformers, or a model file of Marian (`.npz`, `.bin`), got "
                f"{source!r}, with {', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing in it'}."
            )
        return folder
    kinds = ["*.json", "*.txt", "*.model", "*.spm", "*.codes", "*.safetensors"]
    try:
        folder = Path(snapshot_download(source, allow_patterns=kinds))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(source, allow_patterns=["pytorch_model*.bin"])
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"`SOURCE` must be a directory, or the name of a checkpoint on the Hub, got {source!r}: {error}"
        ) from error
    return folder


def _load(folder: Path) -> PreTrainedModel:
    """The model of a checkpoint of transformers, in evaluation mode."""
    read_json_object(folder / CONFIG_NAME, "`SOURCE`:")
    try:
        config = AutoConfig.from_pretrained(folder)
        family_of(config)
        return load_complete(_model_class(config), str(folder), dtype="auto", attn_implementation="eager").eval()
    except (OSError, KeyError, RuntimeError, TypeError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f"`SOURCE` {str(folder)!r} cannot be loaded: {error}") from error


def _model_class(config: Any) -> Any:
    """The class that the checkpoint was saved as, where it is one that can be held; else the one that writes."""
    names = config.architectures or []
    known = next((name for name in names if name.endswith(("ForConditionalGeneration", "MTModel"))), None)
    if known is None:
        known = next((name for name in names if name == "BartForQuestionAnswering"), None)
    if known is None and names:
        raise ValueError(
            f"`SOURCE` was saved as {' or '.join(names)}: models that write text can be imported, and "
            "BartForQuestionAnswering."
        )
    return transformers.AutoModelForSeq2SeqLM if known is None else getattr(transformers, known)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    # Without files transformers makes an empty tokenizer of the config's kind.
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(folder)


@contextmanager
def new_directory(out: str | Path) -> Iterator[Path]:
    """
    A directory beside `out` that becomes it when the context ends without an error, and else goes.

    Raises:
        ValueError: `out` holds something, or is a file, or cannot be made.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"`OUT` must be a directory that is not there, or empty, got {str(out)!r}.")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    except OSError as error:
        raise ValueError(f"`OUT` must be a place to write to, got {str(out)!r}: {error.strerror}.") from error
    try:
        yield directory
        # As a directory made in the usual way has it.
        umask = os.umask(0)
        os.umask(umask)
        directory.chmod(0o777 & ~umask)
        if out.exists():
            out.rmdir()
        directory.rename(out)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
