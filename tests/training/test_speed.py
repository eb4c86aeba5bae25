# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The speed of a training: its tokens over the time that went into training, not into evaluations."""

import time

import pytest
from transformers import TrainerCallback

from tests.training.tiny_training import NUM_STEPS, build_trainer


PAUSE = 0.3  # seconds


class SlowEvaluation(TrainerCallback):
    """Each evaluation takes `PAUSE` longer."""

    num_evaluations = 0

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.num_evaluations += 1
        time.sleep(PAUSE)


def test_evaluations_do_not_count_as_training(tmp_path):
    trainer = build_trainer(tmp_path, eval_strategy="steps", eval_steps=5)
    slow = SlowEvaluation()
    trainer.add_callback(slow)
    metrics = trainer.train_and_save()
    assert slow.num_evaluations == NUM_STEPS / 5 == 3
    runtime, speed = metrics["train_runtime"], metrics["train_tokens_per_second"]
    num_tokens = 3 * sum(len(row["input_ids"]) + len(row["labels"]) for row in trainer.train_dataset)  # three epochs
    training_seconds = num_tokens / speed
    assert 0 < training_seconds < runtime - 3 * PAUSE
    # An evaluation after the training took nothing from it.
    trainer.evaluate()
    assert slow.num_evaluations == 4
    assert trainer.useful_tokens_per_second(runtime) == pytest.approx(speed)
