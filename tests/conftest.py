# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What every test shares: one thread, no network, own caches, fixed seeds, and the way to the corpora."""

import atexit
import os
import random
import shutil
import tempfile
from pathlib import Path


# Read when the libraries are imported, so set first; subprocesses inherit them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# A cache of its own for each process: no test sees data sets or remote code that another run left behind.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_attn_tests_")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

import numpy as np
import pytest
import torch


torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine or this run cannot do, with the reason."""
    skip_gpu = pytest.mark.skip(reason="needs a CUDA device")
    has_cuda = torch.cuda.is_available()
    for item in items:
        if not has_cuda and item.get_closest_marker("gpu"):
            item.add_marker(skip_gpu)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Start every test from the same state of each random number generator."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Directory of the corpora: `HF_ATTN_DATA`, or else `../shared/data` beside the repository."""
    named = os.environ.get("HF_ATTN_DATA")
    if named is not None:
        directory = Path(named)
        if not directory.is_dir():
            pytest.fail(f"`HF_ATTN_DATA` must name a directory, got {named!r}")
        return directory
    directory = REPOSITORY.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("the corpora are not here: set HF_ATTN_DATA to their directory")
    return directory
