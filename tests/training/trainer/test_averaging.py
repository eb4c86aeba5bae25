# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The mean of the last checkpoints, and its way into a model."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import MarianConfig, MarianMTModel

from hf_attn.training import average_checkpoints
from hf_attn.training.trainer.averaging import load_weights
from tests.training.tiny_training import build_trainer


def write_checkpoint(folder, step: int, value: float) -> None:
    directory = folder / f"checkpoint-{step}"
    directory.mkdir()
    tensors = {"weight": torch.full((2,), value, dtype=torch.bfloat16), "count": torch.tensor([step])}
    save_file(tensors, directory / "model.safetensors")


def test_last_ones_by_step_not_by_name(tmp_path):
    for step, value in ((2, 100.0), (9, 1.0), (10, 2.0), (100, 6.0)):
        write_checkpoint(tmp_path, step, value)
    mean = average_checkpoints(tmp_path, 3)
    assert mean["weight"].tolist() == [3.0, 3.0] and mean["weight"].dtype == torch.bfloat16
    assert mean["count"].tolist() == [100]


def test_too_few_checkpoints(tmp_path):
    write_checkpoint(tmp_path, 1, 1.0)
    with pytest.raises(ValueError, match=r"`average_checkpoints`=2 needs as many checkpoints, .* has 1"):
        average_checkpoints(tmp_path, 2)


@pytest.mark.parametrize(
    ("options", "planned"),
    [({"save_strategy": "epoch"}, 3), ({"save_strategy": "steps", "save_steps": 8}, 2)],
)
def test_too_few_checkpoints_to_come(tmp_path, options, planned):
    trainer = build_trainer(tmp_path, average_checkpoints=4, **options)
    message = f"`average_checkpoints`=4 needs as many checkpoints, the training will save {planned}: save more often"
    with pytest.raises(ValueError, match=message):
        trainer.train_and_save()
    assert not hasattr(trainer, "seen")


def test_checkpoint_without_safetensors(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ValueError, match="holds no weights in safetensors"):
        average_checkpoints(tmp_path, 1)


@pytest.fixture
def marian() -> MarianMTModel:
    config = MarianConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    return MarianMTModel(config)


def test_tied_and_fixed_weights_may_be_missing(tmp_path, marian):
    marian.save_pretrained(tmp_path / "checkpoint-1")
    expected = {name: tensor.clone() for name, tensor in marian.state_dict().items()}
    for parameter in marian.parameters():
        if parameter.requires_grad:
            nn.init.zeros_(parameter)
    load_weights(marian, average_checkpoints(tmp_path, 1))
    for name, tensor in marian.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_foreign_weights_are_refused(marian):
    with pytest.raises(ValueError, match=r"do not fit the model: unexpected \['nowhere'\], missing"):
        load_weights(marian, {"nowhere": torch.zeros(1)})
