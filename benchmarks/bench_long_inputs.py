# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Long inputs: time and memory of encoder layers from 1k to 32k tokens, ours against full attention and LED.

    python benchmarks/bench_long_inputs.py
    python benchmarks/bench_long_inputs.py --lengths 1024 2048 4096 --threads 1
    python benchmarks/bench_long_inputs.py --float32

One encoder layer of d_model 512 with a window of 256 tokens in all, forward pass alone or with the backward pass, all
systems in the recipes' precision for the device; "cross-attention" is a decoder layer whose cross-attention
reads so many source tokens. Each system runs in a process of its own; the processes take turns, and keep the memory
that they free, as the recipes do. Peak memory is what a pass adds to the weights. Quality is the largest difference of
outputs and gradients from dense attention under that mask, in float32.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import LEDConfig, LEDModel

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration, HfAttnModel
from hf_attn.modeling_efficient_attention import (
    linear_attention,
    linear_attention_weights,
    sliding_window_attention,
    sliding_window_mask,
)
from hf_attn.training.hardware import computes_bf16, keep_freed_memory
from measuring import (
    Sample,
    Stopwatch,
    give_back_freed_memory,
    growth_exponent,
    interleave,
    peak_memory,
    rates,
    reset_peak_memory,
    warn_if_busy,
)
from recording import Row, command_line, compare, environment, write_rows
from workers import Requests, Worker


SLIDING, LINEAR, FULL, CROSS, LED = "sliding_attention", "linear_attention", "full_attention", "cross-attention", "LED"
TRAINING = "training"
SYSTEMS = (SLIDING, LINEAR, FULL, CROSS, LED)
LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
GROWTH_GOAL, FULL_GOAL, LED_GOAL, MEMORY_GOAL = 1.1, 8.0, 1.5, 24.0
FULL_GOAL_LENGTH = 16384
WIDTH, HEADS, FFN_DIM, WINDOW, VOCAB_SIZE = 512, 8, 2048, 256, 1000
TARGET_LENGTH = 128
# Over 32k tokens full attention takes minutes on a CPU, and LED 18 GiB.
LONGEST_ON_CPU = {FULL: 16384, LED: 16384}
EQUALITY_LENGTH = 1024
# A whole model, as `long_encoder`, in training.
TRAINED_LENGTH, TRAINED_LAYERS, GIB = 32768, 6, 2**30


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS), help="tokens")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no training of a whole model")
    parser.add_argument("--float32", action="store_true", help="also where the device computes in bfloat16")
    parser.add_argument("--threads", type=int, help="of each process; default: one for each core")
    parser.add_argument("--only_training", action="store_true", help="a training step of a whole model alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        layer_worker(json.loads(arguments.worker))
        return
    warn_if_busy()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if not arguments.only_training:
        for is_training in (False, True):
            write_rows("long_inputs", layer_rows(arguments, is_training))
    if not arguments.quick:
        write_rows("long_inputs", [training_row(arguments)])


def layer_rows(arguments: argparse.Namespace, is_training: bool) -> list[Row]:
    """Growth of each of ours, and its speed beside full attention and LED."""
    samples = measure(arguments, is_training)
    precision = "bfloat16" if has_bf16(arguments) else "float32"
    passes = f"forward{' and backward' * is_training}, {precision}"
    options = {name: getattr(arguments, name) for name in ("lengths", "quick", "float32", "threads")}
    common: dict[str, Any] = {"command": command_line(__file__, **options)}
    equality = {SLIDING: sliding_difference(), LINEAR: linear_difference()}
    quality = {name: f"dense attention differs by {difference:.0e}" for name, difference in equality.items()}
    rows = []
    for name in (SLIDING, LINEAR, CROSS):
        rows += growth_rows(name, passes, samples[name], {**common, "quality": quality.get(name, "")})
    for peer, goal_of in (
        (FULL, lambda length: FULL_GOAL if length == FULL_GOAL_LENGTH else None),
        (LED, lambda length: LED_GOAL),
    ):
        for name in (SLIDING, LINEAR):
            for length in samples[peer]:
                rows.append(
                    compare(
                        f"{name}, {length:,} tokens, {passes}, against {peer}",
                        (name, samples[name][length]),
                        (peer, samples[peer][length]),
                        "tokens",
                        goal=goal_of(length) if name == SLIDING or peer == FULL else None,
                        memory=(peak(samples[name][length]), peak(samples[peer][length])),
                        quality=quality[name],
                        **common,
                    )
                )
    return rows


def measure(arguments: argparse.Namespace, is_training: bool) -> dict[str, dict[int, list[Sample]]]:
    """Rounds by system and length."""
    samples: dict[str, dict[int, list[Sample]]] = {name: {} for name in SYSTEMS}
    tasks = {name: {"system": name, "has_bf16": has_bf16(arguments)} for name in SYSTEMS}
    workers = {name: Worker(__file__, task, arguments.threads) for name, task in tasks.items()}
    try:
        for length in sorted(arguments.lengths):
            is_slow = length >= 8192 and not torch.cuda.is_available()
            rounds = 2 if is_slow and arguments.quick else 5
            request = {"length": length, "is_training": is_training, "repeats": max(1, 4096 // length)}
            systems = {
                name: partial(worker.sample, request)
                for name, worker in workers.items()
                if torch.cuda.is_available() or length <= LONGEST_ON_CPU.get(name, length)
            }
            turns = interleave(systems, rounds, warmups=0)
            for name, one in turns.items():
                samples[name][length] = one
    finally:
        for worker in workers.values():
            worker.close()
    return samples


def has_bf16(arguments: argparse.Namespace) -> bool:
    """Whether to compute in bfloat16, under autocast."""
    return computes_bf16() and not arguments.float32


def peak(samples: list[Sample]) -> int:
    """The most memory of any round."""
    return max(int(sample.details["memory"]) for sample in samples)


def growth_rows(name: str, passes: str, samples: Mapping[int, list[Sample]], common: Mapping[str, Any]) -> list[Row]:
    """How time and memory grow with the length, as exponents."""
    lengths = list(samples)
    if len(lengths) < 2:
        return []
    seconds = [length / rates(samples[length]).median for length in lengths]
    sizes = [max(peak(samples[length]), 1) for length in lengths]
    span = f"{lengths[0]:,} to {lengths[-1]:,} tokens"
    row = {**common, "peer": "", "unit": "", "goal": GROWTH_GOAL, "is_limit": True, "environment": environment()}
    return [
        Row(
            case=f"{name}, {passes}: exponent of the {what}",
            ours=f"{span}: {first} to {last}",
            measured=growth_exponent(lengths, values),
            details={"lengths": lengths, "values": values},
            **row,
        )
        for what, values, first, last in (
            ("time", seconds, f"{seconds[0]:.3g}", f"{seconds[-1]:.3g} s"),
            ("memory", sizes, f"{sizes[0] / 2**20:,.0f}", f"{sizes[-1] / 2**20:,.0f} MiB"),
        )
    ]


def layer_worker(task: Mapping[str, Any]) -> None:
    """Answer requests for a length: the memory of a first pass, added and in all, and the time of more."""
    requests = Requests()
    keep_freed_memory()
    run = long_training_step if task["system"] == TRAINING else layer_runner(task["system"], task["has_bf16"])
    for request in requests:
        before = reset_peak_memory()
        run(request["length"], request["is_training"])
        peak = peak_memory()
        watch = Stopwatch()
        for _ in range(request["repeats"]):
            run(request["length"], request["is_training"])
        sample = watch.stop(float(request["length"] * request["repeats"]))
        sample.details.update(memory=peak - before, total_memory=peak)
        # The next system needs it.
        give_back_freed_memory()
        requests.answer(sample)


def layer_runner(name: str, has_bf16: bool) -> Callable[[int, bool], None]:
    """What runs one layer over a random input of a length."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    if name == LED:
        layer = LEDModel(led_config()).encoder
    elif name == CROSS:
        layer = HfAttnModel(own_config(FULL)).decoder
    else:
        layer = HfAttnModel(own_config(name)).encoder
    layer = layer.to(device).train()
    targets = torch.randint(5, VOCAB_SIZE, (1, TARGET_LENGTH), device=device)
    inputs = torch.randn(1, max(LENGTHS), WIDTH, device=device)

    def run(length: int, is_training: bool) -> None:
        states = inputs[:, :length].detach().requires_grad_(is_training)
        with torch.set_grad_enabled(is_training), torch.autocast(device, torch.bfloat16, enabled=has_bf16):
            if name == CROSS:
                output = layer(input_ids=targets, encoder_hidden_states=states).last_hidden_state
            else:
                output = layer(inputs_embeds=states).last_hidden_state
            loss = output.float().square().mean()
        if is_training:
            loss.backward()
            layer.zero_grad(set_to_none=True)

    return run


def own_config(layer_type: str, layers: int = 1, **overrides: Any) -> HfAttnConfig:
    """A model whose encoder layers are of one type, without dropout, with the positions that all lengths share."""
    return HfAttnConfig(
        **{
            "vocab_size": VOCAB_SIZE,
            "d_model": WIDTH,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "encoder_attention_heads": HEADS,
            "decoder_attention_heads": HEADS,
            "encoder_ffn_dim": FFN_DIM,
            "decoder_ffn_dim": FFN_DIM,
            "encoder_layer_types": layer_type,
            "sliding_window": WINDOW,
            "max_position_embeddings": max(LENGTHS),
            "dropout": 0.0,
            **overrides,
        }
    )


def led_config() -> LEDConfig:
    """LED in the same size, with as wide a window and no global tokens."""
    return LEDConfig(
        vocab_size=VOCAB_SIZE,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FFN_DIM,
        decoder_ffn_dim=FFN_DIM,
        attention_window=WINDOW,
        max_encoder_position_embeddings=max(LENGTHS),
        activation_function="relu",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )


def sliding_difference(length: int = EQUALITY_LENGTH) -> float:
    """Largest difference of outputs and gradients of the blocked window from dense attention under its mask."""
    half = WINDOW // 2

    def attend(query, key, value, mask):
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return output.transpose(1, 2), None

    def blocked(query, key, value):
        return sliding_window_attention(
            query,
            key,
            value,
            left=half,
            right=half,
            padding_mask=None,
            num_global_tokens=0,
            relative_bias=None,
            attention_function=attend,
        )

    def dense(query, key, value):
        mask = sliding_window_mask(length, half, half, None, 0, query.device)
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)

    return largest_difference(blocked, dense, length)


def linear_difference(length: int = EQUALITY_LENGTH) -> float:
    """Largest difference of outputs and gradients of linear attention from its weights written out."""

    def fast(query, key, value):
        return linear_attention(query, key, value, is_causal=True)[0]

    def dense(query, key, value):
        return (linear_attention_weights(query, key, is_causal=True, padding_mask=None) @ value).transpose(1, 2)

    return largest_difference(fast, dense, length)


def largest_difference(fast: Callable, dense: Callable, length: int) -> float:
    """Of outputs, and of gradients relative to the largest one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    inputs = [torch.randn(1, HEADS, length, WIDTH // HEADS, device=device, requires_grad=True) for _ in range(3)]
    results = []
    for function in (fast, dense):
        output = function(*inputs)
        gradients = torch.autograd.grad(output.square().sum(), inputs)
        results.append((output.detach(), *(gradient / gradient.abs().max() for gradient in gradients)))
    return max((one - other).abs().max().item() for one, other in zip(*results, strict=True))


def training_row(arguments: argparse.Namespace) -> Row:
    """Peak memory of a training step over 32k tokens, everything included."""
    length = min(TRAINED_LENGTH, max(arguments.lengths))
    with Worker(__file__, {"system": TRAINING}, arguments.threads) as worker:
        sample = worker.sample({"length": length, "is_training": True, "repeats": 1})
    total = sample.details["total_memory"] / GIB
    return Row(
        case=f"training step, {length:,} source tokens, {TRAINED_LAYERS} + {TRAINED_LAYERS} layers, checkpointing",
        ours=f"{SLIDING}: {sample.wall:.1f} s",
        peer="",
        measured=total,
        unit="GiB",
        goal=MEMORY_GOAL,
        is_limit=True,
        quality="gradients are those without checkpointing, by the tests",
        command=command_line(__file__, only_training=True, threads=arguments.threads),
        environment=environment(),
        details={"wall": sample.wall, "cpu": sample.cpu},
    )


def long_training_step(length: int, is_training: bool) -> None:
    """Make a whole model, and one step of AdamW on one long source."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = own_config(SLIDING, layers=TRAINED_LAYERS, position_embedding_type="rope")
    model = HfAttnForConditionalGeneration(config).to(device).train(is_training)
    model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    source, target = (torch.randint(5, VOCAB_SIZE, (1, size), device=device) for size in (length, TARGET_LENGTH))
    with torch.autocast(device, torch.bfloat16, enabled=computes_bf16()):
        loss = model(input_ids=source, labels=target, skip_logits=True).loss
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
