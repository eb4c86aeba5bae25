# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The NaN guard: a loss that is not finite stops the training, naming rows and layer, or leaves its update out."""

import pytest
import torch
from torch import nn

from hf_attn.training import RecipeTrainingArguments, first_nonfinite_layer
from tests.training.tiny_training import build_trainer


BROKEN_LAYER = "model.encoder.layers.1.feed_forward.fc1"


def break_layer(trainer, step: int):
    """One layer returns NaN for the second batch of the update after `step`; returns that batch's row numbers."""
    rows = {tuple(row): number for number, row in enumerate(trainer.train_dataset["input_ids"])}
    broken = []
    layer = trainer.model.get_submodule(BROKEN_LAYER)

    def damage(module, inputs, output):
        if trainer.state.global_step == step and len(trainer.seen) == 2 * step + 2:
            broken[:] = trainer.seen[-1]
            return output * float("nan")
        return None

    layer.register_forward_hook(damage)
    pad = trainer.processing_class.pad_token_id
    return lambda: sorted(rows[tuple(token for token in row if token != pad)] for row in broken)


def test_training_stops_and_says_where(tmp_path):
    trainer = build_trainer(tmp_path, save_steps=3)
    broken_rows = break_layer(trainer, step=6)
    before = {}
    trainer.callback_handler.callbacks[0].on_step_end, default = (
        lambda args, state, control, **keywords: (
            before.update({name: value.clone() for name, value in trainer.model.named_parameters()}),
            default(args, state, control, **keywords),
        )[1],
        trainer.callback_handler.callbacks[0].on_step_end,
    )
    with pytest.raises(FloatingPointError) as stopped:
        trainer.train()
    message = str(stopped.value)
    assert message.startswith("Step 7: the loss is nan on process 0, for rows ")
    assert f"for rows {', '.join(map(str, broken_rows()))} of the training set; the output of" in message
    assert f"the output of `{BROKEN_LAYER}` is the first that is not finite." in message
    assert f"The weights are as they were before. The last good checkpoint is {str(tmp_path / 'checkpoint-6')!r}." in (
        message
    )
    assert "`nonfinite_loss`='skip' leaves such updates out" in message
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_update_is_left_out_when_asked(tmp_path, caplog, monkeypatch):
    trainer = build_trainer(tmp_path, nonfinite_loss="skip", max_steps=4)
    break_layer(trainer, step=2)
    lines = []
    monkeypatch.setattr("hf_attn.training.trainer.nan_guard.logger.warning", lines.append)
    trainer.train()
    assert len(lines) == 1
    assert lines[0].startswith("Step 3: the loss is nan on process 0, for rows ")
    assert lines[0].endswith("This update is left out.")
    assert trainer.state.global_step == 4
    assert all(torch.isfinite(value).all() for value in trainer.model.parameters())


def test_first_layer_is_named():
    model = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2), "third": nn.Linear(2, 2)})
    whole = nn.Sequential(*model.values())
    assert first_nonfinite_layer(model, lambda: whole(torch.ones(1, 2))) is None
    assert first_nonfinite_layer(model, lambda: whole(torch.full((1, 2), float("inf")))) is not None
    handle = model["second"].register_forward_hook(lambda module, inputs, output: output / 0)
    assert first_nonfinite_layer(model, lambda: whole(torch.ones(1, 2))) in (
        "the output of `second`",
        "the output of `third`",
    )
    handle.remove()
    with torch.no_grad():
        model["third"].bias[0] = float("nan")
    assert first_nonfinite_layer(model, lambda: None) == "the weight `third.bias`"


def test_failed_look_at_the_layers_leaves_no_hooks():
    model = nn.ModuleDict({"first": nn.Linear(2, 2)})

    def fail():
        model["first"](torch.ones(1, 2))
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        first_nonfinite_layer(model, fail)
    assert not model["first"]._forward_hooks


def test_unknown_choice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`nonfinite_loss` must be 'stop' or 'skip', got 'ignore'"):
        RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, nonfinite_loss="ignore")
