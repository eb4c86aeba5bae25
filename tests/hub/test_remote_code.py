# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Save with the package, load in a clean process without it: the same numbers, adapters too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

import hf_attn
from hf_attn.modeling_stacks import AUTO_CLASSES
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


GENERATION = {"num_beams": 2, "max_new_tokens": 6}
CASES = [(name, "AutoModelForSeq2SeqLM") for name in MATRIX]
CASES += [("mixed", auto_class) for auto_class in AUTO_CLASSES if auto_class != "AutoModelForSeq2SeqLM"]
# Attention and recurrent targets of an adapter.
ADAPTED = ("full", "lstm", "ssru", "mixed")


def save_case(folder: Path, name: str, auto_class: str) -> dict[str, torch.Tensor]:
    """Writes a model, its task and perhaps an adapter; returns what must come out."""
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config, getattr(hf_attn, AUTO_CLASSES[auto_class]))
    batch = tiny_batch(config)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    task = {"auto_class": auto_class, "inputs": inputs, "generation": GENERATION}
    model.save_pretrained(folder / "model")
    expected = {"outputs": model(**inputs).to_tuple()[0]}
    expected["again"] = expected["outputs"]
    if auto_class == "AutoModelForSeq2SeqLM":
        expected["generated"] = task["generated"] = model.generate(**inputs, **GENERATION)
        if name in ADAPTED:
            adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2))
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.normal_()
            adapted.eval().save_pretrained(folder / "adapter")
            expected["adapted"] = expected["merged"] = adapted(**inputs).logits
            assert (expected["adapted"] - expected["outputs"]).abs().max() > 1e-3
    torch.save(task, folder / "task.pt")
    return expected


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the package computes, and what a process without it does, for each case."""
    root = tmp_path_factory.mktemp("checkpoints")
    expected = {}
    with torch.no_grad():
        for name, auto_class in CASES:
            folder = root / f"{name}-{auto_class}"
            folder.mkdir()
            expected[name, auto_class] = save_case(folder, name, auto_class)
    script = Path(__file__).with_name("load_without_package.py")
    finished = subprocess.run(
        [sys.executable, "-I", str(script), str(root)], cwd=root, capture_output=True, text=True, timeout=240
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return root, expected, {case: torch.load(root / "-".join(case) / "results.pt") for case in CASES}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_same_numbers_without_the_package(results, case):
    _, expected, actual = results
    assert set(actual[case]) == set(expected[case])
    for name, tensor in expected[case].items():
        torch.testing.assert_close(actual[case][name], tensor, atol=1e-5, rtol=1e-5, msg=f"{case}: {name}")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_checkpoint_holds_all_code_and_names_all_classes(results, case):
    root, _, _ = results
    package = Path(hf_attn.__file__).parent
    needed = {path.name for pattern in ("configuration_*.py", "modeling_*.py") for path in package.glob(pattern)}
    assert len(needed) > 10
    for saved in ("model", "again"):
        folder = root / "-".join(case) / saved
        assert {path.name for path in folder.glob("*.py")} == needed
        for name in needed:
            assert (folder / name).read_text() == (package / name).read_text()
        auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
        classes = {auto_class: f"modeling_hf_attn.{name}" for auto_class, name in AUTO_CLASSES.items()}
        assert auto_map == {"AutoConfig": "configuration_hf_attn.HfAttnConfig", **classes}
    assert len(AUTO_CLASSES) == 4


def test_local_code_is_preferred_where_the_package_is_imported(results):
    root, _, _ = results
    model = hf_attn.HfAttnForConditionalGeneration.from_pretrained(root / "full-AutoModelForSeq2SeqLM" / "model")
    assert type(model) is hf_attn.HfAttnForConditionalGeneration
