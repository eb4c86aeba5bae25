# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tells transformers' Auto classes and `pipeline`, and PEFT, of this family."""

from typing import Any, NoReturn

import transformers
from transformers import AutoConfig
from transformers.pipelines import PIPELINE_REGISTRY

from . import modeling_hf_attn
from .configuration_hf_attn import HfAttnConfig, add_lora_targets
from .modeling_stacks import AUTO_CLASSES
from .pipelines import TASKS


class TaskWithoutDefault(dict[str, Any]):
    """The entry in `pipeline` of a task for which there is no model to take when none is named.

    Raises:
        ValueError: `pipeline` was called without a model.
    """

    def __missing__(self, key: str) -> NoReturn:
        if key == "default":
            raise ValueError(
                "`model` must be given: a model, a directory, or a name on the Hub; this task has no default."
            )
        raise KeyError(key)


def register_family() -> None:
    """Registers the config, the models and the pipelines; and PEFT's default targets, where PEFT is imported."""
    AutoConfig.register(HfAttnConfig.model_type, HfAttnConfig, exist_ok=True)
    for auto_class, name in AUTO_CLASSES.items():
        getattr(transformers, auto_class).register(HfAttnConfig, getattr(modeling_hf_attn, name), exist_ok=True)
    for task, (pipeline_class, model_loader) in TASKS.items():
        # Not by `register_pipeline`: that would have `save_pretrained` copy a pipeline's module beside the model, as
        # code to trust, which cannot work without the package.
        PIPELINE_REGISTRY.supported_tasks.setdefault(
            task, TaskWithoutDefault(impl=pipeline_class, pt=(model_loader,), type="text")
        )
    add_lora_targets()
