# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a training step on a CPU gains by hf_attn/modeling_dropout.py, against `torch.nn.functional.dropout`.

    python benchmarks/bench_dropout.py
    python benchmarks/bench_dropout.py --models embedded --dtypes bfloat16 --threads 1

A step is loss, gradients and a fused AdamW on one batch of random tokens. Both systems are the same model. Quality is
the share of numbers that each sets to zero.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from hf_attn import HfAttnConfig, modeling_layers, modeling_stacks
from hf_attn.modeling_dropout import dropout
from measuring import Sample, interleave, timed, warn_if_busy
from models import SIZES, fresh_model, hf_attn_config
from recording import Row, command_line, compare, write_rows


CHECKPOINT = Path(__file__).resolve().parents[1] / "recipes" / "checkpoints" / "tatoeba_en_de_hybrid"
# Name -> config; rows; tokens a row, of source and target each.
MODELS: dict[str, tuple[Callable[[], HfAttnConfig], int, int]] = {
    "embedded": (lambda: HfAttnConfig.from_pretrained(CHECKPOINT), 146, 14),
    "base": (lambda: hf_attn_config(SIZES["base"], vocab_size=8000), 40, 25),
}
DTYPES = {"bfloat16": True, "float32": False}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        print("Skipped: on a GPU dropout is torch's own.")
        return
    warn_if_busy()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    rounds = 9 if arguments.quick else 21
    write_rows(
        "dropout",
        [step_row(name, dtype, rounds, arguments) for name in arguments.models for dtype in arguments.dtypes],
    )


def step_row(name: str, dtype: str, rounds: int, arguments: argparse.Namespace) -> Row:
    """A training step with our dropout and with torch's."""
    make_config, num_rows, length = MODELS[name]
    config = make_config()
    model = fresh_model(config, attn_implementation="eager").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    source, target = torch.randint(5, config.vocab_size, (2, num_rows, length))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=DTYPES[dtype]):
            loss = model(input_ids=source, labels=target, skip_logits=True).loss
        loss.backward()
        optimizer.step()

    def system(function: Callable[..., torch.Tensor]) -> Sample:
        usual = modeling_layers.dropout
        modeling_layers.dropout = modeling_stacks.dropout = function
        try:
            return timed(step, 2.0 * num_rows * length)
        finally:
            modeling_layers.dropout = modeling_stacks.dropout = usual

    samples = interleave({"ours": lambda: system(dropout), "torch": lambda: system(nn.functional.dropout)}, rounds)
    threads = torch.get_num_threads()
    shares = [zero_share(function, config.dropout) for function in (dropout, nn.functional.dropout)]
    return compare(
        f"training step of {name}, {num_rows} × {length} tokens, {dtype}, {threads} thread{'s' * (threads > 1)}",
        ("hf_attn", samples["ours"]),
        ("torch", samples["torch"]),
        "tokens",
        command=command_line(__file__, models=name, dtypes=dtype, quick=arguments.quick, threads=threads),
        quality=f"{shares[0]:.3%} and {shares[1]:.3%} zeros at {config.dropout}",
    )


def zero_share(function: Callable[..., torch.Tensor], p: float) -> float:
    """The share of a million ones that a dropout sets to zero."""
    torch.manual_seed(0)
    return 1 - float(function(torch.ones(1000, 1000), p=p, training=True).count_nonzero()) / 1e6


if __name__ == "__main__":
    main()
