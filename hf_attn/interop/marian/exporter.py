# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Writes a model as files of Marian, Bergamot and Firefox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ...configuration_hf_attn import HfAttnConfig
from .configuration import describe_config
from .files import (
    LazyArray,
    Quantization,
    dump_options,
    is_quantized_name,
    parse_options,
    write_bin,
    write_npz,
)
from .options import Description, describe, options_of
from .origin import Origin
from .shortlist import parse_shortlist, write_shortlist
from .tokenizer import extend_vocabulary
from .weights import export_weights


# intgemm multiplies by matrices whose outer dimension is a multiple of it, and the vocabulary is one.
_VOCABULARY_MULTIPLE = 8
_SETTINGS_FILE = "config.yml"
_DEFAULT_SETTINGS = {"beam-size": 1, "normalize": 1.0, "word-penalty": 0, "max-length-factor": 2.5}


def write_folder(
    directory: str | Path,
    config: HfAttnConfig,
    read: Callable[[str], np.ndarray],
    tokenizer: PreTrainedTokenizerBase,
    origin: Origin,
    *,
    quantize: bool = False,
) -> dict[str, Path]:
    """
    Writes model, vocabularies, shortlist and settings into a directory.

    Tokens that were added behind `<pad>` become pieces of the vocabulary, with rows of the embedding.

    Args:
        directory: There already; files of the same names are overwritten. After an error it may hold some of them.
        config: Of the model.
        read: Returns a weight of `HfAttnForConditionalGeneration` by name, float32; adapters are merged.
        tokenizer: Of the model, from `build_tokenizer`, or with tokens added.
        origin: Of the checkpoint, or of the one that it was made of.
        quantize: `.bin` in 8 bits of intgemm, with the multipliers of activations that the model came with if they
            cover all of it; else `.npz` in float32.

    Returns:
        The files: `model`, `source_vocabulary`, `target_vocabulary`, `shortlist` (if there is one), `settings`.

    Raises:
        ValueError: Marian, or with `quantize` Bergamot's engine, cannot run the model; a weight is not finite, or not
            zero where Marian has none; tokens were added to two vocabularies, or to a list of words.
    """
    directory = Path(directory)
    multiple = _VOCABULARY_MULTIPLE if quantize else 1
    tokens = _added_tokens(config, tokenizer)
    if tokens and origin.has_two_vocabularies:
        raise ValueError(f"Tokens cannot be added to two vocabularies, got {tokens[:5]}.")
    source, target = (extend_vocabulary(vocabulary, tokens, multiple) for vocabulary in origin.vocabularies)
    description = describe_config(config, (source.size, target.size))
    rows = [
        _rows(config, known.size, len(tokens), extended.size)
        for known, extended in zip(origin.vocabularies, (source, target), strict=True)
    ]
    arrays = list(export_weights(read, description, config.pad_token_id, *rows))
    options_text = _options_text(description, origin)
    written = {}
    if quantize:
        _check_bergamot(description)
        quantization = _quantization(arrays, origin)
        written["model"] = directory / _model_name(origin, ".bin", bool(quantization.activations))
        write_bin(written["model"], arrays, options_text, quantization)
    else:
        quantization = None
        written["model"] = directory / _model_name(origin, ".npz", False)
        write_npz(written["model"], arrays, options_text)
    for side, vocabulary in (("source_vocabulary", source), ("target_vocabulary", target)):
        written[side] = directory / vocabulary.name
        written[side].write_bytes(vocabulary.content)
    num_added = source.size - origin.vocabularies[0].size
    if origin.shortlist is not None and origin.shortlist_name is not None:
        if origin.shortlist_name.endswith(".bin"):
            written["shortlist"] = directory / origin.shortlist_name
            shortlist = parse_shortlist(origin.shortlist)
            write_shortlist(written["shortlist"], shortlist.extended(num_added) if num_added else shortlist)
        elif not num_added:
            written["shortlist"] = directory / origin.shortlist_name
            written["shortlist"].write_bytes(origin.shortlist)
    written["settings"] = directory / _SETTINGS_FILE
    settings = _settings(written, origin, quantization)
    written["settings"].write_text(dump_options(settings) + "\n", encoding="utf-8")
    return written


def _check_bergamot(description: Description) -> None:
    """
    Refuses what Bergamot's engine, a Marian of old, computes in another way or not at all.

    Raises:
        ValueError: With all of it.
    """
    asked = {
        f"`norm_position` must be 'post', got {description.norm_position!r}": description.norm_position != "post",
        f"`norm_type` must be 'layernorm', got {description.norm_type!r}": description.norm_type != "layernorm",
        "`activation_function` must be relu, silu or quick_gelu, got gelu": description.activation_function == "gelu",
        f"`decoder_ffn_dim` must be `encoder_ffn_dim`, got {description.decoder_ffn_dim} and "
        f"{description.encoder_ffn_dim}": description.decoder_ffn_dim != description.encoder_ffn_dim,
        "`tie_word_embeddings` must be True, got False": not description.ties_output,
    }
    faults = [fault for fault, is_asked in asked.items() if is_asked]
    if faults:
        raise ValueError(f"The engine of 8 bits cannot run this model: {'; '.join(faults)}. Write float32.")


def _added_tokens(config: HfAttnConfig, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Tokens behind `<pad>`; rows of the embedding without one are left out."""
    added = range(config.pad_token_id + 1, min(config.vocab_size, len(tokenizer)))
    return [str(token).replace(" ", "▁") for token in tokenizer.convert_ids_to_tokens(list(added))]


def _rows(config: HfAttnConfig, known_size: int, num_added: int, size: int) -> np.ndarray:
    added = np.arange(config.pad_token_id + 1, config.pad_token_id + 1 + num_added)
    fillers = np.full(size - known_size - num_added, -1)
    return np.concatenate([np.arange(known_size), added, fillers])


def _options_text(description: Description, origin: Origin) -> str:
    """The text that the model came with, where it still says what the model is."""
    known = parse_options(origin.options_text)
    if describe(known) == description:
        return origin.options_text
    return dump_options(options_of(description, known))


def _quantization(arrays: list[LazyArray], origin: Origin) -> Quantization:
    known = origin.quantization or Quantization()
    # The embedding is looked up; as the output projection it goes by the name `none`, whatever its own.
    matrices = {array.name for array in arrays if is_quantized_name(array.name) and "Wemb" not in array.name}
    # An engine either looks up all of them or measures all of them.
    is_complete = {*matrices, "none"} <= set(known.activations)
    return Quantization(known.weights, known.activations if is_complete else {})


def _model_name(origin: Origin, ending: str, has_activations: bool) -> str:
    stem = origin.model_name.rpartition(".")[0].removesuffix(".alphas").removesuffix(".intgemm")
    return stem + {".npz": "", ".bin": ".intgemm.alphas" if has_activations else ".intgemm"}[ending] + ending


def _settings(written: dict[str, Path], origin: Origin, quantization: Quantization | None) -> dict[str, Any]:
    settings = {**_DEFAULT_SETTINGS, **origin.settings}
    settings["relative-paths"] = True
    settings["models"] = [written["model"].name]
    settings["vocabs"] = [written["source_vocabulary"].name, written["target_vocabulary"].name]
    for name in ("shortlist", "gemm-precision"):
        settings.pop(name, None)
    if "shortlist" in written:
        settings["shortlist"] = [written["shortlist"].name, False]
    if quantization is not None:
        settings["gemm-precision"] = "int8shiftAlphaAll" if quantization.activations else "int8shiftAll"
    return settings
