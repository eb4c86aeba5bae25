# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A model split over two processes by its plan computes what the whole one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import two_shards
from tests.utils import MATRIX, tiny_config, tiny_model


REPOSITORY = Path(__file__).resolve().parents[2]
# Two processes need at least two heads of each kind.
SPLIT = (
    *("full", "sliding", "sliding-global", "linear", "lstm", "full-to-ssru", "mixed", "full-to-sliding-and-linear"),
    "full-copying",
)


@pytest.mark.slow
def test_two_shards_compute_what_the_whole_does(tmp_path):
    models, path = tmp_path / "models", tmp_path / "differences.json"
    for name in SPLIT:
        tiny_model(tiny_config(**MATRIX[name])).save_pretrained(models / name)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, two_shards.__file__, str(models), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    differences = json.loads(path.read_text())
    assert set(differences) == set(SPLIT)
    assert max(differences.values()) < 1e-5, differences
