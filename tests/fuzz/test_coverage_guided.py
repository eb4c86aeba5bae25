# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""10,000 inputs each, grown by coverage, for the readers of configs and checkpoints; where atheris is installed."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.fuzzing import MANY


REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install 'hf_attn[fuzzing]'")
@pytest.mark.parametrize("target", ["config", "checkpoint"])
@pytest.mark.parametrize("runs", [pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_target(runs, target, tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.coverage_guided", target, str(tmp_path), f"-runs={runs}"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:] + finished.stdout[-2000:]
    assert re.search(rf"Done {runs} ", finished.stderr)
