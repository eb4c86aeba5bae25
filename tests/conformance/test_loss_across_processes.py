# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The same samples, split over accumulation {1, 8} x processes {1, 2}, give the Trainer the same loss and gradient."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import one_step


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def single_process():
    return one_step.all_steps(num_processes=1)


def assert_like_the_first(results, first):
    assert set(results) == {f"{name}, accumulation {steps}" for name in ("full", "lstm") for steps in (1, 8)}
    for case, numbers in results.items():
        name = case.split(",")[0]
        assert numbers == pytest.approx(first[f"{name}, accumulation 1"], abs=1e-5, rel=1e-5), case


def test_accumulation_changes_neither_loss_nor_gradient(single_process):
    assert_like_the_first(single_process, single_process)
    # Random weights over 40 tokens: near log(40), not a multiple of it.
    assert 2 < single_process["full, accumulation 8"]["loss"] < 6


@pytest.mark.slow
def test_processes_change_neither_loss_nor_gradient(single_process, tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, one_step.__file__, str(path)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert_like_the_first(json.loads(path.read_text()), single_process)
