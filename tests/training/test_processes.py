# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""However many processes, micro-batches and shards: the same losses, the same predictions; and one of them dying."""

import json
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from hf_attn import HfAttnForConditionalGeneration
from tests.training import train_on_processes
from tests.training.tiny_training import MODELS, NUM_STEPS


REPOSITORY = Path(__file__).resolve().parents[2]
# Without dropout a training is the same function of its rows, however they are dealt out; an update has 8 of 40 rows.
EQUALITY = {"dropout": 0.0, "num_rows": 40, "max_steps": 50, "logging_steps": 1, "predicts": True}
EQUALITY |= {"learning_rate": 1e-3, "per_device_eval_batch_size": 2}
# Its name before transformers 5.23.
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {field.name for field in fields(TrainingArguments)}:
    CHECKPOINTING = "gradient_checkpointing"
SPLITS = {
    "accumulation": (1, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "checkpointing": (1, {"per_device_train_batch_size": 8, CHECKPOINTING: True}),
    "two_processes": (2, {"per_device_train_batch_size": 4}),
    "two_processes_accumulation": (2, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "fsdp2": (2, {"per_device_train_batch_size": 4, "fsdp2": True}),
}
SUBJECTS = {**{name: {"model": name} for name in MODELS}, "lora": {"lora": True}}


def launch(folder: Path, processes: int, **options) -> tuple[subprocess.CompletedProcess, dict | None]:
    """Train on so many processes; what they write, where they end well."""
    out = folder.with_suffix(".json")
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    finished = subprocess.run(
        [*command, train_on_processes.__file__, str(folder), str(out), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return finished, json.loads(out.read_text(encoding="utf-8")) if out.is_file() else None


def ended_well(launched):
    finished, result = launched
    assert finished.returncode == 0, finished.stderr[-4000:]
    return result


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The training of each subject on one process, 8 rows an update."""
    results = {}

    def train(subject: str) -> dict:
        if subject not in results:
            folder = tmp_path_factory.mktemp("one_process") / subject
            options = EQUALITY | SUBJECTS[subject] | {"per_device_train_batch_size": 8}
            results[subject] = train_on_processes.train(str(folder), {"gradient_accumulation_steps": 1, **options})
        return results[subject]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("split", SPLITS)
def test_split_changes_neither_losses_nor_predictions(tmp_path, one_process, subject, split):
    processes, options = SPLITS[split]
    options = {"gradient_accumulation_steps": 1, **EQUALITY, **SUBJECTS[subject], **options}
    if processes == 1:
        result = train_on_processes.train(str(tmp_path / "run"), options)
    else:
        result = ended_well(launch(tmp_path / "run", processes, **options))
    assert ("FSDP" in result["model"]) == (split == "fsdp2")
    expected = one_process(subject)
    losses = [entry["loss"] for entry in result["history"]]
    assert len(losses) == 50
    assert losses == pytest.approx([entry["loss"] for entry in expected["history"]], rel=1e-5)
    assert result["texts"] == expected["texts"]


def test_accumulation_changes_no_loss(tmp_path):
    options = {"dropout": 0.0, "num_rows": 24, "max_steps": 6, "logging_steps": 1}
    losses = []
    for rows, accumulation in ((8, 1), (2, 4)):
        split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
        result = train_on_processes.train(str(tmp_path / str(rows)), {**options, **split})
        losses.append([entry["loss"] for entry in result["history"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_train_loss_is_that_of_all_processes(tmp_path):
    """Also of the steps after the last line of the log."""
    options = {"dropout": 0.0, "num_rows": 24, "max_steps": 3, "logging_steps": 2, "gradient_accumulation_steps": 1}
    alone = train_on_processes.train(str(tmp_path / "one"), {**options, "per_device_train_batch_size": 8})
    together = ended_well(launch(tmp_path / "two", 2, **options, per_device_train_batch_size=4))
    assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)


def test_two_processes_go_on_as_one(tmp_path):
    """An update by its tokens is the same on both; so is what is left of the losses since the last line of the log."""
    options = {"dropout": 0.0, "tokens_per_batch": 60, "tokens_per_update": 120, "gradient_accumulation_steps": 1}
    options |= {"num_train_epochs": 2}
    whole = train_on_processes.train(str(tmp_path / "whole"), dict(options))
    finished, _ = launch(tmp_path / "parts", 2, sigterm_after=5, **options)
    assert "Ended by SIGTERM after step 5, with a checkpoint" in finished.stderr
    last = train_on_processes.train(str(tmp_path / "parts"), dict(options))
    assert len(whole["history"]) > 3
    for entry, expected in zip(last["history"], whole["history"], strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)
    assert last["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"tokens_per_batch": 60},
        {},
        {"train_sampling_strategy": "group_by_length"},
        {"streaming": True, "max_steps": NUM_STEPS, "per_device_train_batch_size": 3},
        {"streaming": True, "num_shards": 1, "max_steps": NUM_STEPS, "per_device_train_batch_size": 3},
        {"lora": True},
    ],
    ids=["token_buckets", "random", "by_length", "streaming_shards", "streaming_rows", "lora"],
)
def test_two_processes_resume_exactly(tmp_path, options):
    """SIGTERM to one of them stops both after the same step."""
    whole = ended_well(launch(tmp_path / "whole", 2, **options))
    parts, seen = tmp_path / "parts", []
    for stop in (5, 8) if not options else (7,):
        finished, result = launch(parts, 2, sigterm_after=stop, **options)
        assert finished.returncode != 0
        assert result is None
        assert f"Ended by SIGTERM after step {stop}, with a checkpoint" in finished.stderr
        assert (parts / f"checkpoint-{stop}" / "checkpoint.json").is_file()
    last = ended_well(launch(parts, 2, **options))
    seen = last["seen"]
    assert seen == whole["seen"][-len(seen) :]
    assert last["history"] == whole["history"]
    assert last["weights"] == whole["weights"]


@pytest.mark.slow
def test_sharded_model_is_saved_as_the_gathered_one(tmp_path):
    """Its checkpoint has the code and the name of its own class, and goes on where it stopped."""
    options = {"fsdp2": True, "max_steps": 6, "logging_steps": 1, "save_steps": 3}
    whole = ended_well(launch(tmp_path / "whole", 2, **options))
    finished, _ = launch(tmp_path / "parts", 2, sigterm_after=4, **options)
    assert "Ended by SIGTERM after step 4, with a checkpoint" in finished.stderr
    last = ended_well(launch(tmp_path / "parts", 2, **options))
    assert last["history"] == whole["history"]
    assert last["weights"] == whole["weights"]
    checkpoint = tmp_path / "whole" / "checkpoint-6"
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    assert config["auto_map"]["AutoModelForSeq2SeqLM"] == "modeling_hf_attn.HfAttnForConditionalGeneration"
    assert (checkpoint / "modeling_hf_attn.py").is_file()
    model, loading = HfAttnForConditionalGeneration.from_pretrained(checkpoint, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
def test_shards_are_resumed_and_become_a_checkpoint(tmp_path):
    """Each process saves its part; `accelerate merge-weights` makes of the parts what one process would have saved."""
    options = {"max_steps": 6, "logging_steps": 1, "save_steps": 3}
    whole = ended_well(launch(tmp_path / "whole", 2, fsdp2=True, **options))
    options["fsdp2"] = "SHARDED_STATE_DICT"
    finished, _ = launch(tmp_path / "parts", 2, sigterm_after=4, **options)
    assert "Ended by SIGTERM after step 4, with a checkpoint" in finished.stderr
    last = ended_well(launch(tmp_path / "parts", 2, **options))
    assert last["history"] == whole["history"]
    assert last["weights"] == whole["weights"]
    shards = tmp_path / "parts" / "checkpoint-6" / "pytorch_model_fsdp_0"
    assert len(list(shards.glob("*.distcp"))) == 2
    merge = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "merge-weights", str(shards)]
    subprocess.run([*merge, str(tmp_path / "merged")], check=True)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    expected = load_file(tmp_path / "whole" / "checkpoint-6" / "model.safetensors")
    assert expected.keys() <= merged.keys()
    result = load_file(tmp_path / "parts" / "model.safetensors")
    assert all(torch.equal(some[name], weight) for some in (merged, result) for name, weight in expected.items())


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path):
    finished, result = launch(tmp_path / "run", 2, exit_after=3, save_steps=2)
    end = time.time()
    assert finished.returncode != 0
    assert result is None
    assert "SIGKILL" in finished.stderr
    # The launcher gives the others 30 seconds; the time limit of the backend is 30 minutes.
    assert end - (tmp_path / "run" / "failure").stat().st_mtime < 90
    assert (tmp_path / "run" / "checkpoint-2" / "checkpoint.json").is_file()
