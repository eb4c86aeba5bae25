# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models of Marian, Bergamot and Firefox."""
