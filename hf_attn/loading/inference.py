# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads models to use them: with their tokenizer, or for pipelines; an adapter brings its base."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ResolvedRevision, snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import ADAPTER_CONFIG_NAME, GENERATION_CONFIG_NAME, find_adapter_config_file
from typing_extensions import override

from ..tasks import HEADS, TASKS, WRITING_HEAD, Head
from .checkpoint_files import check_size, is_adapter, load_complete, reading_checkpoint
from .json_files import read_json_object


def load_for_inference(
    name: str, adapter: str | None = None, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A seq2seq model in evaluation mode, on the GPU where there is one, and its tokenizer.

    Args:
        name: A directory or the name of a checkpoint on the Hub.
        adapter: A directory of a PEFT adapter to put on it.
        options: For `AutoModelForSeq2SeqLM.from_pretrained`, such as `attn_implementation`.

    Raises:
        ValueError: There is no such model or adapter, `name` is itself an adapter, the model lacks weights because it
            was trained for another task, or the adapter was made for another base.
    """
    _refuse_adapter(name)
    from_adapter = None
    if adapter is not None:
        if not os.path.isfile(Path(adapter, ADAPTER_CONFIG_NAME)):
            raise ValueError(f"`--adapter` must be the directory of a PEFT adapter, got {adapter!r}")
        from_adapter = read_json_object(Path(adapter, ADAPTER_CONFIG_NAME), "`--adapter`:").get("modules_to_save")
    # By default transformers asks on standard input whether to run code that comes with a checkpoint.
    trust = bool(options.setdefault("trust_remote_code", False))
    options.setdefault("use_safetensors", True)
    with reading_checkpoint("MODEL", name):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust)
        check_size(name, config, AutoModelForSeq2SeqLM, trust)
        model: Any = load_complete(AutoModelForSeq2SeqLM, name, from_adapter, **options)
    if adapter is not None:
        # PEFT takes as long to import as all else; most models come without an adapter.
        from .adapter import generate_as_trained, load_adapter

        generate_as_trained(model, adapter, "--adapter")
        model = load_adapter(model, adapter)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def _refuse_adapter(name: str) -> None:
    if is_adapter(name):
        from .adapter import base_name

        base = base_name(name, "MODEL")
        raise ValueError(
            f"`MODEL` {name!r} holds an adapter for {base!r}, which goes with it: "
            f"`hf-attn generate {base} --adapter {name}`."
        )


class Seq2SeqLoader(AutoModelForSeq2SeqLM):
    """`AutoModelForSeq2SeqLM` that takes adapters as `load_with_adapter` does."""

    @classmethod
    @override
    def from_pretrained(cls, name: str, *arguments: Any, **options: Any) -> PreTrainedModel:  # type: ignore[override]
        """`from_pretrained` of the Auto class, which also takes an adapter and puts it on its base."""
        return load_with_adapter(AutoModelForSeq2SeqLM, name, **options)


class AnswererLoader(AutoModelForQuestionAnswering):
    """The extractive or generative model that a checkpoint or an adapter was saved from."""

    @classmethod
    @override
    def from_pretrained(cls, name: str, *arguments: Any, **options: Any) -> PreTrainedModel:  # type: ignore[override]
        """`from_pretrained` of the Auto class, which also takes an adapter and puts it on its base."""
        adapter = _adapter_config(name, options)
        if adapter is not None:
            is_generative = adapter.get("task_type") == WRITING_HEAD.peft_type
        else:
            reading = ("revision", "token", "trust_remote_code", "local_files_only")
            with reading_checkpoint("model", name):
                config = AutoConfig.from_pretrained(name, **{key: options[key] for key in reading if key in options})
            architectures = config.architectures or []
            is_extractive = any(architecture.endswith("ForQuestionAnswering") for architecture in architectures)
            is_generative = bool(architectures) and not is_extractive
        auto_class = AutoModelForSeq2SeqLM if is_generative else AutoModelForQuestionAnswering
        return load_with_adapter(auto_class, name, **options)


def load_with_adapter(auto_class: Any, name: str, **options: Any) -> PreTrainedModel:
    """
    A model; where `name` is that of a PEFT adapter, its base with the adapter on it.

    Unlike transformers this checks that the base is the one of the training, and generates as the adapter's run does.

    Args:
        auto_class: The class that loads the model, or the base.
        name: A directory or a name on the Hub.
        options: For `from_pretrained`. A base has the revision that its adapter names; `revision` is that of `name`,
            or of the base where `name` is the directory of an adapter.

    Raises:
        ValueError: The adapter was made for another base or another task, or a checkpoint lacks weights because it was
            trained for another task, or has its weights as a pickle, or cannot be loaded.
    """
    adapter = _adapter_config(name, options)
    # The pipeline itself has read the config before; errors of the weights are named here.
    options = {**options, "use_safetensors": True}
    if adapter is None:
        with reading_checkpoint("model", name):
            return load_complete(auto_class, name, **options)
    heads = {head.peft_type: head for head in HEADS}
    trained, wanted = heads.get(str(adapter.get("task_type"))), _head_of_class(auto_class)
    if trained is not None and trained is not wanted:
        pipeline = next(task.pipeline for task in TASKS if task.head is trained)
        raise ValueError(
            f"`model`: the adapter {name!r} was trained to {trained.purpose}, and this task is to {wanted.purpose}: "
            f"use it in `{pipeline}`."
        )
    # PEFT is imported only for an adapter.
    from .adapter import generate_as_trained, load_adapter

    directory, revision = Path(name), _revision(options)
    if not os.path.isdir(name):
        revision = None
        patterns = ["adapter_*.json", "adapter_*.safetensors", "base_fingerprint.json", GENERATION_CONFIG_NAME]
        directory = Path(snapshot_download(name, allow_patterns=patterns, **_downloading(options)))
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str):
        raise ValueError(
            f"`model`: the adapter {name!r} must name its base as `base_model_name_or_path`, got {base!r}."
        )
    options["revision"] = revision or adapter.get("revision")
    with reading_checkpoint("model", base):
        model = load_complete(auto_class, base, adapter.get("modules_to_save"), **options)
    if model.can_generate():
        generate_as_trained(model, directory, "model")
    return cast(PreTrainedModel, load_adapter(model, directory).eval())


def _head_of_class(auto_class: Any) -> Head:
    return next(head for head in HEADS if head.load_class() is auto_class)


def _adapter_config(name: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config of the adapter that `name` is, if it is one and not a whole model with an adapter inside."""
    if os.path.isdir(name) and not is_adapter(name):
        return None
    file = find_adapter_config_file(name, **_downloading(options))
    return None if file is None else read_json_object(file, "`model`:")


def _downloading(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for `from_pretrained` that say what to download."""
    wanted = {name: options[name] for name in ("token", "local_files_only") if name in options}
    return {**wanted, "revision": _revision(options)}


def _revision(options: Mapping[str, Any]) -> str | None:
    """The revision that the user gave: of an adapter, `pipeline` has resolved it to a commit of its base."""
    revision = options.get("revision")
    return revision.initial if isinstance(revision, ResolvedRevision) else revision
