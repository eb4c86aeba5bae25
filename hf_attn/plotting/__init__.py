# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pictures of attention and of training. matplotlib (`hf_attn[plotting]`) is imported when one is drawn."""

from .attention import attention_html, attention_map, token_labels
from .curves import bleu_by_length, training_curves
from .figures import save_figure


__all__ = ["attention_html", "attention_map", "bleu_by_length", "save_figure", "token_labels", "training_curves"]
