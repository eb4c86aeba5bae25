# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Output directories of one run each: the same run on the same data goes on in it, any other is refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.utils import logging

from .trainer.checkpoints import last_checkpoint, part_of, read_json, write_text_whole


logger = logging.get_logger(__name__)

RUN_FILE = "run.json"

_DATA_FILES = ("train_file", "validation_file", "test_file")
# Key of `RUN_FILE` for the fingerprints of the data.
_FINGERPRINTS = "data_fingerprints"
_READ_WHOLE_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
_HUB_SECONDS = 10.0

# Arguments that change neither the weights nor the predictions.
_INCIDENTAL = frozenset(
    (
        "output_dir",
        "resume_from_checkpoint",
        "disable_tqdm",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "push_to_hub",
        "hub_model_id",
        "hub_strategy",
        "hub_token",
        "hub_private_repo",
        "hub_always_push",
        "hub_revision",
        "data_license",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_nan_inf_filter",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "per_device_eval_batch_size",
        "eval_accumulation_steps",
        "torch_empty_cache_steps",
        "ddp_timeout",
        "num_samples",
    )
)


def resume_or_refuse(output_dir: str | Path, values: dict[str, Any]) -> str | None:
    """
    The checkpoint that a run goes on from in its output directory. Nothing is written: `record_run` does that.

    Args:
        output_dir: May be missing, empty, or hold a run.
        values: Arguments of this run that differ from their defaults, as `parse_arguments` returns them.

    Returns:
        The last checkpoint of the same run that is whole, or `None` when there is nothing to resume.

    Raises:
        ValueError: The directory holds a different run, or the same on data that have changed since, or files
            that no run wrote, or cannot be written to.
    """
    directory = Path(output_dir)
    _check_writable(directory)
    record = directory / RUN_FILE
    if record.is_file():
        recorded = read_json(record)
        fingerprints = recorded.pop(_FINGERPRINTS, {})
        differing = _differences(recorded, _described(values))
        if differing:
            raise ValueError(
                f"`output_dir` {str(directory)!r} already holds a different run: {'; '.join(differing)}. "
                "Choose another `output_dir`, or delete this one."
            )
        _check_data(directory, fingerprints, values)
        checkpoint = last_checkpoint(directory)
        logger.info(f"{directory} holds this run; " + (f"it goes on from {checkpoint}." if checkpoint else "again."))
        return checkpoint
    # What the trainer and the launcher may have put there before the first run, and what a killed one left.
    expected = ("runs", part_of(record).name)
    present = [path.name for path in directory.iterdir() if path.name not in expected] if directory.is_dir() else []
    if present:
        raise ValueError(
            f"`output_dir` {str(directory)!r} holds files that no run of a recipe wrote: "
            f"{', '.join(sorted(present)[:5])}. Choose another `output_dir`, or delete this one."
        )
    return None


def record_run(output_dir: str | Path, values: dict[str, Any]) -> None:
    """
    Makes the directory and writes into it, for `resume_or_refuse`, the arguments of the run that it will hold, and the
    fingerprints of its data: of files their contents, of a data set on the Hub its commit.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    described = _described(values)
    fingerprints = _fingerprints(values)
    if fingerprints:
        described[_FINGERPRINTS] = fingerprints
    write_text_whole(Path(output_dir) / RUN_FILE, json.dumps(described, indent=2) + "\n")


def fingerprint(path: str | Path) -> str:
    """
    The size and the SHA-256 of a file; of one above 1 GiB, the latter of 1024 blocks of 1 MiB at even distances.

    Args:
        path: A file that exists.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if size <= _READ_WHOLE_BYTES:
            digest = hashlib.file_digest(file, "sha256")
        else:
            digest = hashlib.sha256()
            for block in range(1024):
                file.seek(block * (size - _BLOCK_BYTES) // 1023)
                digest.update(file.read(_BLOCK_BYTES))
    return f"{size} bytes, sha256 {digest.hexdigest()}"


def _fingerprints(values: dict[str, Any]) -> dict[str, str]:
    """The fingerprints of the data by field; data that are not there are left to the reader, which says so."""
    paths = {name: values[name] for name in _DATA_FILES if values.get(name) is not None}
    fingerprints = {name: fingerprint(path) for name, path in paths.items() if os.path.isfile(path)}
    commit = _hub_commit(values.get("dataset_name"), values.get("dataset_revision"))
    return fingerprints | ({"dataset_name": f"commit {commit}"} if commit else {})


def _hub_commit(name: str | None, revision: str | None) -> str | None:
    """The commit that a data set on the Hub is at; `None` for a directory, and where the Hub does not answer."""
    if name is None or os.path.isdir(name):
        return None
    try:
        return HfApi().dataset_info(name, revision=revision, timeout=_HUB_SECONDS).sha
    # The client of the Hub, the network and a proxy have errors of many kinds; the reader says what is wrong.
    except Exception:
        return None


def _check_data(directory: Path, before: Any, values: dict[str, Any]) -> None:
    changed = [
        f"`{name}` {str(values[name])!r} was {before[name]} and is {now}"
        for name, now in _fingerprints(values).items()
        if isinstance(before, dict) and before.get(name, now) != now
    ]
    if changed:
        raise ValueError(
            f"`output_dir` {str(directory)!r} holds a run on data that has changed since: {'; '.join(changed)}. Bring "
            "the old data back to go on, or choose another `output_dir`, or delete this one."
        )


def _described(values: dict[str, Any]) -> dict[str, Any]:
    described = {name: value for name, value in sorted(values.items()) if name not in _INCIDENTAL}
    # As json returns it: tuples become lists, for example.
    return json.loads(json.dumps(described, default=str))


def _check_writable(directory: Path) -> None:
    """Refuses a directory in which, or in whose nearest parent, nothing can be made."""
    existing = next(folder for folder in (directory, *directory.absolute().parents) if os.path.exists(folder))
    if not existing.is_dir():
        raise ValueError(
            f"`output_dir` {str(directory)!r} cannot be made: {str(existing)!r} is a file. Choose another."
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(
            f"`output_dir` {str(directory)!r} needs the permission to write in {str(existing)!r}, which this user "
            "does not have. Choose another `output_dir`, or change the permission."
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys())
    return [
        f"`{name}` was {_shown(before, name)} and is {_shown(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(values: dict[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "its default"
