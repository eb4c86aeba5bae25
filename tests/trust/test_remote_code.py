# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Code that comes with a checkpoint runs where `trust_remote_code` is given, and nowhere else."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from hf_attn.cli import main as command
from hf_attn.generation import load_for_inference
from hf_attn.training import AdapterArguments, ModelArguments, RecipeTrainingArguments, load_model, load_tokenizer


CODE = """
from pathlib import Path

from transformers import BartConfig, BartForConditionalGeneration

Path({mark!r}).write_text("run")


class OtherConfig(BartConfig):
    model_type = "other"


class OtherModel(BartForConditionalGeneration):
    config_class = OtherConfig
"""


@pytest.fixture
def mark(tmp_path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def foreign(tmp_path, checkpoint, mark) -> Path:
    """A checkpoint of a family that is only known from the code beside it."""
    folder = shutil.copytree(checkpoint, tmp_path / "foreign")
    config = {"model_type": "other", "d_model": 16, "vocab_size": 270, "encoder_layers": 1, "decoder_layers": 1}
    config |= {"auto_map": {"AutoConfig": "code.OtherConfig", "AutoModelForSeq2SeqLM": "code.OtherModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer_config["auto_map"] = {"AutoTokenizer": ["code.OtherTokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return folder


@pytest.fixture
def training(tmp_path) -> RecipeTrainingArguments:
    return RecipeTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True)


def test_recipes_need_the_flag(foreign, mark, tokenizer, training):
    with pytest.raises(
        ValueError, match=r"(?s)`model_name_or_path` .* contains custom code .* `trust_remote_code=True`"
    ):
        load_model(ModelArguments(model_name_or_path=str(foreign)), AdapterArguments(), training, tokenizer)
    load_tokenizer(ModelArguments(model_name_or_path=str(foreign)), [])
    assert not mark.exists()
    # With the flag it runs, and then lacks weights.
    trusting = ModelArguments(model_name_or_path=str(foreign), trust_remote_code=True)
    with pytest.raises(ValueError, match=r"does not hold the weights|cannot be loaded"):
        load_model(trusting, AdapterArguments(), training, tokenizer)
    assert mark.exists()


def test_the_command_line_does_not_take_a_line_of_input_for_consent(foreign, mark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\n"))
    with pytest.raises(SystemExit) as status:
        command(["generate", str(foreign)])
    assert status.value.code == 2
    assert "contains custom code" in capsys.readouterr().err
    assert not mark.exists()
    with pytest.raises(SystemExit):
        command(["generate", str(foreign), "--trust_remote_code"])
    assert mark.exists()


def test_code_beside_our_own_family_is_not_run(tmp_path, checkpoint, mark):
    folder = shutil.copytree(checkpoint, tmp_path / "ours")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.OtherConfig", "AutoModelForSeq2SeqLM": "code.OtherModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    load_for_inference(str(folder))
    assert not mark.exists()
