# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checks of the files of a checkpoint or an adapter, and which of them is damaged when it cannot be loaded.

Weights are read from safetensors alone: a pickle can run code when it is read. Nothing outside a checkpoint's folder
is read because a file inside it says so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_SAFE_WEIGHTS_NAME,
    ADAPTER_WEIGHTS_NAME,
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

from .json_files import read_json_object


# A config that describes so many times the numbers that are stored is wrong: 4-bit weights are 8 to a number.
_MOST_PARAMETERS_A_STORED_NUMBER = 16
# Heads that start from fresh weights.
_MOST_NEW_PARAMETERS = 10_000_000


@contextmanager
def reading_checkpoint(argument: str, name: str) -> Iterator[None]:
    """
    A context for the calls that load a checkpoint: its files are checked first, and errors name the damaged one.

    Args:
        argument: Name of the argument, for messages.
        name: A directory, or a name on the Hub.

    Raises:
        ValueError: The checkpoint has weights in no other form than a pickle, or refers to files outside its folder,
            or cannot be loaded.
        ImportError: A package is missing that the checkpoint needs.
    """
    check_checkpoint(argument, name)
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and "`use_safetensors=True`" in str(error):
            raise ValueError(pickle_message(argument, name)) from error
        raise ValueError(f"`{argument}` {name!r} cannot be loaded: {_reason(name, error)}") from error
    # The tokenizers library is not written in Python, nor are all of its errors Python's.
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"`{argument}` {name!r} cannot be loaded: {_reason(name, error)}") from error


def check_checkpoint(argument: str, name: str) -> None:
    """
    Refuses a directory with weights in no other form than a pickle, or which refers to files outside of it.

    Args:
        argument: Name of the argument, for messages.
        name: A directory; a name on the Hub is left alone.

    Raises:
        ValueError: It is such a directory, or what it refers to cannot be read.
    """
    folder = Path(name)
    try:
        names = {path.name for path in folder.iterdir()}
    except (OSError, ValueError):
        return
    for safe, pickled, of_kind in (
        (SAFE_WEIGHTS_NAME, "pytorch_model", "pytorch_model*.bin"),
        (ADAPTER_SAFE_WEIGHTS_NAME, ADAPTER_WEIGHTS_NAME, ADAPTER_WEIGHTS_NAME),
    ):
        found = sorted(other for other in names if other.startswith(pickled) and other.endswith(".bin"))
        if found and not names & {safe, SAFE_WEIGHTS_INDEX_NAME if safe == SAFE_WEIGHTS_NAME else safe}:
            raise ValueError(pickle_message(argument, name, found[0] if len(found) == 1 else of_kind))
    if SAFE_WEIGHTS_INDEX_NAME in names:
        _check_index(argument, folder / SAFE_WEIGHTS_INDEX_NAME)
    if CONFIG_NAME in names:
        config = read_json_object(folder / CONFIG_NAME, f"`{argument}`:")
        file = config.get("transformers_weights")
        if file is not None and not _is_plain(file, (".safetensors", ".safetensors.index.json")):
            raise ValueError(
                f"`{argument}` {name!r} must name a safetensors file of its own folder as `transformers_weights`, got "
                f"{file!r}."
            )
    if ADAPTER_CONFIG_NAME in names:
        _check_adapter_config(argument, folder / ADAPTER_CONFIG_NAME)


def is_adapter(name: str) -> bool:
    """Whether a directory holds an adapter, and not a whole model with an adapter inside."""
    return os.path.isfile(Path(name, ADAPTER_CONFIG_NAME)) and not os.path.isfile(Path(name, CONFIG_NAME))


def pickle_message(argument: str, name: str, file: str | None = None) -> str:
    """The message that refuses a checkpoint without safetensors, and says how to go on."""
    held = "no weights in safetensors" if file is None else f"its weights as a pickle, {file}"
    return (
        f"`{argument}` {name!r} holds {held}. A pickle can run any code when it is read, so weights are loaded from "
        "safetensors alone. Where you trust the checkpoint, load it with its own library and save it again: "
        "`save_pretrained` writes safetensors."
    )


def check_size(name: str, config: PreTrainedConfig, auto_class: Any, trust_remote_code: bool = False) -> None:
    """
    Refuses a config that describes a far larger model than the checkpoint holds, before memory is taken for it.

    To be called inside `reading_checkpoint`, which names the checkpoint.

    Args:
        name: A directory; a name on the Hub is left alone.
        config: The config that the model will be loaded with.
        auto_class: The class that will load it.
        trust_remote_code: Whether code that comes with the checkpoint may run.

    Raises:
        ValueError: The config describes more than 16 times the numbers that are stored.
    """
    files = sorted(Path(name).glob("model*.safetensors")) if os.path.isdir(name) else []
    # ZeRO-3 makes weights in parts, and none on the meta device.
    if not files or is_deepspeed_zero3_enabled():
        return
    stored = 0
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            stored += sum(torch.Size(tensors.get_slice(key).get_shape()).numel() for key in tensors.keys())  # noqa: SIM118
    with torch.device("meta"):
        described = auto_class.from_config(config, trust_remote_code=trust_remote_code).num_parameters()
    if described > _MOST_PARAMETERS_A_STORED_NUMBER * stored + _MOST_NEW_PARAMETERS:
        raise ValueError(
            f"its config describes {described:,} parameters, its files hold {stored:,} numbers. Copy or download the "
            "checkpoint again."
        )


def load_complete(auto_class: Any, name: str, from_adapter: Any = None, **options: Any) -> PreTrainedModel:
    """
    A model whose weights all come from a checkpoint, or from an adapter that follows.

    To be called inside `reading_checkpoint`, which names the checkpoint.

    Args:
        auto_class: The class that loads it.
        name: A directory, or a name on the Hub.
        from_adapter: Modules that an adapter will bring whole: `modules_to_save` of its config, as it stands there.
        options: For `from_pretrained`.

    Raises:
        ValueError: The checkpoint lacks weights of the model, which would start at random, as those of the head of
            another task would.
    """
    model, loading = auto_class.from_pretrained(name, output_loading_info=True, **options)
    brought = set(map(str, from_adapter)) if isinstance(from_adapter, list) else set()
    missing = sorted(key for key in loading["missing_keys"] if not brought & set(key.split(".")))
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        wanted, saved = type(model).__name__, " or ".join(model.config.architectures or [])
        use = f"It was saved as {saved}: use it as that" if saved and saved != wanted else "Copy or download it again"
        raise ValueError(
            f"it lacks {', '.join(f'`{key}`' for key in missing[:5])}{more}, which {wanted} would start at random. "
            f"{use}, or fine-tune it for this task first."
        )
    return model


def _is_plain(name: Any, endings: tuple[str, ...]) -> bool:
    """Whether `name` is that of a file in the same folder, with one of the endings."""
    return isinstance(name, str) and name.endswith(endings) and not set(name) & set("/\\\0")


def _check_index(argument: str, file: Path) -> None:
    files = read_json_object(file, f"`{argument}`:").get("weight_map")
    if not isinstance(files, dict):
        raise ValueError(f"`{argument}`: {str(file)!r} must hold an object `weight_map`, got {files!r}.")
    outside = [shard for shard in files.values() if not _is_plain(shard, (".safetensors",))]
    if outside:
        raise ValueError(
            f"`{argument}`: {str(file)!r} must name safetensors files of its own folder, got {outside[0]!r}."
        )


# By these PEFT reads files, loads a tokenizer with any options, or imports a module that the file names.
_ELSEWHERE = ("prompt_tuning_init_state_dict_path", "tokenizer_name_or_path", "tokenizer_kwargs", "megatron_config")


def _check_adapter_config(argument: str, file: Path) -> None:
    config = read_json_object(file, f"`{argument}`:")
    base = config.get("base_model_name_or_path")
    if not (base is None or isinstance(base, str)):
        raise ValueError(f"`{argument}`: `base_model_name_or_path` in {str(file)!r} must be text, got {base!r}.")
    for field in _ELSEWHERE:
        if config.get(field) is not None:
            raise ValueError(
                f"`{argument}`: {str(file)!r} must not set `{field}`, by which PEFT would read or run what lies "
                f"elsewhere, got {config[field]!r}."
            )


def _reason(name: str, error: BaseException) -> str:
    """The file of a local checkpoint that is damaged and how, if one is; else the message of the library."""
    folder = Path(name)
    if os.path.isdir(name):
        for file in sorted(folder.glob("*.json")):
            try:
                read_json_object(file, "its file")
            except ValueError as file_error:
                return str(file_error)
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError, ValueError) as file_error:
                return f"its file {str(file)!r} is damaged: {file_error}. Copy or download the checkpoint again."
        if "backend tokenizer" in str(error) and not any(folder.glob("*tok*")) and not any(folder.glob("vocab*")):
            return "it holds no tokenizer."
    elif isinstance(error, HFValidationError) or isinstance(error.__cause__, HFValidationError):
        return "there is no such directory, and it is no name on the Hub, which would be `user/name`."
    message = str(error) or "no reason given"
    return message if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {message}"
