# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Loads checkpoints, whole and damaged ones, adapters on their base, and weights that are sharded over processes."""
