# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune a checkpoint whole and by adapters, task by task, and tabulate what each way costs and scores.

    python benchmarks/compare_adapters.py
    python benchmarks/compare_adapters.py --tasks qamr --variants full lora --table_only

Every run is a recipe's own command in a process of its own. What has finished is not run again, and a run that was cut
off starts anew, so that its cost is that of the whole. Peak memory is the largest resident set of the processes of a
run, and CPU minutes are those of all of them, start and evaluation included.
"""

import argparse
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from hf_attn.training import format_table
from hf_attn.training.reporting import RESULTS_FILE


FOLDER = Path("outputs/compare_adapters")
USAGE_FILE = "usage.json"
HEADER = ["task", "way", "score", "share of full", "trained", "of all", "peak memory", "CPU minutes", "on disk"]


class Task(NamedTuple):
    """
    A task: its recipe, its score in `all_results.json`, the checkpoint that its config fine-tunes whole, and further
    flags of all its runs.
    """

    recipe: str
    score: str
    base: str
    flags: tuple[str, ...] = ()


ENGLISH_BASE = "recipes/checkpoints/english_base"
TRANSLATOR = "recipes/checkpoints/tatoeba_en_de_hybrid"
# What a way of training brings is not to be mixed with what decoding brings.
_PLAIN = ("--no_repeat_ngram_size=0",)
TASKS = {
    "tatoeba_en_de_formal": Task("translation", "bleu", TRANSLATOR),
    "multi30k_en_de_tatoeba": Task("translation", "bleu", TRANSLATOR),
    "scitldr": Task("summarization", "rouge1", ENGLISH_BASE, _PLAIN),
    "aeslc": Task("summarization", "rouge1", ENGLISH_BASE, _PLAIN),
    "samsum_english_base": Task("summarization", "rouge1", ENGLISH_BASE, _PLAIN),
    "qamr": Task("question_answering", "f1", ENGLISH_BASE),
    "squadshifts": Task("question_answering", "f1", "outputs/qamr"),
    "fairytaleqa": Task("question_answering", "rougeL", "outputs/qamr_generative"),
    "tweetqa": Task("question_answering", "rougeL", "outputs/qamr_generative"),
}

_LORA = ["--model_name_or_path={base}", "--learning_rate=3e-3", "--lora", "--lora_r=8", "--lora_alpha=16"]
_ATTENTION = ["--lora_target_modules", "q_proj", "v_proj"]
_ALL_LINEAR = ["--lora_r=4", "--lora_target_modules", "all-linear"]
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "scratch": (
        "from scratch",
        ["--model_config={base}/config.json", "--tokenizer_name={base}", "--config_overrides=dropout=0.2"],
    ),
    "full": ("full fine-tuning", ["--model_name_or_path={base}"]),
    "lora_attention": ("LoRA, attention alone", [*_LORA, *_ATTENTION]),
    "lora": ("LoRA, recurrences too", _LORA),
    "lora_high_rate": ("LoRA, recurrences too, learning rate 1e-2", [*_LORA, "--learning_rate=1e-2"]),
    "lora_all": ("LoRA, all linear layers", [*_LORA, *_ALL_LINEAR]),
    "lora_attention_embedding": (
        "LoRA, attention and the embedding",
        [*_LORA, *_ATTENTION, "shared"],
    ),
    "lora_all_embedding": (
        "LoRA, all linear layers and the embedding",
        [*_LORA, "--lora_r=3", "--lora_target_modules", "all-linear", "shared"],
    ),
    "lora_all_high_rate": (
        "LoRA, all linear layers, learning rate 6e-3",
        [*_LORA, "--learning_rate=6e-3", *_ALL_LINEAR],
    ),
    "lora_all_wide": (
        "LoRA, all linear layers, rank 32",
        [*_LORA, *_ALL_LINEAR, "--lora_r=32", "--lora_alpha=64"],
    ),
    "dora": ("DoRA", [*_LORA, "--use_dora"]),
    "lora_4bit": ("LoRA on 4 bits", [*_LORA, "--load_in_4bit"]),
}


def command(task: str, variant: str) -> list[str]:
    """The command line of a run, without what starts Python."""
    recipe, _, base, flags = TASKS[task]
    own = [option.format(base=base) for option in VARIANTS[variant][1]]
    return [
        "launch", "--num_processes=1", f"recipes/{recipe}.py", f"--config=recipes/configs/{task}.yaml",
        f"--output_dir={FOLDER / task / variant}", *flags, *own,
    ]  # fmt: skip


def run(task: str, variant: str) -> None:
    """
    Train and score, unless that has been done, and record the peak memory in KiB and the CPU seconds.

    Raises:
        RuntimeError: The command failed; the end of its log says why.
    """
    folder = FOLDER / task / variant
    if (folder / USAGE_FILE).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = command(task, variant)
    log = folder.with_suffix(".log")
    with log.open("w", encoding="utf-8") as stream:
        launcher = "from accelerate.commands.accelerate_cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", launcher, *arguments], stdout=stream, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"`accelerate {shlex.join(arguments)}` failed: see the end of {log}.")
    used = {"ru_maxrss": usage.ru_maxrss, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    (folder / USAGE_FILE).write_text(json.dumps(used), encoding="utf-8")


def num_stored(file: Path) -> int:
    """Numbers in a safetensors file."""
    total = 0
    with safe_open(file, framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 -- not a dict
            size = 1
            for length in tensors.get_slice(key).get_shape():
                size *= length
            total += size
    return total


def measured(task: str, variant: str) -> dict[str, Any]:
    """What a finished run scored and cost."""
    folder = FOLDER / task / variant
    results = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    is_adapter = (folder / "adapter_model.safetensors").is_file()
    weights = folder / ("adapter_model.safetensors" if is_adapter else "model.safetensors")
    trained = num_stored(weights)
    used = json.loads((folder / USAGE_FILE).read_text(encoding="utf-8"))
    return {
        "task": task,
        "variant": variant,
        "score": results[f"predict_{TASKS[task].score}"],
        "trained": trained,
        "all": num_stored(Path(TASKS[task].base) / "model.safetensors") + trained if is_adapter else trained,
        "peak_memory_mib": used["ru_maxrss"] / 1024,
        "cpu_minutes": used["cpu_seconds"] / 60,
        "megabytes": weights.stat().st_size / 1e6,
        "command": f"accelerate {shlex.join(command(task, variant))}",
    }


def merged(rows: Sequence[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    """The rows beside those of other runs in `file`, in the order of `TASKS` and `VARIANTS`."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    by_run = {(row["task"], row["variant"]): row for row in [*kept, *rows]}
    return [by_run[run] for run in itertools.product(TASKS, VARIANTS) if run in by_run]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows side by side, with the score as a share of that of full fine-tuning."""
    full = {row["task"]: row["score"] for row in rows if row["variant"] == "full"}
    cells = [
        [
            row["task"],
            VARIANTS[row["variant"]][0],
            row["score"],
            f"{row['score'] / full[row['task']]:.1%}" if row["task"] in full else "",
            f"{row['trained']:,}",
            f"{row['trained'] / row['all']:.2%}",
            f"{row['peak_memory_mib']:,.0f} MiB",
            f"{row['cpu_minutes']:.1f}",
            f"{row['megabytes']:.2f} MB",
        ]
        for row in rows
    ]
    return format_table(HEADER, cells)


def main() -> None:
    """Run, or tabulate, what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--table_only", action="store_true", help="tabulate what has finished")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("benchmarks/results/adapters.json"),
        help="where the rows go, beside those that are there",
    )
    arguments = parser.parse_args()
    rows = []
    for task in arguments.tasks:
        for variant in arguments.variants:
            if not arguments.table_only:
                run(task, variant)
            if (FOLDER / task / variant / USAGE_FILE).is_file():
                rows.append(measured(task, variant))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    rows = merged(rows, arguments.json)
    arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
