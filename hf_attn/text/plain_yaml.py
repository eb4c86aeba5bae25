# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Reads YAML that others may have written: plain values only."""

from typing import Any

import yaml
from typing_extensions import override


class _PlainLoader(yaml.SafeLoader):
    """`SafeLoader` without aliases: a short file with aliases of aliases makes values that fill the memory."""

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        """`SafeLoader.compose_node`, which refuses an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias `*{event.anchor}` is not taken, write its value out", event.start_mark
            )
        return super().compose_node(parent, index)


def read_yaml(text: str) -> Any:
    """
    The content of a YAML text: plain values, lists and dicts, no objects of Python and no aliases.

    Raises:
        ValueError: It is not valid YAML, or has an alias, or a value that is none, such as the 40th of May, or is
            nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
