# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Start and loading: what `import hf_attn` adds, `from_pretrained`, the first line of `hf-attn generate`.

    python benchmarks/bench_startup.py
    python benchmarks/bench_startup.py --rounds 9

Imports and the command run in fresh processes, in turn, after one run each that fills the disk's cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from corpus import EMBEDDED, Corpus, tokenizer_for
from measuring import Sample, Spread, interleave, spread, timed, warn_if_busy
from models import SIZES, bart_config, fresh_model, hf_attn_config
from recording import Row, command_line, compare, environment, write_rows


IMPORT_GOAL, LOADING_GOAL, COMMAND_GOAL = 0.3, 1.0, 1.5
VOCAB_SIZE = 32000
LINE = "A man is riding a horse.\n"
# What the console script `hf-attn` does, also where it is not installed.
COMMAND = "import sys; from hf_attn.cli import main; sys.exit(main())"


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--rounds", type=int, help="rounds that count; default: 9, or 5 with --quick")
    arguments = parser.parse_args()
    warn_if_busy()
    rounds = arguments.rounds or (5 if arguments.quick else 9)
    command = command_line(__file__, quick=arguments.quick, rounds=arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*import_rows(rounds, command), loading_row(Path(folder), rounds, command)]
        rows.append(command_row(Path(folder), rounds, command))
    write_rows("startup", rows)


def import_rows(rounds: int, command: str) -> list[Row]:
    """Seconds that `import hf_attn` adds to the libraries that it stands on."""
    programs = {
        "import transformers": "import transformers",
        "import torch, transformers": "import torch, transformers",
        "import hf_attn": "import transformers, hf_attn",
        # What any model class of transformers takes with it.
        "import a model class": "from transformers import BartForConditionalGeneration, AutoModelForSeq2SeqLM",
    }
    samples = interleave({name: lambda code=code: run_python(code) for name, code in programs.items()}, rounds)
    rows = []
    for peer in ("import transformers", "import torch, transformers", "import a model class"):
        added = differences(samples["import hf_attn"], samples[peer], "wall")
        rows.append(
            Row(
                case=f"added to `{programs[peer]}`",
                ours=f"import hf_attn: {spread(one.wall for one in samples['import hf_attn']).median:.2f} s",
                peer=f"{peer}: {spread(one.wall for one in samples[peer]).median:.2f} s",
                measured=added.median,
                lowest=added.lowest,
                highest=added.highest,
                unit="s",
                goal=IMPORT_GOAL if peer == "import transformers" else None,
                is_limit=True,
                quality=f"{differences(samples['import hf_attn'], samples[peer], 'cpu').median:.2f} CPU seconds",
                command=command,
                environment=environment(),
            )
        )
    return rows


def differences(ours: Sequence[Sample], peer: Sequence[Sample], clock: str) -> Spread:
    """Seconds that ours took longer, round by round."""
    return spread(getattr(one, clock) - getattr(other, clock) for one, other in zip(ours, peer, strict=True))


def loading_row(folder: Path, rounds: int, command: str) -> Row:
    """`from_pretrained` of base size, ours and BART's."""
    directories = {"hf_attn": folder / "hf_attn", "BART": folder / "bart"}
    for name, make_config in (("hf_attn", hf_attn_config), ("BART", bart_config)):
        fresh_model(make_config(SIZES["base"], VOCAB_SIZE)).save_pretrained(directories[name])
    samples = interleave(
        {name: lambda path=path: timed(lambda: load(path), repeats=3) for name, path in directories.items()}, rounds
    )
    ours, peer = (num_parameters(directories[name]) for name in directories)
    return compare(
        "`from_pretrained`, base size",
        ("hf_attn", samples["hf_attn"]),
        ("BART", samples["BART"]),
        "models",
        command=command,
        goal=LOADING_GOAL,
        quality=f"{ours / 1e6:.1f} / {peer / 1e6:.1f} million parameters",
    )


def load(directory: Path) -> torch.nn.Module:
    """As a user loads a model."""
    return AutoModelForSeq2SeqLM.from_pretrained(directory)


def num_parameters(directory: Path) -> int:
    """Parameters of a checkpoint, tied ones once."""
    return sum(parameter.numel() for parameter in load(directory).parameters())


def command_row(folder: Path, rounds: int, command: str) -> Row:
    """The first line of `hf-attn generate` with a tiny model, beside the import of the libraries."""
    corpus = Corpus("embedded", EMBEDDED, "test")
    tokenizer = tokenizer_for(corpus.pairs("validation"), vocab_size=1000)
    directory = folder / "tiny"
    fresh_model(hf_attn_config(SIZES["tiny"], len(tokenizer), tokenizer)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    generate = [sys.executable, "-c", COMMAND, "generate", str(directory), "--max_new_tokens", "10"]
    samples = interleave(
        {
            "hf-attn generate": lambda: run(generate, LINE),
            "import torch, transformers": lambda: run_python("import torch, transformers"),
        },
        rounds,
    )
    ours, peer = samples["hf-attn generate"], samples["import torch, transformers"]
    slower = spread(one.wall / other.wall for one, other in zip(ours, peer, strict=True))
    cpu = spread(one.cpu / other.cpu for one, other in zip(ours, peer, strict=True))
    return Row(
        case="first line of `hf-attn generate`, tiny model",
        ours=f"hf-attn generate: {spread(one.wall for one in ours).median:.2f} s",
        peer=f"import torch, transformers: {spread(one.wall for one in peer).median:.2f} s",
        measured=slower.median,
        lowest=slower.lowest,
        highest=slower.highest,
        cpu=cpu.median,
        goal=COMMAND_GOAL,
        is_limit=True,
        quality="10 tokens of an untrained model",
        command=command,
        environment=environment(),
    )


def run_python(code: str) -> Sample:
    """A fresh interpreter from its start to its end."""
    return run([sys.executable, "-c", code])


def run(words: Sequence[str], text: str = "") -> Sample:
    """
    A process; its wall time ends with its first line, where it prints one, its CPU time with the process.

    Raises:
        RuntimeError: It failed.
    """
    environment_variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment_variables
    )
    with process.stdin as sender, process.stdout as receiver:  # type: ignore[union-attr]
        sender.write(text)
        sender.close()
        first_line = receiver.readline()
        first_line_seconds = time.perf_counter() - start
        receiver.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = first_line_seconds if first_line else time.perf_counter() - start
    if status:
        raise RuntimeError(f"`{' '.join(words)}` failed with status {process.returncode}: see its message above.")
    return Sample(1.0, wall, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
