# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A directory goes on with its own run and refuses any other."""

import pytest

from hf_attn.training import resume_or_refuse


def test_new_run_is_written_down(tmp_path):
    directory = tmp_path / "new" / "run"
    assert resume_or_refuse(directory, {"seed": 1, "output_dir": "x"}) is None
    assert (directory / "run.json").read_text(encoding="utf-8") == '{\n  "seed": 1\n}\n'


def test_other_processes_write_nothing(tmp_path):
    assert resume_or_refuse(tmp_path / "run", {"seed": 1}, is_main_process=False) is None
    assert not (tmp_path / "run").exists()


def test_same_run_goes_on_from_its_last_checkpoint(tmp_path):
    values = {"seed": 1, "lora_target_modules": ("a", "b")}
    resume_or_refuse(tmp_path, values)
    assert resume_or_refuse(tmp_path, values) is None
    for step in (8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    # Where it lies and how it is logged do not make another run.
    assert resume_or_refuse(tmp_path, {**values, "logging_steps": 5}) == str(tmp_path / "checkpoint-10")


def test_different_run_is_refused_by_field(tmp_path):
    resume_or_refuse(tmp_path, {"seed": 1, "learning_rate": 0.1})
    message = (
        "already holds a different run: `learning_rate` was 0.1 and is its default; `lora` was its default and is "
        "True; `seed` was 1 and is 2. Choose another `output_dir`"
    )
    with pytest.raises(ValueError, match=message):
        resume_or_refuse(tmp_path, {"seed": 2, "lora": True})


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("...", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds files that no run of a recipe wrote: thesis\.tex"):
        resume_or_refuse(tmp_path, {})
