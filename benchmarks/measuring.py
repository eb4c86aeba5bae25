# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Time and memory: interleaved rounds, medians with their spread, CPU time beside wall time, peaks of memory."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


CLOCKS = ("wall", "cpu")
MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """
    One round of one system.

    Attributes:
        amount: Work that was done: tokens, sentences, calls.
        wall, cpu: Seconds; `cpu` is of all threads of the process, 0 where it was not measured.
        details: What else is known, such as a loss.
    """

    amount: float
    wall: float
    cpu: float
    details: dict[str, Any] = field(default_factory=dict)

    def rate(self, clock: str = "wall") -> float:
        """Work a second of the clock."""
        return self.amount / max(getattr(self, clock), 1e-9)


class Spread(NamedTuple):
    """A median and the lowest and the highest of what it is the median of."""

    median: float
    lowest: float
    highest: float


def spread(values: Iterable[float]) -> Spread:
    """
    The median of some values, with their range.

    Raises:
        ValueError: There are none.
    """
    numbers = list(values)
    if not numbers:
        raise ValueError("`values` must hold at least one number, got none")
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def rates(samples: Iterable[Sample], clock: str = "wall") -> Spread:
    """Work a second over the rounds of a system."""
    return spread(sample.rate(clock) for sample in samples)


def ratios(ours: Sequence[Sample], peer: Sequence[Sample], clock: str = "wall") -> Spread:
    """How many times faster ours was, round by round: what slowed down a round did so to both."""
    return spread(one.rate(clock) / other.rate(clock) for one, other in zip(ours, peer, strict=True))


def interleave(systems: Mapping[str, Callable[[], Sample]], rounds: int, warmups: int = 1) -> dict[str, list[Sample]]:
    """
    Run all systems in turn, round after round, each round beginning with another one.

    Args:
        systems: Name -> what runs the system once.
        rounds: Rounds that count.
        warmups: Rounds before them that do not.

    Raises:
        ValueError: There is no round that counts.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}")
    names = list(systems)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(warmups + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sample = systems[name]()
            if number >= warmups:
                samples[name].append(sample)
    return samples


class Stopwatch:
    """Wall and CPU seconds since it was made; on a GPU the wall time is that of the device, from CUDA events."""

    def __init__(self) -> None:
        self._events = None
        if torch.cuda.is_available():
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            torch.cuda.synchronize()
            self._events[0].record()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, amount: float, **details: Any) -> Sample:
        """The sample of what was done since."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        if self._events is not None:
            self._events[1].record()
            torch.cuda.synchronize()
            wall = self._events[0].elapsed_time(self._events[1]) / 1000
        return Sample(amount, wall, cpu, details)


def timed(work: Callable[[], Any], amount: float = 1.0, repeats: int = 1) -> Sample:
    """One sample of `repeats` calls, of `amount` work each."""
    watch = Stopwatch()
    for _ in range(repeats):
        work()
    return watch.stop(amount * repeats)


def repeats_for(work: Callable[[], Any], seconds: float) -> int:
    """How many calls take about so long, from one call that follows another one."""
    work()
    return max(1, round(seconds / max(timed(work).wall, 1e-6)))


def give_back_freed_memory() -> None:
    """Of what a process on a CPU has freed, nothing stays with it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def reset_peak_memory() -> int:
    """
    Let the next `peak_memory` count from now on.

    Returns:
        Bytes in use now: of the GPU, or else of the process.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    give_back_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return _status("VmRSS")


def peak_memory() -> int:
    """Most bytes in use since `reset_peak_memory`: allocated on the GPU, or else the process's resident set."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(name: str) -> int:
    """A size out of Linux's account of this process, in bytes; 0 on other systems."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """
    The e of the power law value = c * size ** e that fits best, by least squares of the logarithms.

    Raises:
        ValueError: There are fewer than two points, or one is not above 0.
    """
    if len(sizes) < 2 or len(sizes) != len(values):
        raise ValueError(f"`sizes` and `values` must be of one length of at least 2, got {len(sizes)}, {len(values)}")
    if min(*sizes, *values) <= 0:
        raise ValueError(f"`sizes` and `values` must be above 0, got {list(sizes)} and {list(values)}")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measured_peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large square matrix product, the best of several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty(size, size, device=device, dtype=dtype)
    samples = [timed(lambda: torch.matmul(left, right, out=product), 2.0 * size**3, repeats=3) for _ in range(6)]
    return max(sample.rate() for sample in samples[1:])


@cache
def busy_share() -> float:
    """
    The share of all cores that was in use just before the first call, which comes before any work; 0 where Linux's
    account is missing.
    """

    def ticks() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]]
        idle, waiting = numbers[3:5]
        return sum(numbers) - idle - waiting, sum(numbers)

    try:
        busy, total = ticks()
        time.sleep(0.5)
        later_busy, later_total = ticks()
    except OSError:
        return 0.0
    return round((later_busy - busy) / max(later_total - total, 1), 2)


def warn_if_busy() -> None:
    """Tell the user where other processes take the cores that are measured; for the beginning of a script."""
    if busy_share() > 0.1:
        print(f"Other processes take {busy_share():.0%} of the cores: trust CPU seconds more than wall seconds.")
