# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Half precision, extreme inputs, and runs that repeat bit for bit."""
