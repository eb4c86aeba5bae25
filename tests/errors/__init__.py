# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Every bad input with its message; the table in docs/errors.md is made from these."""
