# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The whole family against one set of contracts: transformers' own, and ours."""
