# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`python -m hf_attn`, the same as `hf-attn`."""

import sys

from .cli import main


sys.exit(main())
