# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Predictions of every row once, in order, and the loss of a split, on one process and on two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_attn.data import train_tokenizer
from hf_attn.training import SortedRows
from tests.training import predict_on_processes
from tests.training.predict_on_processes import TEXTS
from tests.training.ragged_training import ours, trainer_for
from tests.training.tiny_training import build_trainer


REPOSITORY = Path(__file__).resolve().parents[3]
EXPECTED = {
    "labels": TEXTS,
    "no labels": TEXTS,
    "one row": TEXTS[:1],
    "sampled by length": TEXTS,
    "last batch dropped": TEXTS,
}


@pytest.fixture(scope="module")
def from_two_processes(tmp_path_factory):
    """The results of `predict_on_processes.py`."""
    folder = tmp_path_factory.mktemp("two_processes")
    path = folder / "written.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, predict_on_processes.__file__, str(folder), str(path)],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(path.read_text())


@torch.no_grad()
def expected_losses() -> dict[str, float]:
    """Row by row: the mean over all target tokens."""
    tokenizer, rows = predict_on_processes.tokenizer_and_rows()
    losses = {}
    for name, build in predict_on_processes.MODELS.items():
        model = build(len(tokenizer)).eval()
        counts = [len(row["labels"]) for row in rows]
        sums = [
            count * model(**{key: torch.tensor([ids]) for key, ids in row.items()}).loss.item()
            for count, row in zip(counts, rows, strict=True)
        ]
        for num_rows in predict_on_processes.NUM_ROWS:
            loss = sum(sums[:num_rows]) / sum(counts[:num_rows])
            losses |= {f"{name}, {num_rows} rows, {way}": loss for way in ("evaluate", "predict")}
    return losses


def test_every_row_comes_back_once_and_in_order(tmp_path):
    assert predict_on_processes.all_predictions(str(tmp_path)) == EXPECTED


def test_every_row_comes_back_once_and_in_order_from_two_processes(from_two_processes):
    assert from_two_processes["texts"] == EXPECTED


def test_loss_is_the_mean_over_target_tokens(tmp_path):
    assert predict_on_processes.all_losses(str(tmp_path)) == pytest.approx(expected_losses(), rel=1e-5)


def test_loss_is_the_mean_over_target_tokens_of_two_processes(from_two_processes):
    assert from_two_processes["losses"] == pytest.approx(expected_losses(), rel=1e-5)


def test_ignored_positions_and_repeated_rows_reach_no_decoder():
    tokenizer = train_tokenizer(TEXTS, 280)
    ids = tokenizer(["See", "die große grüne Wiese am See"])["input_ids"]
    rows = SortedRows(Dataset.from_dict({"input_ids": ids}))
    length = max(len(row) for row in ids) + 2
    # The longer row comes first; two rows repeat it to fill the last batch.
    generated = np.full((4, length), -100)
    for row, source in zip(generated, (ids[1], ids[0], ids[1], ids[1]), strict=True):
        row[: len(source)] = source
    assert rows.texts(generated, tokenizer) == ["See", "die große grüne Wiese am See"]
    with pytest.raises(ValueError, match="`token_ids` must hold each of the 2 rows of the split, got 1: no row"):
        rows.texts(generated[:1], tokenizer)


def test_predictions_come_in_the_order_of_the_rows(tmp_path, tokenizer, rows):
    model = ours(tokenizer)
    trainer = trainer_for(model, tokenizer, rows, tmp_path, per_device_eval_batch_size=3, num_beams=2)
    model.generation_config.max_length = 8
    generation_config = model.generation_config.to_dict()
    texts, metrics = trainer.predict_texts(SortedRows(rows), "predict")
    expected = []
    for row in rows:
        generated = model.generate(torch.tensor([row["input_ids"]]), num_beams=2)
        expected.append(" ".join(tokenizer.decode(generated[0], skip_special_tokens=True).split()))
    assert texts == expected and len(set(texts)) > 1
    assert "predict_loss" in metrics
    assert model.generation_config.to_dict() == generation_config


def changed_by_evaluations(trainer) -> dict:
    """The values that an evaluation changes for a while."""
    model, args = trainer.model, trainer.args
    return {
        **{name: getattr(args, name) for name in ("average_tokens_across_devices", "dataloader_drop_last")},
        "compute_metrics": trainer.compute_metrics,
        "generation_config": model.generation_config,
        "native_amp": trainer.accelerator.native_amp,
        "is_prepared": model.__dict__.get("_is_accelerate_prepared", False),
    }


def test_failed_prediction_leaves_the_trainer_as_it_was(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path, eval_strategy="epoch")
    trainer.compute_metrics = lambda prediction: {}
    before = changed_by_evaluations(trainer)

    def fail(*arguments, **keywords):
        during = changed_by_evaluations(trainer)
        assert {name for name in before if during[name] is not before[name]} == {
            "average_tokens_across_devices",
            "compute_metrics",
            "generation_config",
            "is_prepared",
        }
        raise KeyError("on purpose")

    monkeypatch.setattr(trainer, "prediction_step", fail)
    with pytest.raises(KeyError, match="on purpose"):
        trainer.predict_texts(SortedRows(trainer.train_dataset), "predict")
    after = changed_by_evaluations(trainer)
    assert all(after[name] is before[name] for name in before)
