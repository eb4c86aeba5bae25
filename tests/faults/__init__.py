# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Runs that are killed, and what must be left of them."""
