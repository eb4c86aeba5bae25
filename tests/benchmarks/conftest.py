# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The scripts in benchmarks/ import each other as they do when they are run."""

import sys
from pathlib import Path


sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
