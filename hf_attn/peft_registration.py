# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tells PEFT which layers of this family an adapter wraps by default, without importing PEFT before its user does."""

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

from .configuration_hf_attn import HfAttnConfig


# Last parts of module names, attentions and recurrences; those that a model lacks are passed over.
LORA_TARGETS = ["q_proj", "v_proj", "ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj"]

CONSTANTS = "peft.utils.constants"


def add_lora_targets(constants: ModuleType) -> None:
    """Adds the targets to PEFT's table, unless it has an entry for this family."""
    table = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    table.setdefault(HfAttnConfig.model_type, list(LORA_TARGETS))


def register_lora_targets() -> None:
    """Adds the targets now where PEFT is imported already, else when it will be."""
    if CONSTANTS in sys.modules:
        add_lora_targets(sys.modules[CONSTANTS])
    elif not any(isinstance(finder, _ConstantsFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ConstantsFinder())


class _ConstantsFinder(importlib.abc.MetaPathFinder):
    """Finds one module, the usual way, and has `add_lora_targets` run once it is loaded."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != CONSTANTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_add(module: ModuleType) -> None:
                load(module)
                add_lora_targets(module)

            spec.loader.exec_module = load_and_add  # type: ignore[method-assign]
        return spec
