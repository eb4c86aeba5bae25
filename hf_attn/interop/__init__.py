# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of other families and formats, in and out."""

from .exporting import export_checkpoint
from .importing import Imported, import_checkpoint


__all__ = ["Imported", "export_checkpoint", "import_checkpoint"]
