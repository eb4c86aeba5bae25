# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The configs of accelerate are what `accelerate launch` takes, and start what they say."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from hf_attn.adapters import load_adapter
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


FRESH = ("--model_config=transformer_tiny", f"--config_overrides={SHAPE}", "--vocab_size=300")


def run_on_cpus(name: str, output_dir: Path, processes: int, *start: str) -> str:
    """Trains and translates by the first line of a config, on CPUs; gives what the run logged."""
    words = command_of(RECIPES / "accelerate" / f"{name}.yaml")
    recipe = words.index("recipes/translation.py")
    data = RECIPES / "data" / "tatoeba_en_de_formal"
    options = [
        f"--output_dir={output_dir}", *start,
        f"--train_file={data / 'train.jsonl.gz'}", "--max_train_samples=64",
        f"--test_file={data / 'test.jsonl.gz'}", "--max_predict_samples=5",
        "--max_steps=4", "--save_steps=2", "--tokens_per_batch=1000", "--num_beams=1",
    ]  # fmt: skip
    # Accelerate puts DeepSpeed aside where it is to use CPUs.
    backend = {"DS_ACCELERATOR": "cpu"} if name.startswith("deepspeed") else {"ACCELERATE_USE_CPU": "true"}
    on_cpus = {"CUDA_VISIBLE_DEVICES": "", **backend}
    on_cpus["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words[2:recipe], f"--num_processes={processes}",
         *words[recipe:], *options],
        cwd=REPOSITORY,
        env={**os.environ, **on_cpus},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "processes"),
    [("cpu", 1), ("cpu_ddp", 2), ("fsdp2", 2), ("deepspeed_zero2", 2), ("deepspeed_zero3", 2)],
)
def test_configs_run_and_resume(name, processes, tmp_path):
    if name.startswith("deepspeed"):
        pytest.importorskip("deepspeed", reason="needs DeepSpeed: pip install 'hf_attn[deepspeed]'")
    run = tmp_path / "run"
    run_on_cpus(name, run, processes, *FRESH)
    assert len((run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 5
    weights = load_file(run / "model.safetensors")
    # As if it had been stopped after the second step.
    shutil.rmtree(run / "checkpoint-4")
    for file in ("model.safetensors", "all_results.json", "generated_predictions.txt"):
        (run / file).unlink()
    assert "goes on from" in run_on_cpus(name, run, processes, *FRESH)
    again = load_file(run / "model.safetensors")
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)


@pytest.mark.slow
def test_adapters_and_averages_of_sharded_weights(tmp_path):
    pytest.importorskip("deepspeed", reason="needs DeepSpeed: pip install 'hf_attn[deepspeed]'")
    run_on_cpus("deepspeed_zero3", tmp_path / "mean", 2, *FRESH, "--average_checkpoints=2")
    steps = [load_file(tmp_path / "mean" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4)]
    for key, tensor in load_file(tmp_path / "mean" / "model.safetensors").items():
        torch.testing.assert_close(tensor, (steps[0][key] + steps[1][key]) / 2, rtol=0.01, atol=0.01)
    base = [f"--model_name_or_path={tmp_path / 'mean'}", "--lora"]
    run_on_cpus("deepspeed_zero3", tmp_path / "adapter", 2, *base)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "mean")
    load_adapter(model, tmp_path / "adapter")  # its base has its fingerprint
