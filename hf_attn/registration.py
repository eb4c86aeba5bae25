# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tells transformers' Auto classes and `pipeline`, and PEFT, of this family, importing none before its user does."""

from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from .import_hooks import when_imported


MODEL_TYPE = "hf_attn"

# Last parts of the names of modules that an adapter wraps by default; those that a model lacks are
# passed over.
LORA_TARGETS = ["q_proj", "v_proj", "ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj"]

_CONFIGURATION = "hf_attn.configuration_hf_attn"
_MODELING = "hf_attn.modeling_hf_attn"


def register_family() -> None:
    """
    Registers with each library: now where it is imported already, else when it will be.

    An Auto class needs the classes of this package. They are imported with it; and they, once imported, register
    themselves, whichever of the two came first.
    """
    when_imported(_CONFIGURATION, add_config)
    when_imported(_MODELING, add_models)
    when_imported("transformers.models.auto.configuration_auto", import_config)
    when_imported("transformers.models.auto.modeling_auto", import_models)
    when_imported("transformers.pipelines", add_pipelines)
    when_imported("peft.utils.constants", add_lora_targets)


def import_config(_: ModuleType) -> None:
    """Imports the config, unless that is under way."""
    import_module(_CONFIGURATION)


def import_models(_: ModuleType) -> None:
    """Imports the models, unless that is under way."""
    import_module(_MODELING)


def add_config(configuration: ModuleType) -> None:
    """Adds the config to `AutoConfig`."""
    from transformers import AutoConfig

    AutoConfig.register(MODEL_TYPE, configuration.HfAttnConfig, exist_ok=True)


def add_models(modeling: ModuleType) -> None:
    """Adds the models to the Auto classes."""
    import transformers

    for auto_class, name in modeling.AUTO_CLASSES.items():
        model_class = getattr(modeling, name)
        getattr(transformers, auto_class).register(model_class.config_class, model_class, exist_ok=True)


def add_lora_targets(constants: ModuleType) -> None:
    """Adds the targets to PEFT's table, unless it has an entry for this family."""
    table = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    table.setdefault(MODEL_TYPE, list(LORA_TARGETS))


class TaskWithoutDefault(dict[str, Any]):
    """What `pipeline` knows of a task for which there is no model to take when none is named.

    Raises:
        ValueError: `pipeline` was called without a model.
    """

    def __missing__(self, key: str) -> NoReturn:
        if key == "default":
            raise ValueError(
                "`model` must be given: a model, a directory, or a name on the Hub; this task has no default."
            )
        raise KeyError(key)


def add_pipelines(pipelines: ModuleType) -> None:
    """
    Adds the tasks to those that `pipeline` knows.

    Not by `register_pipeline`: that would have `save_pretrained` copy a pipeline's module beside the model, as code to
    trust, which cannot work without the package.
    """
    # It imports the module that has just been loaded.
    from .pipelines import TASKS

    for task, (pipeline_class, model_loader) in TASKS.items():
        pipelines.PIPELINE_REGISTRY.supported_tasks.setdefault(
            task, TaskWithoutDefault(impl=pipeline_class, pt=(model_loader,), type="text")
        )
