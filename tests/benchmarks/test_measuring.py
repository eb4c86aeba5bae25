# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Timing, memory, and processes that take turns."""

import sys

import pytest
import torch

from measuring import (
    Sample,
    Stopwatch,
    growth_exponent,
    interleave,
    peak_memory,
    rates,
    ratios,
    reset_peak_memory,
    spread,
    timed,
)
from workers import Worker


ECHO = """
import sys
sys.path.insert(0, {folder!r})
from measuring import Sample
from workers import Requests
requests = Requests()
print("this goes to standard error")
for request in requests:
    if request.get("fails"):
        raise SystemExit(3)
    requests.answer(Sample(request["amount"], 2.0, 1.0, {{"arguments": sys.argv[1:]}}))
"""


def test_median_and_range():
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="`values` must hold at least one number, got none"):
        spread([])


def test_rates_and_ratios_are_those_of_each_round():
    ours = [Sample(100, wall=1.0, cpu=2.0), Sample(100, wall=2.0, cpu=2.0), Sample(100, wall=4.0, cpu=2.0)]
    peer = [Sample(10, wall=1.0, cpu=1.0), Sample(10, wall=1.0, cpu=1.0), Sample(10, wall=1.0, cpu=1.0)]
    assert rates(ours) == (50.0, 25.0, 100.0)
    assert ratios(ours, peer) == (5.0, 2.5, 10.0)
    assert ratios(ours, peer, "cpu") == (5.0, 5.0, 5.0)


def test_systems_take_turns_and_each_begins_a_round():
    order = []

    def system(name):
        order.append(name)
        return Sample(1, 1.0, 1.0, {"number": len(order)})

    samples = interleave({name: lambda name=name: system(name) for name in "abc"}, rounds=2, warmups=1)
    assert "".join(order) == "abcbcacab"
    assert [sample.details["number"] for sample in samples["a"]] == [6, 8]
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        interleave({"a": lambda: system("a")}, rounds=0)


def test_a_stopwatch_tells_cpu_time_from_waiting():
    watch = Stopwatch()
    torch.cuda.is_available()
    __import__("time").sleep(0.05)
    sample = watch.stop(5.0, loss=1.5)
    assert sample.wall >= 0.05
    assert sample.cpu < 0.05
    assert sample.amount == 5.0
    assert sample.details == {"loss": 1.5}
    calls = []
    assert timed(lambda: calls.append(1), amount=2.0, repeats=3).amount == 6.0
    assert len(calls) == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account of the process")
def test_peak_memory_counts_from_its_reset():
    size = 64 * 2**20
    torch.ones(size, dtype=torch.uint8)
    before = reset_peak_memory()
    assert peak_memory() - before < size / 2
    torch.ones(size, dtype=torch.uint8)
    assert size * 0.9 < peak_memory() - before < size * 2


def test_growth_exponent_of_power_laws():
    sizes = [1024, 2048, 4096]
    assert growth_exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="of one length of at least 2, got 1, 1"):
        growth_exponent([1], [1])
    with pytest.raises(ValueError, match="must be above 0"):
        growth_exponent([1, 2], [0, 1])


@pytest.fixture
def echo_script(tmp_path):
    script = tmp_path / "echo.py"
    folder = next(path for path in sys.path if path.endswith("benchmarks"))
    script.write_text(ECHO.format(folder=folder), encoding="utf-8")
    return str(script)


def test_a_worker_answers_requests_until_it_ends(echo_script, capfd):
    with Worker(echo_script, {"system": "echo"}) as worker:
        sample = worker.sample({"amount": 3})
        assert sample == Sample(3, 2.0, 1.0, {"arguments": ["--worker", '{"system": "echo"}']})
        assert sample.rate("cpu") == 3.0
        with pytest.raises(RuntimeError, match="`echo` ended with status 3"):
            worker.ask({"fails": True})
    assert "this goes to standard error" in capfd.readouterr().err
