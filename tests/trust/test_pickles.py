# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A pickle is refused with the reason, wherever weights are loaded, and is not opened to find out what it holds."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import pipeline

from hf_attn.adapters import load_adapter
from hf_attn.cli import main as command
from hf_attn.generation import load_for_inference
from hf_attn.training import AdapterArguments, ModelArguments, RecipeTrainingArguments, load_model
from tests.hub.hub_server import Hub, Repository


REASON = "A pickle can run any code when it is read, so weights are loaded from safetensors alone"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "sprung")


@pytest.fixture
def mark(tmp_path) -> Path:
    return tmp_path / "mark"


def put_trap(folder: Path, safe: str, pickled: str, mark: Path) -> Path:
    (folder / safe).unlink()
    torch.save({"weight": Trap(mark)}, folder / pickled)
    with pytest.raises(Exception, match=r"weights_only|WeightsUnpickler"):
        torch.load(folder / pickled)
    assert not mark.exists()
    return folder


@pytest.fixture
def pickled(tmp_path, checkpoint, mark) -> Path:
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    return put_trap(folder, "model.safetensors", "pytorch_model.bin", mark)


@pytest.fixture
def pickled_adapter(tmp_path, adapter, mark) -> Path:
    folder = shutil.copytree(adapter, tmp_path / "pickled_adapter")
    return put_trap(folder, "adapter_model.safetensors", "adapter_model.bin", mark)


def test_a_trap_springs_where_nothing_is_checked(pickled, mark):
    torch.load(pickled / "pytorch_model.bin", weights_only=False)
    assert mark.exists()


def test_recipes(pickled, mark, tokenizer, tmp_path):
    training = RecipeTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
    arguments = ModelArguments(model_name_or_path=str(pickled))
    with pytest.raises(ValueError, match=rf"`model_name_or_path` .* as a pickle, pytorch_model\.bin\. {REASON}"):
        load_model(arguments, AdapterArguments(), training, tokenizer)
    assert not mark.exists()


def test_command_line(pickled, mark, capsys):
    with pytest.raises(SystemExit) as status:
        command(["generate", str(pickled)])
    assert status.value.code == 2
    assert "`MODEL`" in capsys.readouterr().err
    assert not mark.exists()


def test_pipelines(pickled, mark):
    with pytest.raises(ValueError, match=REASON):
        pipeline("attn-translation", model=str(pickled), device="cpu")
    assert not mark.exists()


def test_adapters(checkpoint, pickled_adapter, mark):
    model, _ = load_for_inference(str(checkpoint))
    with pytest.raises(ValueError, match=rf"`adapter` .* as a pickle, adapter_model\.bin\. {REASON}"):
        load_adapter(model, pickled_adapter)
    with pytest.raises(ValueError, match=REASON):
        load_for_inference(str(checkpoint), str(pickled_adapter))
    with pytest.raises(ValueError, match=REASON):
        pipeline("attn-translation", model=str(pickled_adapter), tokenizer=str(checkpoint), device="cpu")
    assert not mark.exists()


def test_several_files(tmp_path, checkpoint):
    folder = shutil.copytree(checkpoint, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    for number in (1, 2):
        (folder / f"pytorch_model-0000{number}-of-00002.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"as a pickle, pytorch_model\*\.bin\. {REASON}"):
        load_for_inference(str(folder))


def test_a_pickle_beside_safetensors_is_left_alone(tmp_path, checkpoint, mark):
    folder = shutil.copytree(checkpoint, tmp_path / "both")
    torch.save({"weight": Trap(mark)}, folder / "pytorch_model.bin")
    load_for_inference(str(folder))
    assert not mark.exists()


def test_from_the_hub(pickled, mark, monkeypatch):
    with Hub() as server:
        files = {path.name: path.read_bytes() for path in pickled.iterdir()}
        server.repositories["ann/pickled"] = Repository(files=files)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patched = {"ENDPOINT": server.endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
        for name, value in patched.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")
        with pytest.raises(ValueError, match=rf"`MODEL` 'ann/pickled' holds no weights in safetensors\. {REASON}"):
            load_for_inference("ann/pickled")
    assert not mark.exists()
