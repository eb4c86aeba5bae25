# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a stranger's file can make the package do, and what of the user's secrets it writes down: nothing."""
