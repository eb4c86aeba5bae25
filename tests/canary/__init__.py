# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The package in environments of the oldest and of the newest versions that `pyproject.toml` allows."""
