# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Reads json objects from files that others may have written, or left half written."""

import json
from pathlib import Path
from typing import Any


def read_json_object(path: str | Path, argument: str) -> dict[str, Any]:
    """
    The object in a json file.

    Args:
        path: The file.
        argument: What to call it in messages, a name in backticks included, such as "`output_dir`: the record".

    Raises:
        ValueError: The file cannot be read, is not json in UTF-8, or holds anything but an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ValueError(f"{argument} {str(path)!r} is not valid json: {reason}.") from error
    except RecursionError as error:
        raise ValueError(f"{argument} {str(path)!r} is nested too deeply to be read.") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{argument} {str(path)!r} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{argument} {str(path)!r} must hold a json object, got {type(content).__name__}.")
    return content
