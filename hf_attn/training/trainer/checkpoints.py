# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or not there: written aside, listed with their sizes, and then given their name.

A checkpoint is `checkpoint-STEP` in the output directory with a manifest, `checkpoint.json`, of its files and their
sizes. It is written into `_incomplete/` first and renamed when all of it lies on the disk, so that a process killed at
any moment leaves either the whole checkpoint or none. By the manifest one that was damaged later is found too: by a
copy that broke off, a lost disk block, a deletion that was killed.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ...loading.json_files import read_json_object


logger = logging.get_logger(__name__)

MANIFEST_FILE = "checkpoint.json"

STATE_FILE = "trainer_state.json"
"""The file of a checkpoint with the state of `Trainer`."""

LOSSES_FILE = "losses.json"
"""The file of a checkpoint with the losses since the last line of the log."""

STAGING_FOLDER = "_incomplete"
"""The folder that checkpoints are written into; at the start of a run it holds only what a killed run left."""

_DAMAGED_PREFIX = "_damaged-"
# Nothing reads it again, and a checkpoint pushed to the Hub lacks it.
_NOT_LISTED = frozenset([MANIFEST_FILE, "training_args.bin"])


def write_text_whole(path: str | Path, text: str) -> None:
    """Writes a file such that it is there with all of the text or, whatever stops this process, as it was before."""
    path, part = Path(path), part_of(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def part_of(path: str | Path) -> Path:
    """The path that `write_text_whole` writes to before the file gets its name; a killed process leaves it."""
    return Path(path).with_name(f"_{Path(path).name}.part")


def publish_checkpoint(staged: str | Path, checkpoint: str | Path) -> None:
    """
    Gives a complete checkpoint its manifest and its name; one of the same step that is there is replaced.

    Args:
        staged: Folder in which all processes have written all files.
        checkpoint: The name, on the same file system.
    """
    staged, checkpoint = Path(staged), Path(checkpoint)
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in files:
        _write_to_disk(path)
    sizes = {
        path.relative_to(staged).as_posix(): path.stat().st_size for path in files if path.name not in _NOT_LISTED
    }
    write_text_whole(staged / MANIFEST_FILE, json.dumps({"bytes": sizes}, indent=2) + "\n")
    _write_to_disk(staged)
    replaced = staged.with_name(f"replaced-{checkpoint.name}")
    if checkpoint.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        checkpoint.rename(replaced)
    staged.rename(checkpoint)
    _write_to_disk(checkpoint.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    if staged.parent.name == STAGING_FOLDER:
        # What another one is written into stays.
        with contextlib.suppress(OSError):
            staged.parent.rmdir()


def _write_to_disk(path: Path) -> None:
    """Has the system write a file or a folder to the disk, where it may have kept it in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_error(checkpoint: str | Path) -> str | None:
    """The first file of its manifest that a checkpoint lacks or has in part, in words; `None` where it is whole."""
    try:
        sizes = json.loads((Path(checkpoint) / MANIFEST_FILE).read_text(encoding="utf-8"))["bytes"]
        listed = {str(name): int(size) for name, size in sizes.items()}
    except OSError:
        return f"it has no {MANIFEST_FILE}, which is written last"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"its {MANIFEST_FILE} cannot be read"
    for name, size in listed.items():
        found = _size(Path(checkpoint) / name)
        if found is None:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} of {size} bytes"
    return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    # A name with a null byte is no path.
    except (OSError, ValueError):
        return None


def check_whole(checkpoint: str | Path) -> None:
    """
    Refuses a checkpoint that is not whole.

    Raises:
        ValueError: It is not whole, or there is none.
    """
    error = checkpoint_error(checkpoint)
    if error is not None:
        raise ValueError(
            f"`resume_from_checkpoint` {str(checkpoint)!r} is not a whole checkpoint: {error}. Choose another one."
        )


def last_checkpoint(output_dir: str | Path) -> str | None:
    """
    The last checkpoint of a run that is whole; each one after it that is not gets a line in the log.

    Args:
        output_dir: Directory of the run; may be missing.
    """
    for checkpoint in reversed(_checkpoints(output_dir)):
        error = checkpoint_error(checkpoint)
        if error is None:
            return str(checkpoint)
        logger.warning(f"{checkpoint} is not whole and skipped: {error}.")
    return None


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """Folders named as checkpoints are, by step."""
    found = {}
    for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if step.isascii() and step.isdigit() and path.is_dir():
            found[int(step)] = path
    return [found[step] for step in sorted(found)]


def clear_incomplete(output_dir: str | Path) -> None:
    """
    Removes what a killed process had not finished writing, and renames checkpoints that are not whole to
    `_damaged-checkpoint-STEP`, so that nothing takes them for good ones.
    """
    shutil.rmtree(Path(output_dir) / STAGING_FOLDER, ignore_errors=True)
    for checkpoint in _checkpoints(output_dir):
        error = checkpoint_error(checkpoint)
        if error is not None:
            aside = checkpoint.with_name(f"{_DAMAGED_PREFIX}{checkpoint.name}")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            logger.warning(f"{checkpoint} is not whole: {error}. It is now {aside.name}, and of no use.")


def read_json(path: str | Path) -> dict[str, Any]:
    """
    The object in a json file that a run wrote.

    Raises:
        ValueError: The file does not hold one.
    """
    try:
        return read_json_object(path, "`output_dir`: the file")
    except ValueError as error:
        raise ValueError(f"{error} Choose another `output_dir`.") from error
