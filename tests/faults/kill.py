# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Kills a run of a recipe by SIGKILL at random moments, starts it again by the same command, and compares the result.

    python -m tests.faults.kill --kills 30 --seed 0

Of three kills, one comes while a checkpoint is being written, one at any moment of the training, and one at any moment
since the start: imports, reading, the record of the run, resuming. A run that ends before all kills are done is
compared, and another begun. An unbroken run of the same command, but for its output directory, says what the weights
and the predictions have to be.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE = "d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2"
COMPARED = ("model.safetensors", "tokenizer.json", "generated_predictions.txt")
MOMENTS = ("writing", "training", "any")
# Seconds that no single run takes.
PATIENCE = 300
# Of a run that nothing kills: some ten kills, each after one more checkpoint.
MAX_STEPS = 60


@dataclass
class Survival:
    """What came of a number of kills.

    Attributes:
        kills: How often the run was killed.
        kills_while_writing: How often a checkpoint was then incomplete.
        starts: How often the command was started, the unbroken run left out.
        ends: How often a run came to its end.
        differing: Files of those results that are not those of the unbroken run.
        are_logs_equal: Whether every loss in the logs is.
    """

    kills: int = 0
    kills_while_writing: int = 0
    starts: int = 0
    ends: int = 0
    differing: tuple[str, ...] = ()
    are_logs_equal: bool = True


def survive(kills: int, folder: Path, seed: int = 0) -> Survival:
    """
    Kill runs so many times in all, let them end, and compare each with an unbroken one.

    Args:
        kills: SIGKILLs.
        folder: For the corpus and all runs; empty.
        seed: Of the moments.

    Raises:
        RuntimeError: A run ended with an error.
    """
    write_corpus(folder)
    arguments = command(folder)
    log, whole = folder / "log", folder / "whole"
    begin = time.monotonic()
    end_well(start([*arguments, f"--output_dir={whole}"], log), log)
    duration = time.monotonic() - begin
    generator = random.Random(seed)
    survival = Survival()
    while survival.kills < kills:
        output_dir = folder / f"killed_{survival.ends}"
        while True:
            process = start([*arguments, f"--output_dir={output_dir}"], log)
            survival.starts += 1
            if survival.kills == kills:
                break
            wait_for_moment(process, MOMENTS[survival.kills % len(MOMENTS)], output_dir, generator, duration)
            if process.poll() is not None:
                break
            survival.kills_while_writing += any((output_dir / "_incomplete").glob("*"))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            survival.kills += 1
        end_well(process, log)
        survival.ends += 1
        differing = [name for name in COMPARED if (whole / name).read_bytes() != (output_dir / name).read_bytes()]
        survival.differing += tuple(str(output_dir / name) for name in differing)
        survival.are_logs_equal &= logged_losses(whole) == logged_losses(output_dir)
    return survival


def write_corpus(folder: Path) -> None:
    """Numbers in words, English to German."""
    english = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    german = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
    for name, num_rows in (("train", 96), ("test", 5)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(num_rows):
                digits = [(row * 7 + place * place) % 9 for place in range(1 + row % 5)]
                pair = {"en": " ".join(english[digit] for digit in digits)}
                pair["de"] = " ".join(german[digit] for digit in digits)
                file.write(json.dumps({"translation": pair}, ensure_ascii=False) + "\n")


def command(folder: Path) -> list[str]:
    """A run that saves every other step."""
    return [
        sys.executable, str(REPOSITORY / "recipes" / "translation.py"), "--model_config=transformer_tiny",
        f"--config_overrides={SHAPE},dropout=0.1", f"--train_file={folder / 'train.jsonl'}",
        f"--test_file={folder / 'test.jsonl'}", "--vocab_size=300", f"--max_steps={MAX_STEPS}",
        "--tokens_per_batch=150", "--gradient_accumulation_steps=2", "--learning_rate=0.003", "--num_beams=2",
        "--use_cpu", "--bf16=False", "--logging_steps=5", "--save_steps=2", "--save_total_limit=2",
    ]  # fmt: skip


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """Start a command with its own process group, its output going to a file."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            arguments, cwd=REPOSITORY, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def end_well(process: subprocess.Popen, log: Path) -> None:
    """Wait for the end of a run."""
    try:
        status = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if status:
        raise RuntimeError(f"The run ended with status {status}:\n" + log.read_text(encoding="utf-8")[-3000:])


def wait_for_moment(
    process: subprocess.Popen, moment: str, output_dir: Path, generator: random.Random, duration: float
) -> None:
    """Return when it is time to kill, or when the run has ended."""
    if moment == "any":
        wait(process, generator.uniform(0, duration))
        return
    before = newest_checkpoint(output_dir)
    deadline = time.monotonic() + PATIENCE
    # The run has resumed, and saved again.
    while newest_checkpoint(output_dir) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    if moment == "training":
        wait(process, generator.uniform(0, 0.5))
        return
    wait(process, generator.uniform(0, 0.1))
    while not any((output_dir / "_incomplete").glob("*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(generator.uniform(0, 0.02))


def wait(process: subprocess.Popen, seconds: float) -> None:
    """Sleep, at most until the process ends."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def newest_checkpoint(output_dir: Path) -> int:
    """The highest step of a checkpoint; 0 where there is none."""
    steps = [path.name.rsplit("-", 1)[1] for path in output_dir.glob("checkpoint-*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def logged_losses(output_dir: Path) -> list[tuple[int, float]]:
    """Step and loss of each line of the log."""
    state = json.loads((output_dir / "trainer_state.json").read_text(encoding="utf-8"))
    return [(entry["step"], entry["loss"]) for entry in state["log_history"] if "loss" in entry]


def main() -> None:
    """Say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        survival = survive(arguments.kills, Path(folder), arguments.seed)
    sys.stdout.write(
        f"{survival.kills} kills, {survival.kills_while_writing} of them while a checkpoint was incomplete; "
        f"{survival.starts} starts, {survival.ends} results; differing files: "
        f"{', '.join(survival.differing) or 'none'}; losses {'equal' if survival.are_logs_equal else 'differ'}\n"
    )


if __name__ == "__main__":
    main()
