# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A process that keeps what it frees gives it back before it holds many times what it needs."""

import subprocess
import sys

import pytest

from hf_attn.training import hardware
from hf_attn.training.hardware import TrimHeapCallback, resident_bytes


PROGRAM = """
import torch
from hf_attn.training.hardware import TrimHeapCallback, keep_freed_memory, resident_bytes
assert keep_freed_memory()
callback = TrimHeapCallback()
callback.on_step_end()  # what a step needs
used = resident_bytes()
kept = [torch.ones(1 << 22) for _ in range(64)]  # 1 GiB, of which the last stays in use
last = kept.pop()
del kept
held = resident_bytes()
callback.on_step_end()
print(used >> 20, held >> 20, resident_bytes() >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap is Linux'")
def test_freed_memory_is_kept_and_then_given_back():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    used, held, trimmed = map(int, result.stdout.split())
    assert held > used + 900
    assert trimmed < used + 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_trimming_waits_until_the_process_has_outgrown_its_needs(monkeypatch):
    sizes, trimmed = iter([100, 150, 200, 201, 120, 240, 241]), []

    class Library:
        def __init__(self, name):
            self.malloc_trim = lambda padding: trimmed.append(name)

    monkeypatch.setattr(hardware.ctypes, "CDLL", Library)
    monkeypatch.setattr(hardware, "resident_bytes", lambda: next(sizes) << 20)
    callback = TrimHeapCallback()
    seen = []
    for _ in range(7):
        callback.on_step_end()
        seen.append(len(trimmed))
    # A step needs 100: trimmed above 200. Then one needs 120.
    assert seen == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_bytes_are_those_of_this_process():
    assert 10 << 20 < resident_bytes() < 1 << 40
