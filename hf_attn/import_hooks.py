# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Adds to a module of another package once that is imported, without importing it before its user does."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType


def when_imported(name: str, action: Callable[[ModuleType], None]) -> None:
    """
    Run an action on a module: now where it is imported already, else as soon as it will be.

    Args:
        name: Full name of the module.
        action: Called with the module; once, however often this is called with the same action.
    """
    if name in sys.modules:
        action(sys.modules[name])
    elif not any(isinstance(finder, _Finder) and finder.waits_for == (name, action) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, the usual way, and has an action run once it is loaded."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]):
        self.waits_for = (name, action)

    def find_spec(self, fullname, path=None, target=None):
        name, action = self.waits_for
        if fullname != name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_act(module: ModuleType) -> None:
                load(module)
                action(module)

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec
