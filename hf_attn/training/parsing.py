# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Reads a recipe's arguments: a YAML file, and flags on top of it."""

import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool
from typing_extensions import override

from ..text.plain_yaml import read_yaml


class _Parser(HfArgumentParser):
    """
    `HfArgumentParser` that raises what it refuses, instead of printing every flag there is, and whose switches mean
    true by their name alone, those too whose default is None.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        for action in self._actions:
            if action.type is string_to_bool and action.nargs is None:
                action.nargs, action.const = "?", True

    @override
    def error(self, message: str) -> NoReturn:
        """`ArgumentParser.error`, which raises and names the argument in backticks."""
        named = re.sub(r"^argument --(\w+)\S*: ", r"`\1`: ", message)
        raise ValueError(f"{named}. See --help for all flags.")


def parse_arguments(
    dataclass_types: Sequence[type],
    arguments: Sequence[str] | None = None,
    default_config: str | Path | None = None,
    description: str | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Fills dataclasses from `--config FILE.yaml` and the flags after it.

    A flag wins over the file: over the key of its name, and over keys that it excludes. So `--model_name_or_path`
    fine-tunes a checkpoint by a file that describes fresh weights.

    Args:
        dataclass_types: Dataclasses whose fields are the flags and the keys of the file.
        arguments: The command line without the program; `sys.argv[1:]` when `None`.
        default_config: YAML file to use when the command line names neither a config, a model nor data.
        description: First line of `--help`.

    Returns:
        The filled dataclasses in the given order, and the flags that differ from their defaults, as they were given.

    Raises:
        ValueError: A key or flag is unknown (the nearest known one is named), or a value has the wrong type.
        FileNotFoundError: The config does not exist.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(cast(Any, dataclass_types), description=description, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file with any of the flags below as keys.")
    known = {field.name for dataclass_type in dataclass_types for field in dataclasses.fields(dataclass_type)}
    names = {argument.lstrip("-").split("=")[0].replace("-", "_") for argument in arguments if argument[:2] == "--"}
    config, arguments = _split_config(arguments)
    if config is None and default_config is not None and not names & _CHOOSES_A_RUN:
        config = str(default_config)
    if config is not None:
        excluded = {key for name in names for key in _EXCLUDES.get(name, ())}
        arguments = _flags_of_file(Path(config), known, excluded) + arguments
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        name = unknown[0].lstrip("-").split("=")[0]
        raise ValueError(f"`{unknown[0]}` is not a flag of this recipe{_nearest(name, known, '--')}.")
    values = {name: value for name, value in vars(namespace).items() if name in known}
    filled = []
    for dataclass_type in dataclass_types:
        fields = [field.name for field in dataclasses.fields(dataclass_type) if field.init]
        filled.append(_filled(dataclass_type, {name: values[name] for name in fields}))
    defaults = vars(parser.parse_args([]))
    return tuple(filled), {name: value for name, value in values.items() if value != defaults[name]}


def _filled(dataclass_type: type, values: dict[str, Any]) -> Any:
    try:
        return dataclass_type(**values)
    except ImportError:
        raise
    # transformers looks up, takes apart and hands on some arguments before it checks them.
    except Exception as error:
        if isinstance(error, (ValueError, TypeError)) and "`" in str(error):
            raise
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"The arguments of `{dataclass_type.__name__}` are refused: {reason}") from error


_FILES = ("train_file", "validation_file", "test_file")

# A command line with one of these describes its own run; any other changes a detail of the default one.
_CHOOSES_A_RUN = frozenset(["config", "dataset_name", "model_config", "model_name_or_path", *_FILES])


# Flags that put others out of use where these stand in the file.
_EXCLUDES = {
    "model_name_or_path": ("model_config", "config_overrides"),
    "model_config": ("model_name_or_path",),
    "dataset_name": _FILES,
    "tokens_per_batch": ("per_device_train_batch_size",),
    "tokens_per_update": ("gradient_accumulation_steps", "deepspeed"),
    "per_device_train_batch_size": ("tokens_per_batch", "tokens_per_update"),
    "gradient_accumulation_steps": ("tokens_per_update",),
    "deepspeed": ("tokens_per_update",),
    **dict.fromkeys(_FILES, ("dataset_name", "dataset_config_name")),
}


def _split_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--config VALUE` or `--config=VALUE` in a command line, and the line without it."""
    config, rest, position = None, [], 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--config":
            if position + 1 == len(arguments):
                raise ValueError("`--config` needs the name of a YAML file, got nothing after it.")
            config = arguments[position + 1]
            position += 1
        elif argument.startswith("--config="):
            config = argument.removeprefix("--config=")
        else:
            rest.append(argument)
        position += 1
    return config, rest


def _flags_of_file(config: Path, known: set[str], excluded: set[str]) -> list[str]:
    """The keys of a YAML file as flags, without those excluded, so that one parser checks the types of both."""
    if not os.path.isfile(config):
        raise FileNotFoundError(f"`config` must name a YAML file, got {str(config)!r}, which does not exist.")
    try:
        content = read_yaml(config.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"`config` {str(config)!r} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"`config` {str(config)!r} must hold `key: value` lines, got {type(content).__name__}.")
    flags: list[str] = []
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"`{name}` in {str(config)!r} is not a key of this recipe{_nearest(str(name), known)}.")
        if value is None or name in excluded:
            continue
        if isinstance(value, list):
            if any(str(element).startswith("--") for element in value):
                raise ValueError(f"`{name}` in {str(config)!r} must not hold flags, got {value!r}.")
            flags += [f"--{name}", *(str(element) for element in value)]
        elif isinstance(value, dict):
            flags.append(f"--{name}={json.dumps(value, default=str)}")
        else:
            flags.append(f"--{name}={value}")
    return flags


def _nearest(name: str, known: set[str], prefix: str = "") -> str:
    match = difflib.get_close_matches(name.replace("-", "_"), sorted(known), n=1)
    return f" (did you mean `{prefix}{match[0]}`?)" if match else ""
