# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Any input gives a result or one of the package's errors: a few in `make test`, thousands each in the slow tests."""
