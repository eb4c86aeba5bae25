# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Real runs with tokens in the environment, on the command line and in the YAML file: none is written anywhere."""

import importlib
import json
import logging
import sys
from pathlib import Path

import pytest

from tests.recipes.launching import RECIPES, SHAPE


TOKENS = {name: f"hf_{name}" + 24 * letter for name, letter in (("environment", "E"), ("flag", "F"), ("file", "Y"))}


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("translation")


def held_tokens(content: bytes) -> list[str]:
    return [name for name, token in TOKENS.items() if token.encode() in content]


@pytest.mark.parametrize("place", ["flag", "flag and value", "file"])
def test_no_token_is_written(recipe, tmp_path, monkeypatch, capfd, caplog, place):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, TOKENS["environment"])
    rows = "".join(json.dumps({"en": f"one {row}", "de": f"eins {row}"}) + "\n" for row in range(8))
    (tmp_path / "rows.jsonl").write_text(rows)
    run = tmp_path / "run"
    arguments = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE}", "--vocab_size=280", "--use_cpu"]
    arguments += [f"--train_file={tmp_path / 'rows.jsonl'}", f"--test_file={tmp_path / 'rows.jsonl'}", "--max_steps=2"]
    arguments += [f"--output_dir={run}", "--save_strategy=steps", "--save_steps=1", "--logging_steps=1"]
    if place == "file":
        config = tmp_path / "run.yaml"
        config.write_text(f"hub_token: {TOKENS['file']}\nlog_level: debug\n")
        arguments += ["--config", str(config)]
    else:
        arguments += [f"--hub_token={TOKENS['flag']}"] if place == "flag" else ["--hub_token", TOKENS["flag"]]
    # What the card shows as the command.
    monkeypatch.setattr(sys, "argv", ["recipes/translation.py", *arguments])
    with caplog.at_level(logging.DEBUG):
        recipe.main(arguments)
    written = [path for path in run.rglob("*") if path.is_file()]
    names = {path.relative_to(run).as_posix() for path in written}
    assert {"README.md", "run.json", "config.json", "training_args.bin", "checkpoint-2/trainer_state.json"} <= names
    assert {path.name: held for path in written if (held := held_tokens(path.read_bytes()))} == {}
    printed = capfd.readouterr()
    assert held_tokens((printed.out + printed.err + caplog.text).encode()) == []
    assert not [path for path in map(Path, names) if held_tokens(str(path).encode())]
