# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Training: useful source and target tokens a second, ours against Marian and BART under `Seq2SeqTrainer`.

    python benchmarks/bench_training.py
    python benchmarks/bench_training.py --size small --threads 1

Every system trains in a process of its own, through its own Trainer and on the same rows; the processes take turns,
some updates each. "As started" is what `Seq2SeqTrainer` gives without further settings; "well set" is bfloat16 where
the device computes in it, eager attention on a CPU, a fused optimizer, rows grouped by length. Batches hold the same
number of useful tokens on average. Quality is the loss on held-out sentences after the updates that were measured.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from torch import nn
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from corpus import find_corpus, tokenized, tokenizer_for
from hf_attn.data import LengthBucketBatchSampler, source_target_lengths
from hf_attn.training import AdapterArguments, ModelArguments, RecipeTrainer, RecipeTrainingArguments, load_model
from hf_attn.training.hardware import computes_bf16
from measuring import (
    Sample,
    Stopwatch,
    interleave,
    measured_peak,
    peak_memory,
    rates,
    reset_peak_memory,
    warn_if_busy,
)
from models import SIZES, bart_config, fresh_model, hf_attn_config, marian_config, training_flops
from recording import Row, command_line, compare, environment, write_rows
from workers import Requests, Worker


OURS = "hf_attn, recipe"
# Name -> config, and whether `Seq2SeqTrainer` is told what is fast.
PEERS: dict[str, tuple[Callable, bool]] = {
    "Marian, as started": (marian_config, False),
    "Marian, well set": (marian_config, True),
    "BART, well set": (bart_config, True),
}
DEVICES = {
    "cpu": {
        "sizes": ("tiny", "small", "base"),
        "peers": ("Marian, as started", "Marian, well set"),
        "tokens_per_batch": 4096,
    },
    "cuda": {"sizes": ("base", "large"), "peers": tuple(PEERS), "tokens_per_batch": 32768},
}
# (device, peer, size) -> least ratio.
GOALS = {
    ("cpu", "Marian, as started", "small"): 4.5,
    ("cpu", "Marian, as started", "base"): 4.5,
    **{("cpu", "Marian, well set", size): 1.15 for size in ("tiny", "small", "base")},
    **{("cuda", "BART, well set", size): 1.5 for size in ("base", "large")},
}
UTILIZATION_GOAL = 40.0  # percent, on a GPU
# Updates of a round, by size: (quick, full).
UPDATES = {"tiny": (10, 40), "small": (5, 20), "base": (2, 8), "large": (2, 8)}
GPU_UPDATES = (20, 60)
# Rows of a batch are tried in these multiples of those that hold `tokens_per_batch`, on a GPU, for the best one.
BATCH_FACTORS = (0.5, 1, 2, 4)
VALIDATION_ROWS = 200
LEARNING_RATE, WARMUP = 3e-4, 20

# A loss over this vocabulary and so many tokens a batch must not need the logits.
LARGE_VOCABULARY, LARGE_BATCH = 32000, 16384


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, help="default: tiny, small, base; base, large on a GPU")
    parser.add_argument("--quick", action="store_true", help="fewer updates and rounds")
    parser.add_argument("--threads", type=int, help="of each process; default: one for each core")
    parser.add_argument("--rounds", type=int, help="rounds that count; default: 5, or 3 with --quick")
    parser.add_argument("--tokens_per_batch", type=int, help="default: 4096, or 32768 on a GPU")
    parser.add_argument("--only_memory", action="store_true", help="measure the memory of a large vocabulary alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        task = json.loads(arguments.worker)
        (large_vocabulary_worker if task["kind"] == "memory" else training_worker)(task)
        return
    warn_if_busy()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if not arguments.only_memory:
        with tempfile.TemporaryDirectory() as folder:
            corpus = prepare(Path(folder))
            for size in arguments.size or DEVICES[device]["sizes"]:
                write_rows("training", training_rows(size, Path(folder), corpus, device, arguments))
    if arguments.only_memory or arguments.size is None:
        write_rows("training", large_vocabulary_rows(arguments))


def prepare(folder: Path, max_rows: int | None = None) -> str:
    """Write tokenizer and tokenized rows for the workers; gives the name of the corpus."""
    corpus = find_corpus()
    pairs = corpus.pairs("train")[:max_rows]
    tokenizer = tokenizer_for(pairs)
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenized(pairs, tokenizer).save_to_disk(str(folder / "train"))
    tokenized(corpus.pairs("validation")[:VALIDATION_ROWS], tokenizer).save_to_disk(str(folder / "validation"))
    return corpus.name


def training_rows(size: str, folder: Path, corpus: str, device: str, arguments: argparse.Namespace) -> list[Row]:
    """Train all systems of one size in turn."""
    quick, full = GPU_UPDATES if device == "cuda" else UPDATES[size]
    peers = DEVICES[device]["peers"]
    tokens_per_batch = arguments.tokens_per_batch or DEVICES[device]["tokens_per_batch"]
    task = {
        "kind": "training",
        "folder": str(folder),
        "size": size,
        "updates": quick if arguments.quick else full,
        "tokens_per_batch": tokens_per_batch,
        "batch_factor": 1,
    }
    tasks = {name: {**task, "system": name} for name in (OURS, *peers)}
    if device == "cuda":
        for name, one in tasks.items():
            one["batch_factor"] = best_batch_factor(one)
            print(f"{name}, {size}: best at {one['batch_factor']} × {tokens_per_batch} tokens a batch")
    samples, ends = train_in_turn(tasks, arguments.rounds or (3 if arguments.quick else 5), arguments.threads)
    vocab_size = len(AutoTokenizer.from_pretrained(folder / "tokenizer"))
    command = command_line(
        __file__,
        size=size,
        quick=arguments.quick,
        threads=arguments.threads,
        rounds=arguments.rounds,
        tokens_per_batch=arguments.tokens_per_batch,
    )
    rows = []
    for peer in peers:
        rows.append(
            compare(
                f"{size}, {corpus}, against {peer}",
                (OURS, samples[OURS]),
                (peer, samples[peer]),
                "useful tokens",
                command=command,
                goal=GOALS.get((device, peer, size)),
                quality=f"held-out loss {ends[OURS]['loss']:.3f} / {ends[peer]['loss']:.3f} after "
                f"{ends[OURS]['updates']} updates",
                memory=(ends[OURS]["memory"], ends[peer]["memory"]),
                details={"vocab_size": vocab_size, **{f"task_{name}": settings(tasks[name]) for name in (OURS, peer)}},
            )
        )
    rows.append(utilization_row(size, samples, vocab_size, command, device))
    return rows


def settings(task: Mapping[str, Any]) -> dict[str, Any]:
    """Of a task, without the place of its data."""
    return {name: value for name, value in task.items() if name != "folder"}


def train_in_turn(
    tasks: Mapping[str, Mapping[str, Any]], rounds: int, threads: int | None
) -> tuple[dict[str, list[Sample]], dict[str, dict[str, Any]]]:
    """Rounds of each system, and what each worker says at the end: held-out loss, peak memory, updates."""
    workers = {name: Worker(__file__, task, threads) for name, task in tasks.items()}
    try:
        samples = interleave({name: worker.sample for name, worker in workers.items()}, rounds)
        ends = {name: worker.ask({"stop": True}) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    return samples, ends


def best_batch_factor(task: Mapping[str, Any]) -> float:
    """The multiple of the batch that trains fastest, of those that fit into the memory."""
    speeds = {}
    for factor in BATCH_FACTORS:
        with Worker(__file__, {**task, "batch_factor": factor, "updates": GPU_UPDATES[0]}) as worker:
            try:
                worker.sample()
                speeds[factor] = worker.sample().rate()
            except RuntimeError:
                print(f"{task['system']}, {task['size']}: {factor} × {task['tokens_per_batch']} tokens do not fit")
                break
    return max(speeds, key=lambda factor: speeds[factor])


def utilization_row(size: str, samples: Mapping[str, list[Sample]], vocab_size: int, command: str, device: str) -> Row:
    """The share of the device's measured matrix product that useful tokens make use of."""
    dtype = torch.bfloat16 if computes_bf16() else torch.float32
    peak = measured_peak(dtype)

    def share(name: str) -> float:
        return float(np.median([sample.details["flops"] / sample.wall for sample in samples[name]])) / peak * 100

    best_peer = max((name for name in samples if name != OURS), key=lambda name: rates(samples[name]).median)
    return Row(
        case=f"{size}, use of the device",
        ours=f"{OURS}: {share(OURS):.1f} %",
        peer=f"{best_peer}: {share(best_peer):.1f} %",
        measured=share(OURS),
        unit="%",
        goal=UTILIZATION_GOAL if device == "cuda" else None,
        quality=f"useful operations over {peak / 1e9:,.0f} GFLOP/s of a {str(dtype).removeprefix('torch.')} product",
        command=command,
        environment=environment(),
        details={"vocab_size": vocab_size, "peak": peak},
    )


class CountingCollator:
    """A collator that notes the lengths of sources and targets of each batch it makes."""

    def __init__(self, collator: Callable):
        self.collator = collator
        self.lengths: list[np.ndarray] = []

    def __call__(self, rows: list[dict[str, Any]], *arguments: Any) -> Any:
        self.lengths.append(np.array([(len(row["input_ids"]), len(row["labels"])) for row in rows]))
        return self.collator(rows, *arguments)


class TakingTurns(TrainerCallback):
    """Train some updates for each request, and stop where one says so or none comes any more."""

    def __init__(self, requests: Requests, updates: int, lengths: list[np.ndarray], flops: Callable):
        self._requests, self._updates, self._lengths, self._flops = requests, updates, lengths, flops
        self._watch: Stopwatch | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Wait for the first request."""
        self._wait(control)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """At the end of a round: answer with its sample, and wait for the next request."""
        if state.global_step % self._updates or self._watch is None:
            return
        # Batch by batch as they were drawn: one is always drawn ahead.
        lengths = np.concatenate(self._lengths[state.global_step - self._updates : state.global_step])
        self._requests.answer(self._watch.stop(float(lengths.sum()), flops=self._flops(lengths)))
        self._wait(control)

    def _wait(self, control) -> None:
        request = self._requests.next()
        if request is None or request.get("stop"):
            control.should_training_stop = True
            self._watch = None
        else:
            self._watch = Stopwatch()


def training_worker(task: Mapping[str, Any]) -> None:
    """Train one system, some updates a request; at the end answer with its loss and its memory."""
    requests = Requests()
    folder = Path(task["folder"])
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    train, validation = (load_from_disk(str(folder / name)) for name in ("train", "validation"))
    memory_before = reset_peak_memory()
    collator = CountingCollator(DataCollatorForSeq2Seq(tokenizer))
    with tempfile.TemporaryDirectory() as output_dir:
        make_trainer = own_trainer if task["system"] == OURS else peer_trainer
        trainer = make_trainer(task, train, tokenizer, collator, output_dir)
        size = SIZES[task["size"]]
        trainer.add_callback(
            TakingTurns(
                requests,
                task["updates"],
                collator.lengths,
                lambda lengths: training_flops(size, len(tokenizer), lengths),
            )
        )
        trainer.train()
        memory = peak_memory() - memory_before
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        loss = held_out_loss(model, validation, DataCollatorForSeq2Seq(tokenizer))
        requests.answer({"loss": loss, "memory": memory, "updates": trainer.state.global_step})


def _training_options(task: Mapping[str, Any], output_dir: str) -> dict[str, Any]:
    """What all systems are told alike."""
    return {
        "output_dir": output_dir,
        "max_steps": 10**6,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": WARMUP,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
    }


def own_trainer(
    task: Mapping[str, Any], train: Dataset, tokenizer: Any, collator: CountingCollator, output_dir: str
) -> RecipeTrainer:
    """What a recipe makes of its defaults."""
    training_args = RecipeTrainingArguments(
        **_training_options(task, output_dir),
        tokens_per_batch=int(task["tokens_per_batch"] * task["batch_factor"]),
        do_train=True,
    )
    config_file = Path(output_dir) / "model.json"
    hf_attn_config(SIZES[task["size"]], len(tokenizer)).to_json_file(config_file)
    model_args = ModelArguments(model_config=str(config_file), tokenizer_name=str(Path(task["folder"]) / "tokenizer"))
    torch.manual_seed(1)
    model = load_model(model_args, AdapterArguments(), training_args, tokenizer)
    return RecipeTrainer(
        model=model, args=training_args, train_dataset=train, data_collator=collator, processing_class=tokenizer
    )


def peer_trainer(
    task: Mapping[str, Any], train: Dataset, tokenizer: Any, collator: CountingCollator, output_dir: str
) -> Seq2SeqTrainer:
    """`Seq2SeqTrainer` on as many rows a batch as ours has on average."""
    make_config, is_well_set = PEERS[task["system"]]
    lengths = source_target_lengths(train).tolist()
    num_batches = len(LengthBucketBatchSampler(lengths, task["tokens_per_batch"]))
    num_rows = max(1, round(task["batch_factor"] * len(train) / num_batches))
    options = {**_training_options(task, output_dir), "per_device_train_batch_size": num_rows}
    attention = "sdpa"
    if is_well_set:
        options |= {
            "bf16": computes_bf16(),
            "use_cpu": not torch.cuda.is_available(),
            "optim": "adamw_torch_fused",
            "train_sampling_strategy": "group_by_length",
        }
        attention = "sdpa" if torch.cuda.is_available() else "eager"
    config = make_config(SIZES[task["size"]], len(tokenizer), tokenizer)
    return Seq2SeqTrainer(
        model=fresh_model(config, seed=1, attn_implementation=attention),
        args=Seq2SeqTrainingArguments(**options),
        train_dataset=train,
        data_collator=collator,
        processing_class=tokenizer,
    )


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, rows: Dataset, collator: Callable) -> float:
    """Nats a target token, in the precision of the weights; the same sum for every family."""
    model.eval()
    total, count = 0.0, 0
    for start in range(0, len(rows), 50):
        batch = collator([rows[place] for place in range(start, min(start + 50, len(rows)))]).to(model.device)
        logits = model(**batch).logits.float().flatten(0, 1)
        labels = batch["labels"].flatten()
        total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        count += int(labels.ne(-100).sum())
    return total / count


def large_vocabulary_rows(arguments: argparse.Namespace) -> list[Row]:
    """Peak memory of one update on a batch whose logits are large, against Marian's and against the logits alone."""
    answers = {}
    for system in (OURS, "Marian, well set"):
        with Worker(__file__, {"kind": "memory", "system": system}, arguments.threads) as worker:
            answers[system] = worker.ask()
    ours, peer = answers[OURS], answers["Marian, well set"]
    logits = LARGE_BATCH // 2 * LARGE_VOCABULARY * 4
    common = {
        "command": command_line(__file__, only_memory=True, threads=arguments.threads),
        "quality": f"loss {ours['loss']:.3f} / {peer['loss']:.3f}, ln {LARGE_VOCABULARY} = "
        f"{math.log(LARGE_VOCABULARY):.3f}",
        "environment": environment(),
    }
    case = f"memory of an update, {LARGE_VOCABULARY:,} tokens of vocabulary, {LARGE_BATCH:,} in the batch"
    return [
        Row(
            case=f"{case}, against Marian",
            ours=OURS,
            peer="Marian, well set",
            measured=peer["memory"] / ours["memory"],
            memory=(ours["memory"], peer["memory"]),
            **common,
        ),
        Row(
            case=f"{case}, against the logits",
            ours=OURS,
            peer="float32 logits alone",
            measured=logits / ours["memory"],
            memory=(ours["memory"], logits),
            goal=1.0,
            **common,
        ),
    ]


def large_vocabulary_worker(task: Mapping[str, Any]) -> None:
    """One forward and backward pass; the memory is what it adds to weights and gradients."""
    requests = Requests()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    is_ours = task["system"] == OURS
    make_config = hf_attn_config if is_ours else marian_config
    config = make_config(SIZES["tiny"], LARGE_VOCABULARY)
    attention = "sdpa" if device == "cuda" else "eager"
    model = fresh_model(config, attn_implementation=attention).to(device).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.manual_seed(0)
    tokens = torch.randint(5, LARGE_VOCABULARY, (2, LARGE_BATCH // 64, 32), device=device)
    options = {"skip_logits": True} if is_ours else {}
    for _ in requests:
        before = reset_peak_memory()
        with torch.autocast(device, torch.bfloat16, enabled=computes_bf16()):
            loss = model(input_ids=tokens[0], labels=tokens[1], **options).loss
        loss.backward()
        requests.answer({"loss": loss.item(), "memory": peak_memory() - before})


if __name__ == "__main__":
    main()
