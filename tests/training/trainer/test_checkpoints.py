# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints are whole or not there, whatever breaks."""

import errno
import json
import re
import resource

import pytest

from hf_attn.training import checkpoint_error, clear_incomplete, last_checkpoint
from hf_attn.training.trainer import checkpoints
from tests.training.tiny_training import build_trainer


def fake_checkpoint(output_dir, step: int, content: bytes = b"weights"):
    staged = output_dir / "_incomplete" / f"checkpoint-{step}"
    (staged / "shards").mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(content)
    (staged / "shards" / "0").write_bytes(content)
    checkpoints.publish_checkpoint(staged, output_dir / staged.name)
    return output_dir / staged.name


def test_whole_checkpoint_has_its_sizes(tmp_path):
    checkpoint = fake_checkpoint(tmp_path, 5)
    assert checkpoint_error(checkpoint) is None
    manifest = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    assert manifest == {"bytes": {"model.safetensors": 7, "shards/0": 7}}
    assert last_checkpoint(tmp_path) == str(checkpoint)
    assert last_checkpoint(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / "checkpoint.json").unlink(), "it has no checkpoint.json, which is written last"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"we"), "model.safetensors has 2 of 7 bytes"),
        (lambda folder: (folder / "shards" / "0").unlink(), "shards/0 is missing"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"byt'), "its checkpoint.json cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"bytes": [1]}'), "its checkpoint.json cannot be"),
    ],
)
def test_damaged_checkpoint_is_skipped_with_a_line_in_the_log(tmp_path, caplog, monkeypatch, damage, error):
    monkeypatch.setattr("transformers.utils.logging._get_library_root_logger", lambda: None)
    good, bad = fake_checkpoint(tmp_path, 9), fake_checkpoint(tmp_path, 10)
    damage(bad)
    with caplog.at_level("WARNING", logger="hf_attn"):
        assert last_checkpoint(tmp_path) == str(good)
    assert f"checkpoint-10 is not whole and skipped: {error}" in caplog.text
    clear_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_damaged-checkpoint-10", "checkpoint-9"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    good = fake_checkpoint(tmp_path, 9)
    (tmp_path / "_incomplete" / "checkpoint-10").mkdir(parents=True)
    (tmp_path / "_incomplete" / "checkpoint-10" / "model.safetensors").write_bytes(b"we")
    assert last_checkpoint(tmp_path) == str(good)
    clear_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-9"]


def test_checkpoint_of_the_same_step_is_replaced(tmp_path):
    fake_checkpoint(tmp_path, 5)
    checkpoint = fake_checkpoint(tmp_path, 5, b"other weights")
    assert (checkpoint / "model.safetensors").read_bytes() == b"other weights"
    assert checkpoint_error(checkpoint) is None
    assert not (tmp_path / "_incomplete").exists()


def test_text_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    checkpoints.write_text_whole(file, "first")

    def disk_is_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.write_text_whole(file, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert file.read_text(encoding="utf-8") == "first"


def test_last_checkpoint_stays_until_the_next_is_whole(tmp_path, monkeypatch):
    """At every moment of a training with one checkpoint at a time there is a whole one."""
    publish, seen = checkpoints.publish_checkpoint, []

    def watched(staged, checkpoint):
        seen.append(last_checkpoint(tmp_path))
        publish(staged, checkpoint)
        seen.append(last_checkpoint(tmp_path))

    monkeypatch.setattr("hf_attn.training.trainer.saving.publish_checkpoint", watched)
    build_trainer(tmp_path, max_steps=3, save_steps=1, save_total_limit=1).train()
    names = [str(tmp_path / f"checkpoint-{step}") for step in (1, 2, 3)]
    assert seen == [None, names[0], names[0], names[1], names[1], names[2]]
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-3"]


def test_full_disk_says_so_and_leaves_nothing(tmp_path):
    build_trainer(tmp_path, max_steps=2, save_steps=1).train()
    trainer = build_trainer(tmp_path, max_steps=4, save_steps=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    last = tmp_path / "checkpoint-2"
    message = (
        f"The checkpoint of step 3 could not be written in {str(tmp_path)!r}: .*Nothing of it is left; the last good "
        f"one is {str(last)!r}. Make room or mend the directory, and start the same command again."
    )
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"] = False
    text = json.dumps(state)
    (last / "trainer_state.json").write_text(text, encoding="utf-8")
    manifest = json.loads((last / "checkpoint.json").read_text(encoding="utf-8"))
    manifest["bytes"]["trainer_state.json"] = len(text.encode())
    (last / "checkpoint.json").write_text(json.dumps(manifest), encoding="utf-8")
    # No file may grow beyond half of the weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((last / "model.safetensors").stat().st_size // 2, hard))
    try:
        with pytest.raises(OSError, match=message):
            trainer.train(str(last))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert checkpoint_error(last) is None


def test_damaged_checkpoint_is_not_resumed(tmp_path):
    checkpoint = fake_checkpoint(tmp_path, 5)
    (checkpoint / "model.safetensors").write_bytes(b"")
    message = (
        f"`resume_from_checkpoint` {str(checkpoint)!r} is not a whole checkpoint: model.safetensors has 0 of 7 bytes"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build_trainer(tmp_path).train(str(checkpoint))
