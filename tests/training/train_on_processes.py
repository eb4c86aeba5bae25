# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A training on one process or several: `torchrun train_on_processes.py FOLDER OUT.json '{"model": "lstm", ...}'`.

Writes the log, the predictions and a digest of the weights. Of the options, `sigterm_after` sends SIGTERM to the last
process alone after a step, `exit_after` has it die there without a word, and `fsdp2` shards the model (true, or the
type of the state dict that is saved); the others are those of `build_trainer`. A checkpoint in the folder is resumed.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers import Trainer, TrainerCallback

from hf_attn.training import SortedRows, last_checkpoint
from tests.training.tiny_training import build_trainer, outcome


REPOSITORY = Path(__file__).resolve().parents[2]


class FailureOfTheLastProcess(TrainerCallback):
    """Something happens to the last process after a step."""

    def __init__(self, step: int, signal_number: int):
        self.step = step
        self.signal_number = signal_number

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step + 1 == self.step and args.process_index == args.world_size - 1:
            (Path(args.output_dir) / "failure").touch()
            os.kill(os.getpid(), self.signal_number)


def sharded_on_cpu(state_dict_type: str | bool) -> dict[str, Any]:
    """
    Have accelerate take processes on the CPU for ones that it shards models over; it knows those on GPUs alone.

    Returns:
        Training arguments: those of recipes/accelerate/fsdp2.yaml, but for the type of the state dict if it is given.
    """
    create = Trainer.create_accelerator_and_postprocess

    def create_as_on_gpus(trainer: Trainer) -> None:
        PartialState().distributed_type = DistributedType.MULTI_GPU
        create(trainer)

    Trainer.create_accelerator_and_postprocess = create_as_on_gpus
    config = yaml.safe_load((REPOSITORY / "recipes" / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8"))
    if isinstance(state_dict_type, str):
        config["fsdp_config"]["fsdp_state_dict_type"] = state_dict_type
    return {"fsdp": True, "fsdp_config": config["fsdp_config"]}


def digest(trainer: Any) -> str:
    """Of the bits of all weights."""
    digest = hashlib.sha256()
    for name, weight in outcome(trainer)["weights"].items():
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        digest.update(name.encode())
        digest.update(whole.numpy().tobytes())
    return digest.hexdigest()


def train(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train, and say what came of it."""
    signals = {"sigterm_after": signal.SIGTERM, "exit_after": signal.SIGKILL}
    callbacks = [
        FailureOfTheLastProcess(options.pop(name), signals[name]) for name in list(signals) if name in options
    ]
    if fsdp2 := options.pop("fsdp2", False):
        options |= sharded_on_cpu(fsdp2)
    predicts = options.pop("predicts", False)
    trainer = build_trainer(folder, **options)
    for callback in callbacks:
        trainer.add_callback(callback)
    rows = trainer.train_dataset
    metrics = trainer.train_and_save(last_checkpoint(folder))
    result = {
        "train_loss": metrics.get("train_loss"),
        "history": outcome(trainer)["history"],
        "weights": digest(trainer),
        "seen": getattr(trainer, "seen", []),
        "model": type(trainer.model_wrapped).__name__,
    }
    if predicts:
        # With two processes of two rows the last batch has one row for one of them.
        result["texts"], _ = trainer.predict_texts(SortedRows(rows.select(range(7))), "predict")
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = train(sys.argv[1], json.loads(sys.argv[3]))
    if int(os.environ.get("RANK", "0")) == 0:
        Path(sys.argv[2]).write_text(json.dumps(out), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
