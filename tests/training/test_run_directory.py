# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A directory goes on with its own run and refuses any other."""

import os
import re

import pytest

from hf_attn.training import record_run, resume_or_refuse
from hf_attn.training.run_directory import fingerprint
from hf_attn.training.trainer.checkpoints import publish_checkpoint


def test_new_run_is_looked_at_without_writing_and_then_written_down(tmp_path):
    directory = tmp_path / "new" / "run"
    values = {"seed": 1, "output_dir": "x"}
    assert resume_or_refuse(directory, values) is None
    assert not directory.exists()
    record_run(directory, values)
    assert (directory / "run.json").read_text(encoding="utf-8") == '{\n  "seed": 1\n}\n'


def test_same_run_goes_on_from_its_last_checkpoint(tmp_path):
    values = {"seed": 1, "lora_target_modules": ("a", "b")}
    record_run(tmp_path, values)
    assert resume_or_refuse(tmp_path, values) is None
    for step in (8, 10):
        staged = tmp_path / "_incomplete" / f"checkpoint-{step}"
        staged.mkdir(parents=True)
        publish_checkpoint(staged, tmp_path / staged.name)
    # Where it lies and how it is logged do not make another run.
    assert resume_or_refuse(tmp_path, {**values, "logging_steps": 5}) == str(tmp_path / "checkpoint-10")
    (tmp_path / "checkpoint-10" / "checkpoint.json").unlink()
    assert resume_or_refuse(tmp_path, values) == str(tmp_path / "checkpoint-8")


def test_different_run_is_refused_by_field(tmp_path):
    record_run(tmp_path, {"seed": 1, "learning_rate": 0.1})
    message = (
        "already holds a different run: `learning_rate` was 0.1 and is its default; `lora` was its default and is "
        "True; `seed` was 1 and is 2. Choose another `output_dir`"
    )
    with pytest.raises(ValueError, match=message):
        resume_or_refuse(tmp_path, {"seed": 2, "lora": True})


def test_directories_that_cannot_be_written_to_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "thesis.tex"
    file.write_text("...", encoding="utf-8")
    message = f"`output_dir` {str(file / 'run')!r} cannot be made: {str(file)!r} is a file. Choose another."
    with pytest.raises(ValueError, match=re.escape(message)):
        resume_or_refuse(file / "run", {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    message = f"`output_dir` {str(tmp_path / 'a' / 'b')!r} needs the permission to write in {str(tmp_path)!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        resume_or_refuse(tmp_path / "a" / "b", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("...", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds files that no run of a recipe wrote: thesis\.tex"):
        resume_or_refuse(tmp_path, {})


def test_changed_data_is_refused(tmp_path):
    train_file, run = tmp_path / "train.jsonl", tmp_path / "run"
    train_file.write_text("a\nb\n", encoding="utf-8")
    values = {"train_file": str(train_file), "seed": 1}
    record_run(run, values)
    before = fingerprint(train_file)
    assert resume_or_refuse(run, values) is None
    train_file.write_text("a\nB\n", encoding="utf-8")
    message = (
        f"`output_dir` {str(run)!r} holds a run on data that has changed since: `train_file` {str(train_file)!r} was "
        f"{before} and is {fingerprint(train_file)}. Bring the old data back to go on, or choose another `output_dir`"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        resume_or_refuse(run, values)
    # Whoever reads it says that it is not there.
    train_file.unlink()
    assert resume_or_refuse(run, values) is None


def test_blocks_of_a_large_file_are_hashed(tmp_path, monkeypatch):
    file = tmp_path / "train.jsonl"
    file.write_bytes(bytes(5000))
    monkeypatch.setattr("hf_attn.training.run_directory._READ_WHOLE_BYTES", 4000)
    monkeypatch.setattr("hf_attn.training.run_directory._BLOCK_BYTES", 3)
    first = fingerprint(file)
    assert first.startswith("5000 bytes, sha256 ")
    for position in (0, 4999):
        content = bytearray(5000)
        content[position] = 1
        file.write_bytes(content)
        assert fingerprint(file) != first


def test_record_that_was_cut_off_is_named(tmp_path):
    (tmp_path / "run.json").write_text('{"seed', encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json' is not valid json: .* Choose another `output_dir`"):
        resume_or_refuse(tmp_path, {})


def test_run_killed_before_it_was_recorded_begins_again(tmp_path):
    (tmp_path / "_run.json.part").write_text("{", encoding="utf-8")
    assert resume_or_refuse(tmp_path, {}) is None
