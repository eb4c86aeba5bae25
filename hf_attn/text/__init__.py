# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts: sources as a model was trained on them, sentences, language codes, lone surrogates, plain YAML."""
