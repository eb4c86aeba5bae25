# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The longest sequences that a model has positions for."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def source_positions(model: PreTrainedModel) -> int | None:
    """The longest source of a model, of this family or another, in tokens; `None` where its positions have no end."""
    return _positions(model, model.get_encoder() if model.config.is_encoder_decoder else model)


def target_positions(model: PreTrainedModel) -> int | None:
    """The longest target of an encoder-decoder, in tokens; `None` where its positions have no end."""
    return _positions(model, model.get_decoder())


def _positions(model: PreTrainedModel, stack: nn.Module) -> int | None:
    positions = getattr(stack, "positions", None)
    # Ours say themselves how far their position scheme reaches; T5's has no limit, and its config no such field.
    if positions is not None:
        return positions.max_positions
    return getattr(model.config, "max_position_embeddings", None)
