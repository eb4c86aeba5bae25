# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checks of `--out` before anything is loaded or trained."""

import tempfile
from pathlib import Path


def check_writable(out: Path) -> None:
    """
    Refuses a path where nothing can be written; makes nothing there.

    Args:
        out: A file or directory that exists, or will be made with the directories above it.

    Raises:
        ValueError: The file, or the nearest directory that exists, cannot be written to.
    """
    try:
        if out.is_file():
            out.open("ab").close()
            return
        existing = next(path for path in (out, *out.absolute().parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=existing):
            return
    except OSError as error:
        raise ValueError(f"`--out` must be a path to write to, got {str(out)!r}: {error.strerror}") from error
