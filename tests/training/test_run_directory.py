# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A directory goes on with its own run and refuses any other."""

import os
import re

import pytest

from hf_attn.training import record_run, resume_or_refuse


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
        (tmp_path / f"checkpoint-{step}").mkdir()
    # Where it lies and how it is logged do not make another run.
    assert resume_or_refuse(tmp_path, {**values, "logging_steps": 5}) == str(tmp_path / "checkpoint-10")


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
