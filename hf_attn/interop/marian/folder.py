# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Finds the files of a model: those of Firefox Translations, a student of Bergamot's, a directory of Marian's training.

Files that a settings file names (`config.*.yml` of Bergamot, `*.decoder.yml` of Marian) are taken; else names tell:
`model.*.bin` or `model.npz`, `vocab.*.spm` or `srcvocab.*.spm` and `trgvocab.*.spm`, `lex.*`; each also with `.gz`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...loading.json_files import read_json_object
from .files import parse_options


_MODEL_ENDINGS = (".npz", ".bin")
_VOCABULARY_ENDINGS = (".spm", ".model", ".yml", ".yaml", ".json")
_OTHER_COMPRESSION = (".zst", ".xz", ".bz2")
# Files of a training that hold more, or less, than a model.
_NO_MODELS = (".optimizer.npz", ".orig.npz", "lex.", "vocab")
_MOST_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFolder:
    """
    The files of a model.

    Attributes:
        model: Weights and options.
        vocabularies: Of source and target; one file twice where they share it.
        shortlist: Which target words go with a source word.
        training_options: Of the training, where the model file may lack its own.
        settings: What the settings file says: `beam-size`, `normalize` and so on.
        metadata: What Firefox's `metadata.json` says: languages, architecture.
    """

    model: Path
    vocabularies: tuple[Path, Path]
    shortlist: Path | None = None
    training_options: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def find_files(source: str | Path) -> ModelFolder:
    """
    The files of the model in a directory, or of a model file with what lies beside it.

    Raises:
        ValueError: There is no such directory or file; a model or a vocabulary is missing, or there are several and
            nothing says which; a settings file names what is not there.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"`source` must be a directory or a file, got {str(source)!r}: there is none.")
    directory = source if source.is_dir() else source.parent
    names = sorted(path.name for path in directory.iterdir() if path.is_file())
    settings_file, settings = _settings(directory, names, source.name if source.is_file() else None)
    model = source if source.is_file() else _model(directory, names, settings_file, settings)
    return ModelFolder(
        model=model,
        vocabularies=_vocabularies(directory, names, settings_file, settings),
        shortlist=_shortlist(directory, names, settings),
        training_options=_beside(model),
        settings=settings,
        metadata=_metadata(directory / "metadata.json"),
    )


def _settings(directory: Path, names: list[str], model_name: str | None) -> tuple[str | None, dict[str, Any]]:
    """The first settings file that names models and vocabularies; of a model file, one that names it."""
    for name in names:
        path = directory / name
        if path.suffix not in (".yml", ".yaml") or path.stat().st_size > _MOST_SETTINGS_BYTES:
            continue
        try:
            settings = parse_options(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if not (_is_names(settings.get("models"), 1) and _is_names(settings.get("vocabs"), 2)):
            continue
        if model_name is None or Path(settings["models"][0]).name == model_name:
            return name, settings
    return None, {}


def _is_names(value: Any, number: int) -> bool:
    return isinstance(value, list) and len(value) == number and all(isinstance(name, str) and name for name in value)


def _model(directory: Path, names: list[str], settings_file: str | None, settings: Mapping[str, Any]) -> Path:
    if settings_file is not None:
        return _named(directory, names, settings_file, settings["models"][0])
    found = [
        name
        for name in names
        if _plain(name).endswith(_MODEL_ENDINGS) and not any(part in name for part in _NO_MODELS)
    ]
    for preferred in ("model.npz", "model.bin"):
        if preferred in found:
            return directory / preferred
    if len(found) != 1:
        raise ValueError(_which(directory, names, "a model (`*.npz`, `*.bin`)", found))
    return directory / found[0]


def _vocabularies(
    directory: Path, names: list[str], settings_file: str | None, settings: Mapping[str, Any]
) -> tuple[Path, Path]:
    if settings_file is not None:
        source, target = (_named(directory, names, settings_file, name) for name in settings["vocabs"])
        return source, target
    found = [name for name in names if _plain(name).endswith(_VOCABULARY_ENDINGS)]
    for pair in (("srcvocab", "trgvocab"), ("source.", "target."), ("vocab.src.", "vocab.trg.")):
        sides = [[name for name in found if name.startswith(side)] for side in pair]
        if all(len(side) == 1 for side in sides):
            return directory / sides[0][0], directory / sides[1][0]
    for candidates in (
        [name for name in found if name.startswith("vocab") and _plain(name).endswith(".spm")],
        [name for name in found if name.startswith("vocab")],
        [name for name in found if _plain(name).endswith((".spm", ".model"))],
    ):
        if len(candidates) == 1:
            return directory / candidates[0], directory / candidates[0]
        if candidates:
            raise ValueError(_which(directory, names, "one vocabulary, or `srcvocab.*` and `trgvocab.*`", candidates))
    raise ValueError(_which(directory, names, "a vocabulary (`*.spm`, `vocab.yml`)", []))


def _shortlist(directory: Path, names: list[str], settings: Mapping[str, Any]) -> Path | None:
    named = settings.get("shortlist")
    if isinstance(named, list) and named and isinstance(named[0], str) and (directory / named[0]).is_file():
        return directory / named[0]
    found = [name for name in names if name.startswith("lex.")]
    # The binary one is made from the other.
    for name in sorted(found, key=lambda name: not _plain(name).endswith(".bin")):
        return directory / name
    return None


def _named(directory: Path, names: list[str], settings_file: str, name: str) -> Path:
    """The file that a settings file names, wherever it lay then; compressed or not."""
    for candidate in (Path(name).name, f"{Path(name).name}.gz"):
        if candidate in names:
            return directory / candidate
    elsewhere = directory / name
    if elsewhere.is_file():
        return elsewhere
    raise ValueError(
        f"`source`: {settings_file!r} in {str(directory)!r} names the file {name!r}, which is not there. There are: "
        f"{_listed(names)}."
    )


def _beside(model: Path) -> Path | None:
    """The options that Marian's training writes beside its model."""
    path = model.with_name(f"{_plain(model.name)}.yml")
    return path if path.is_file() else None


def _metadata(path: Path) -> dict[str, Any]:
    return read_json_object(path, "`source`: the metadata") if path.is_file() else {}


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


def _which(directory: Path, names: list[str], wanted: str, found: list[str]) -> str:
    compressed = [name for name in names if name.endswith(_OTHER_COMPRESSION)]
    if found:
        return f"`source` must hold {wanted}, and {str(directory)!r} has several: {_listed(found)}. Name one file."
    hint = f" Decompress {_listed(compressed)} first; only .gz is read." if compressed else ""
    return f"`source` must hold {wanted}, and {str(directory)!r} has none. There are: {_listed(names)}.{hint}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(map(repr, names[:20])) or "no files") + more
