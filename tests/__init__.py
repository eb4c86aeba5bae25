# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The tests. `make test` runs the fast ones, `make test-slow` the others."""
