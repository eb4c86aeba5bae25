# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A training that is stopped and resumed equals an unbroken one bit for bit; SIGTERM stops it."""

import signal

import pytest
from transformers import TrainerCallback

from hf_attn.training import last_checkpoint
from tests.training.tiny_training import NUM_STEPS, SignalAfter, assert_equal_outcomes, build_trainer, outcome


CASES = {
    "token_buckets": {"tokens_per_batch": 60},
    # A second pass over the rows begins within an update.
    "streaming": {"streaming": True, "max_steps": NUM_STEPS, "per_device_train_batch_size": 3},
    "evaluated": {"eval_strategy": "epoch", "logging_strategy": "epoch"},
}
SLOW_CASES = {
    "random": {},
    "by_length": {"train_sampling_strategy": "group_by_length"},
    "lora": {"lora": True},
    "lstm_by_workers": {"model": "lstm", "dataloader_num_workers": 1},
    "hybrid": {"model": "hybrid", "tokens_per_batch": 60, "eval_strategy": "steps", "eval_steps": 4},
}
# At the end of an epoch, where another is evaluated; in the middle of a later one.
STOPS = (5, 8)


def run_in_parts(folder, stops, **arguments):
    """Trains with a stop after each of some steps; returns the last trainer, and the batches of all."""
    seen = []
    for stop in stops:
        trainer = build_trainer(folder, **arguments)
        trainer.add_callback(SignalAfter(stop))
        with pytest.raises(SystemExit) as ended:
            trainer.train(last_checkpoint(folder))
        assert ended.value.code == 128 + signal.SIGTERM
        assert trainer.state.global_step == stop
        seen += trainer.seen
    trainer = build_trainer(folder, **arguments)
    trainer.train(last_checkpoint(folder))
    return trainer, seen + trainer.seen


@pytest.mark.parametrize(
    "arguments",
    [*CASES.values(), *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES.values())],
    ids=[*CASES, *SLOW_CASES],
)
def test_stopped_run_equals_an_unbroken_one(tmp_path, arguments):
    whole = build_trainer(tmp_path / "whole", **arguments)
    whole.train()
    parts, seen = run_in_parts(tmp_path / "parts", STOPS, **arguments)
    assert seen == whole.seen
    assert_equal_outcomes(outcome(parts), outcome(whole))
    assert len(outcome(whole)["history"]) >= 3


@pytest.mark.slow
def test_stopped_at_any_step(tmp_path):
    whole = build_trainer(tmp_path / "whole", tokens_per_batch=60)
    whole.train()
    for stop in range(1, whole.state.global_step):
        parts, _ = run_in_parts(tmp_path / f"stop-{stop}", [stop], tokens_per_batch=60)
        assert_equal_outcomes(outcome(parts), outcome(whole))


def test_mean_loss_is_that_of_the_whole_run(tmp_path):
    whole = build_trainer(tmp_path / "whole").train().training_loss
    parts, _ = run_in_parts(tmp_path / "parts", [7])
    assert parts.state.log_history[-1]["train_loss"] == pytest.approx(whole, rel=1e-12)


def test_run_that_had_ended_trains_no_further(tmp_path):
    # Within an epoch, where `Trainer` would go on.
    whole = build_trainer(tmp_path, max_steps=7)
    whole.train()
    again = build_trainer(tmp_path, max_steps=7)
    again.train(last_checkpoint(tmp_path))
    assert again.state.global_step == 7
    assert not hasattr(again, "seen")
    assert_equal_outcomes(outcome(again), outcome(whole))


def test_patience_goes_on_after_a_resume(tmp_path):
    patience = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 20, "learning_rate": 0.0}
    patience |= {"early_stopping_patience": 2, "metric_for_best_model": "loss", "greater_is_better": False}
    whole = build_trainer(tmp_path / "whole", **patience)
    whole.train()
    # The first epoch is the best, and two more are no better.
    assert whole.state.global_step == 3 * 5
    assert whole.state.best_model_checkpoint == str(tmp_path / "whole" / "checkpoint-5")
    parts, _ = run_in_parts(tmp_path / "parts", [13], **patience)
    assert_equal_outcomes(outcome(parts), outcome(whole))
    # Killed after the last checkpoint: patience had ended the run.
    again = build_trainer(tmp_path / "parts", **patience)
    again.train(last_checkpoint(tmp_path / "parts"))
    assert again.state.global_step == 3 * 5


def test_library_checkpoints_at_sigterm_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`enable_jit_checkpoint` must be false, got True: SIGTERM always saves"):
        build_trainer(tmp_path, enable_jit_checkpoint=True)


def test_signal_is_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    class Failing(TrainerCallback):
        def on_step_end(self, *arguments, **keywords) -> None:
            raise KeyError("on purpose")

    trainer = build_trainer(tmp_path)
    trainer.add_callback(Failing())
    with pytest.raises(KeyError, match="on purpose"):
        trainer.train()
    assert signal.getsignal(signal.SIGTERM) is before
