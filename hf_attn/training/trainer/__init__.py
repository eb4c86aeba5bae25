# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`RecipeTrainer`, by concern: evaluation, losses that are not finite, checkpoints, resuming, averaging, the Hub."""
