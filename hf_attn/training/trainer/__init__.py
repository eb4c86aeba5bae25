# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`RecipeTrainer`, one module a concern: batches, loss, resuming, saving, sharding, NaN guard, the Hub, evaluation."""
