# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Markers that transformers' own tests carry."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    flash_attention = [f"flash_attn{version}_test" for version in ("", "_3", "_4")]
    for marker in ("accelerate_tests", "torch_compile_test", "order", *flash_attention):
        config.addinivalue_line("markers", f"{marker}: of transformers' own tests; not selected by this project")
