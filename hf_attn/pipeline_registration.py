# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tells transformers' `pipeline` of the tasks of this package, without importing it before its user does."""

from types import ModuleType
from typing import Any, NoReturn

from .import_hooks import when_imported


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


def register_pipelines() -> None:
    """Adds the tasks now where transformers' pipelines are imported already, else when they will be."""
    when_imported("transformers.pipelines", add_pipelines)
