# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Deterministic mode gives equal bits twice: for every combination of layers, and for a recipe as a whole."""

import importlib
import json
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.launching import RECIPES, SHAPE
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def deterministic(monkeypatch) -> Iterator[None]:
    """Operations that cannot repeat raise an error; afterwards all is as before."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def trained(name: str, device: str) -> dict[str, torch.Tensor]:
    config = tiny_config(**{"dropout": 0.1, **MATRIX[name]})
    model = tiny_model(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(3)
    for seed in range(4):
        batch = {key: tensor.to(device) for key, tensor in tiny_batch(config, seed=seed).items()}
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return {key: tensor.cpu() for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MATRIX)
def test_training_twice(name, device, deterministic):
    first, second = trained(name, device), trained(name, device)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_a_recipe_twice(tmp_path, monkeypatch, lora):
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("translation")
    rows = "".join(json.dumps({"en": f"one {row} two", "de": f"eins {row} zwei"}) + "\n" for row in range(24))
    (tmp_path / "rows.jsonl").write_text(rows)
    fresh = ["--model_config=hybrid_tiny", f"--config_overrides={SHAPE},dropout=0.2", "--vocab_size=280"]
    arguments = ["--use_cpu", "--full_determinism", "--max_steps=6", "--tokens_per_batch=120", "--learning_rate=0.01"]
    arguments += [
        f"--train_file={tmp_path / 'rows.jsonl'}",
        f"--test_file={tmp_path / 'rows.jsonl'}",
        "--save_strategy=no",
    ]
    weights = []
    try:
        if lora:
            base = tmp_path / "base"
            recipe.main([*fresh, *arguments, f"--output_dir={base}"])
            arguments += [f"--model_name_or_path={base}", "--lora", "--lora_dropout=0.2"]
            arguments += ["--lora_target_modules=all-linear"]
        else:
            arguments += fresh
        for run in ("first", "second"):
            recipe.main([*arguments, f"--output_dir={tmp_path / run}"])
            name = "adapter_model.safetensors" if lora else "model.safetensors"
            weights.append(load_file(tmp_path / run / name))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    first, second = ((tmp_path / run / "generated_predictions.txt").read_bytes() for run in ("first", "second"))
    assert first == second
