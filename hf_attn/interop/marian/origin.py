# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
The files that an imported checkpoint keeps of those it came from, for the way back: a directory `marian` in it.

    vocabulary files   under their names
    shortlist          under its name
    origin.json        names of these and of the model file; options; settings; multipliers of 8 bits; metadata
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...loading.json_files import read_json_object
from .files import Quantization, read_bytes
from .tokenizer import Vocabulary, read_vocabulary


DIRECTORY = "marian"
_FILE = "origin.json"


@dataclass(frozen=True)
class Origin:
    """
    The files that a checkpoint came from.

    Attributes:
        model_name: Of the model file, without `.gz`.
        options_text: Marian's options of the model.
        vocabularies: Of source and target; one twice where they share it.
        quantization: Of a file in 8 bits.
        shortlist_name, shortlist: The file's name, without `.gz`, and its bytes.
        settings: Of the settings file, such as `beam-size`.
        metadata: Of Firefox's `metadata.json`.
    """

    model_name: str
    options_text: str
    vocabularies: tuple[Vocabulary, Vocabulary]
    quantization: Quantization | None = None
    shortlist_name: str | None = None
    shortlist: bytes | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_two_vocabularies(self) -> bool:
        return self.vocabularies[0].content != self.vocabularies[1].content

    def save(self, checkpoint: str | Path) -> None:
        """Writes the directory `marian` into a checkpoint's."""
        directory = Path(checkpoint) / DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        for vocabulary in self.vocabularies:
            (directory / vocabulary.name).write_bytes(vocabulary.content)
        if self.shortlist_name is not None and self.shortlist is not None:
            (directory / self.shortlist_name).write_bytes(self.shortlist)
        content = {
            "model": self.model_name,
            "options": self.options_text,
            "vocabularies": [vocabulary.name for vocabulary in self.vocabularies],
            "quantization": None if self.quantization is None else asdict(self.quantization),
            "shortlist": self.shortlist_name,
            "settings": dict(self.settings),
            "metadata": dict(self.metadata),
        }
        (directory / _FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, checkpoint: str | Path) -> Origin | None:
        """
        Reads the directory `marian` of a checkpoint; `None` where there is none.

        Raises:
            ValueError: A file in it is missing or damaged.
        """
        directory = Path(checkpoint) / DIRECTORY
        if not (directory / _FILE).is_file():
            return None
        content = read_json_object(directory / _FILE, "The origin of the checkpoint")
        try:
            quantization = content["quantization"]
            names = [Path(name).name for name in content["vocabularies"]]
            shortlist_name = content["shortlist"]
            shortlist = None
            if shortlist_name is not None:
                shortlist = bytes(read_bytes(directory / Path(shortlist_name).name))
            source, target = (read_vocabulary(directory / name) for name in names)
            return cls(
                model_name=Path(content["model"]).name,
                options_text=str(content["options"]),
                vocabularies=(source, target),
                quantization=None if quantization is None else Quantization(**quantization),
                shortlist_name=shortlist_name,
                shortlist=shortlist,
                settings=dict(content["settings"]),
                metadata=dict(content["metadata"]),
            )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"The origin of the checkpoint in {str(directory)!r} cannot be read: {error}.") from error
