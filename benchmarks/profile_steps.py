# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Where the time of a benchmark's step goes, by operation of torch: what the goals that are missed are explained by.

    python benchmarks/profile_steps.py luong2015 'luong2015, step loop'
    python benchmarks/profile_steps.py generate --threads 1
    python benchmarks/profile_steps.py linear_attention full_attention

A line is a share of the wall time and an operation, without those that it calls; "between operations" is Python, and
what torch does before and after its kernels. The profiler's own cost is in it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from bench_decoding import FORCED_LENGTH, OURS
from bench_long_inputs import FULL, LED, LINEAR, SLIDING, layer_runner
from bench_recurrent import MODELS, VOCAB_SIZE, fused_loss, stepwise_loss, training_step
from hf_attn import HfAttnConfig
from hf_attn.generation import pack_linears
from hf_attn.training.hardware import computes_bf16
from models import fresh_model


LENGTH = 16384
LARGEST, REPEATS = 9, 3


def layer_pass(name: str) -> Callable[[], None]:
    """The forward pass of a layer of bench_long_inputs.py."""
    return partial(layer_runner(name, computes_bf16()), LENGTH, False)


def recurrent_step(name: str, loss_of: Callable) -> Callable[[], None]:
    """A training step of bench_recurrent.py."""
    _, step = training_step(name)
    return partial(step, loss_of, computes_bf16())


def decoding(name: str) -> Callable[[], None]:
    """Greedy decoding of one sentence, in a way of bench_decoding.py."""
    config = HfAttnConfig.from_preset("hybrid_ssru", vocab_size=VOCAB_SIZE)
    model = fresh_model(config).eval()
    if OURS[name].weights is not None:
        model = pack_linears(model, OURS[name].weights)
    sentence = torch.arange(5, 20)[None]

    def run() -> None:
        with torch.inference_mode():
            model.generate(
                input_ids=sentence,
                do_sample=False,
                min_new_tokens=FORCED_LENGTH,
                max_new_tokens=FORCED_LENGTH,
                **OURS[name].options,
            )

    return run


CASES: dict[str, Callable[[], Callable[[], None]]] = {
    **{name: partial(layer_pass, name) for name in (SLIDING, LINEAR, FULL, LED)},
    **{name: partial(recurrent_step, name, fused_loss) for name in MODELS},
    **{f"{name}, step loop": partial(recurrent_step, name, stepwise_loss) for name in MODELS},
    **{name: partial(decoding, name) for name in OURS},
}


def main(command_line: Sequence[str] | None = None) -> None:
    """Print a profile of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="case", help=", ".join(map(repr, CASES)))
    parser.add_argument("--threads", type=int, help="default: one for each core")
    arguments = parser.parse_args(command_line)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    for name in arguments.cases:
        work = CASES[name]()
        work()
        print_profile(name, work)


def print_profile(name: str, work: Callable[[], None]) -> None:
    """The operations that take most of the time of some calls."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        for _ in range(REPEATS):
            work()
        seconds = time.perf_counter() - start
    events = sorted(profiler.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)
    print(f"{name}: {1000 * seconds / REPEATS:,.1f} ms")
    shares = [
        (event.self_cpu_time_total / 1e6 / seconds, f"{event.key}, {event.count // REPEATS} times") for event in events
    ]
    known = sum(share for share, _ in shares)
    shares = [*shares[:LARGEST], (sum(share for share, _ in shares[LARGEST:]), "other operations")]
    for share, what in [*shares, (1 - known, "between operations")]:
        print(f"{share:6.1%}  {what}")


if __name__ == "__main__":
    main()
