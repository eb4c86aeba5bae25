# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models of Marian, Bergamot and Firefox Translations: in by `read_folder`, out by `write_folder`."""

from .exporter import write_folder
from .importer import MarianModel, read_folder
from .origin import Origin
from .tokenizer import with_tokens


__all__ = ["MarianModel", "Origin", "read_folder", "with_tokens", "write_folder"]
