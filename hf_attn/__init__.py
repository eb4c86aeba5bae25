# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Attention encoder-decoders, of attentions and recurrences in any mix, for the Hugging Face ecosystem."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register_family


if TYPE_CHECKING:
    from .configuration_hf_attn import PRESETS, HfAttnConfig
    from .modeling_hf_attn import (
        HfAttnForConditionalGeneration,
        HfAttnForQuestionAnswering,
        HfAttnForSequenceClassification,
        HfAttnModel,
        HfAttnPreTrainedModel,
    )


__version__ = "0.1.0"

# Name -> module, imported when the name is first used: what is not used costs no time at the start.
_MODULES = {
    "PRESETS": "configuration_hf_attn",
    "HfAttnConfig": "configuration_hf_attn",
    "HfAttnForConditionalGeneration": "modeling_hf_attn",
    "HfAttnForQuestionAnswering": "modeling_hf_attn",
    "HfAttnForSequenceClassification": "modeling_hf_attn",
    "HfAttnModel": "modeling_hf_attn",
    "HfAttnPreTrainedModel": "modeling_hf_attn",
}

__all__ = [
    "PRESETS",
    "HfAttnConfig",
    "HfAttnForConditionalGeneration",
    "HfAttnForQuestionAnswering",
    "HfAttnForSequenceClassification",
    "HfAttnModel",
    "HfAttnPreTrainedModel",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_family()
