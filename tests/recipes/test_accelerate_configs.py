# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The configs of accelerate are what `accelerate launch` takes, and start what they say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from tests.recipes.launching import RECIPES, REPOSITORY, SHAPE


CONFIGS = sorted((RECIPES / "accelerate").glob("*.yaml"))
# Name: launched by torchrun, by FSDP, by DeepSpeed; processes, machines, processes that share a split layer.
EXPECTED = {
    "cpu": (False, False, False, 1, 1, 1),
    "cpu_ddp": (True, False, False, 2, 1, 1),
    "ddp": (True, False, False, 8, 1, 1),
    "deepspeed_zero2": (False, False, True, 8, 1, 1),
    "deepspeed_zero3": (False, False, True, 8, 1, 1),
    "fsdp2": (False, True, False, 8, 1, 1),
    "one_gpu": (False, False, False, 1, 1, 1),
    "several_nodes": (False, True, False, 32, 4, 1),
    "tensor_parallel": (False, True, False, 8, 1, 2),
}


def command_of(config: Path) -> list[str]:
    """The words of its first line."""
    first = config.read_text(encoding="utf-8").splitlines()[0]
    launched = re.fullmatch(r"# (accelerate launch --config_file recipes/accelerate/(\w+)\.yaml .*)", first)
    assert launched, first
    assert launched[2] == config.stem
    return shlex.split(launched[1].replace("$RANK", "1").replace("$HEAD", "10.0.0.1"))


def test_there_is_one_for_each_kind_of_machine():
    assert [config.stem for config in CONFIGS] == sorted(EXPECTED)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_configs_are_loaded(config, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    loaded = load_config_from_file(str(config))
    words = command_of(config)
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words[2:]))
    tensor_parallel = arguments.parallelism_config_tp_size if arguments.use_parallelism_config else 1
    assert EXPECTED[config.stem] == (
        arguments.multi_gpu,
        arguments.use_fsdp,
        arguments.use_deepspeed,
        loaded.num_processes,
        loaded.num_machines,
        tensor_parallel,
    )
    if tensor_parallel == 1:
        assert (REPOSITORY / arguments.training_script).is_file()
    if arguments.use_fsdp:
        assert arguments.fsdp_version == 2
    if arguments.use_parallelism_config:
        sizes = (arguments.parallelism_config_dp_replicate_size, arguments.parallelism_config_dp_shard_size)
        assert sizes[0] * sizes[1] * tensor_parallel == loaded.num_processes
    if arguments.use_deepspeed:
        assert arguments.zero_stage == int(config.stem[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "cpu_ddp"])
def test_configs_for_the_cpu_run(name, tmp_path):
    words = command_of(RECIPES / "accelerate" / f"{name}.yaml")
    options = [
        f"--output_dir={tmp_path / 'run'}", "--model_config=transformer_tiny", f"--config_overrides={SHAPE}",
        f"--train_file={RECIPES / 'data' / 'tatoeba_en_de_formal' / 'train.jsonl.gz'}", "--max_train_samples=64",
        f"--test_file={RECIPES / 'data' / 'tatoeba_en_de_formal' / 'test.jsonl.gz'}", "--max_predict_samples=5",
        "--vocab_size=300", "--max_steps=2", "--tokens_per_batch=1000", "--num_beams=1", "--use_cpu",
    ]  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words[2:], *options],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert len((tmp_path / "run" / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 5
