# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The fast search: a loop of its own, steps of the decoder, packed and 8-bit layers, and their compiled forms."""
