# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Reads a model of Marian, Bergamot or Firefox: what a checkpoint of `HfAttnForConditionalGeneration` is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from .configuration import DEFAULT_MAX_POSITIONS, config_fields
from .files import ModelFile, parse_options, read_bytes, read_model
from .folder import ModelFolder, find_files
from .options import Description, describe, model_options
from .origin import Origin
from .shortlist import Shortlist, read_shortlist
from .tokenizer import build_tokenizer, build_tokenizer_of_two, check_size, read_vocabulary
from .weights import check_arrays, import_weights


# Tokens: Marian stops at a multiple of the source's length, which `generate` does not know.
_MOST_NEW_TOKENS = 512


@dataclass(frozen=True)
class MarianModel:
    """
    A model that was read: all that a checkpoint is made of.

    Attributes:
        files: Where it was read.
        description: The model, in plain words.
        config: Fields of `HfAttnConfig`.
        generation: Values of `GenerationConfig`.
        tokenizer: Of source and target.
        shortlist: Target words by source word, if there is one in binary.
        origin: What is kept for the way back.
        file: The weights' file.
    """

    files: ModelFolder
    description: Description
    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    shortlist: Shortlist | None
    origin: Origin
    file: ModelFile

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and float32 weight, one after another; tied ones once, as `import_weights`."""
        num_rows = max(self.description.vocabulary_sizes)
        return import_weights(self.file.__getitem__, self.description, num_rows)


def read_folder(source: str | Path, max_positions: int = DEFAULT_MAX_POSITIONS) -> MarianModel:
    """
    Reads a directory of Firefox Translations, Bergamot or Marian, or a model file with what lies beside it.

    Args:
        source: The directory or file.
        max_positions: `max_position_embeddings`, in tokens; Marian has no limit.

    Raises:
        ValueError: A file is missing, damaged or of another kind; the model has an option without counterpart; its
            arrays are not those of its options; a vocabulary or the shortlist belongs to another model.
        ImportError: There are two vocabularies, and sentencepiece is not installed.
    """
    files = find_files(source)
    training_options = None
    if files.training_options is not None:
        training_options = _training_options(files.training_options)
    file = read_model(files.model, training_options)
    description = describe(file.options)
    check_arrays(file.shapes, description)
    vocabularies = (read_vocabulary(files.vocabularies[0]), read_vocabulary(files.vocabularies[1]))
    for vocabulary, size in zip(vocabularies, description.vocabulary_sizes, strict=True):
        check_size(vocabulary, size)
    shortlist_name, shortlist_bytes, shortlist = None, None, None
    if files.shortlist is not None:
        shortlist_name, shortlist_bytes = files.shortlist.name.removesuffix(".gz"), bytes(read_bytes(files.shortlist))
        if shortlist_name.endswith(".bin"):
            shortlist = read_shortlist(files.shortlist)
            shortlist.check_vocabularies(*description.vocabulary_sizes)
    origin = Origin(
        model_name=files.model.name.removesuffix(".gz"),
        options_text=file.options_text,
        vocabularies=vocabularies,
        quantization=file.quantization,
        shortlist_name=shortlist_name,
        shortlist=shortlist_bytes,
        settings=files.settings,
        metadata=files.metadata,
    )
    has_two = origin.has_two_vocabularies
    if has_two and description.shares_embedding:
        raise ValueError(
            f"Source and target share one embedding, and their vocabularies {files.vocabularies[0].name!r} and "
            f"{files.vocabularies[1].name!r} differ."
        )
    num_rows = max(description.vocabulary_sizes)
    if has_two:
        tokenizer = build_tokenizer_of_two(*vocabularies, num_rows, max_positions)
    else:
        tokenizer = build_tokenizer(vocabularies[0], num_rows, max_positions)
    config = config_fields(
        description,
        eos_token_id=vocabularies[1].eos_id,
        has_two_vocabularies=has_two,
        max_positions=max_positions,
    )
    return MarianModel(
        files=files,
        description=description,
        config=config,
        generation=_generation(files.settings, config, vocabularies[1].unk_id),
        tokenizer=tokenizer,
        shortlist=shortlist,
        origin=origin,
        file=file,
    )


def _training_options(path: Path) -> dict[str, Any]:
    try:
        return model_options(parse_options(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise ValueError(f"The options of the training, {str(path)!r}, cannot be read: {error}.") from error


def _generation(settings: Mapping[str, Any], config: Mapping[str, Any], unk_id: int) -> dict[str, Any]:
    """As Marian searches: it never writes what is unknown, unless `allow-unk` asks for it."""
    values: dict[str, Any] = {
        name: config[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    }
    values["max_length"] = min(_MOST_NEW_TOKENS, config["max_position_embeddings"])
    if not settings.get("allow-unk", False):
        values["suppress_tokens"] = [unk_id]
    num_beams, exponent = settings.get("beam-size", 1), settings.get("normalize", 0.0)
    if not (isinstance(num_beams, int) and num_beams > 0 and isinstance(exponent, (int, float))):
        raise ValueError(
            "The settings `beam-size` and `normalize` must be a number from 1 on and a number, got "
            f"{num_beams!r} and {exponent!r}."
        )
    values["num_beams"] = int(num_beams)
    if num_beams > 1:
        values["length_penalty"] = float(exponent)
    return values
