# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Each file of a checkpoint, an adapter and a run, cut off, damaged or altered, before it is loaded."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

from hf_attn.adapters import load_adapter
from hf_attn.generation import load_for_inference
from hf_attn.pipelines import Seq2SeqLoader
from hf_attn.training.reporting import write_results
from hf_attn.training.run_directory import resume_or_refuse
from hf_attn.training.trainer.checkpoints import checkpoint_error, last_checkpoint
from tests.fuzz.fuzzing import BROKEN_TEXTS, MANY, VALUES, altered, damaged, fuzz, many


CHECKPOINT_FILES = [
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
]
ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors", "base_fingerprint.json", "generation_config.json"]
RUN_FILES = ["run.json", "all_results.json", "checkpoint-2/checkpoint.json", "checkpoint-2/trainer_state.json"]


def contents(file: Path) -> st.SearchStrategy[bytes]:
    """What may have become of a file; tables of a header, the beginning of safetensors, count as json does."""
    whole = file.read_bytes()
    if file.suffix == ".safetensors":
        length = int.from_bytes(whole[:8], "little")
        header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]

        def with_header(text: bytes) -> bytes:
            return len(text).to_bytes(8, "little") + text + rest

        return damaged(whole) | altered(header).map(with_header)
    others = VALUES.map(lambda value: json.dumps(value).encode())
    return altered(json.loads(whole)) | damaged(whole) | BROKEN_TEXTS | others


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@many(slow=MANY // len(CHECKPOINT_FILES))
def test_checkpoint(examples, name, checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)

    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        model, tokenizer = load_for_inference(str(folder))
        assert model.get_input_embeddings().weight.shape[0] > 0 and len(tokenizer) > 0

    fuzz(check, contents(checkpoint / name), examples)


@pytest.mark.parametrize("name", ADAPTER_FILES)
@many(slow=2_000)
def test_adapter(examples, name, adapter, checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(adapter, folder)
    base, _ = load_for_inference(str(checkpoint))

    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        if name == "adapter_config.json":
            # The name of the base is part of what is read.
            Seq2SeqLoader.from_pretrained(str(folder))
        model = load_adapter(base, folder)
        model.unload()

    fuzz(check, contents(adapter / name), examples)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The small files of a run with one checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    state = {"global_step": 2, "epoch": 1.0, "best_model_checkpoint": None, "log_history": [{"loss": 1.0, "step": 2}]}
    files = {"run.json": {"learning_rate": 0.1, "train_file": "rows.jsonl"}, "all_results.json": {"predict_bleu": 1.0}}
    files["checkpoint-2/trainer_state.json"] = state
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    size = (folder / "checkpoint-2" / "trainer_state.json").stat().st_size
    (folder / "checkpoint-2" / "checkpoint.json").write_text(json.dumps({"bytes": {"trainer_state.json": size}}))
    return folder


@pytest.mark.parametrize("name", RUN_FILES)
@many(slow=MANY // len(RUN_FILES))
def test_run_directory(examples, name, run_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run_folder, folder)

    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        assert checkpoint_error(folder / "checkpoint-2") is None or last_checkpoint(folder) is None
        found = resume_or_refuse(folder, {"learning_rate": 0.1, "train_file": "rows.jsonl"})
        assert found in (None, str(folder / "checkpoint-2"))
        write_results(folder, {"predict_chrf": 2.0})

    fuzz(check, contents(run_folder / name), examples)
