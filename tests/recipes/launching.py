# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Runs a recipe by the user's command, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
# A model that two steps of training take no time on.
SHAPE = "d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2"


def launch(*arguments: str, recipe: str, processes: int = 1) -> subprocess.CompletedProcess:
    """`accelerate launch`, or torchrun for several processes on CPU."""
    command = ["accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no"]
    if processes > 1:
        command = ["torch.distributed.run", "--nproc_per_node", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", *command, recipe, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def succeeded(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert result.returncode == 0, result.stderr[-4000:]
    return result
