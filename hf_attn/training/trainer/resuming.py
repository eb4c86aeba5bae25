# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A trainer that can be stopped at any step, and killed at any moment, and goes on as if nothing had happened."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig, LengthGroupedSampler
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging
from typing_extensions import override

from ...data import BatchEpochCallback
from .checkpoints import LOSSES_FILE, STATE_FILE, check_whole, clear_incomplete, last_checkpoint, read_json


logger = logging.get_logger(__name__)


class ResumingTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` that resumes exactly, from the checkpoints of a `SavingTrainer`.

    On CPU losses, order of the samples and weights of a run in parts are those of an unbroken run bit for bit. What
    `Trainer` lacks for that:

    - The order of the samples is a function of seed and epoch for every sampler, and set after a resume under several
      processes too. `group_by_length` of `Trainer` draws it from the generator that dropout uses.
    - Losses since the last line of the log come from the checkpoint, and callbacks get their state back.
    - A checkpoint due at the last step of an epoch is written after what else is due at the end of the epoch.
    - A run that had ended does not train another step.
    - Streamed rows repeat endlessly and each process reads its own; `Trainer` loses the position in a second pass, and
      has the main process read for all, in batches that must be of one length.

    SIGTERM, to one process or to all, makes the run save a checkpoint after its current step, on all processes, and
    end with status 143.

    Raises:
        ValueError: `args.enable_jit_checkpoint` is set, whose checkpoints cannot be resumed exactly.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        if self.args.enable_jit_checkpoint:
            raise ValueError(
                "`enable_jit_checkpoint` must be false, got True: SIGTERM always saves a checkpoint here, between two "
                "steps and on all processes."
            )
        if isinstance(self.train_dataset, IterableDataset):
            self.train_dataset = self.train_dataset.repeat(None)
        self.args.restore_callback_states_from_checkpoint = True
        self.add_callback(_StopCallback(self))
        self._checkpoint: str | None = None
        self._had_ended = False
        self._got_sigterm = False
        self._ends_by_sigterm = False

    @override
    def create_accelerator_and_postprocess(self) -> None:
        """`Trainer.create_accelerator_and_postprocess`, with which every process reads its own rows of a stream."""
        config = cast(AcceleratorConfig, self.args.accelerator_config)
        if config.dispatch_batches is None:
            config.dispatch_batches = False
        super().create_accelerator_and_postprocess()

    @override
    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **keywords: Any) -> TrainOutput:
        """
        `Trainer.train`, from a whole checkpoint only, and until SIGTERM comes.

        Raises:
            ValueError: `resume_from_checkpoint` is not whole.
            SystemExit: SIGTERM came; a checkpoint is saved.
        """
        if isinstance(resume_from_checkpoint, str):
            check_whole(resume_from_checkpoint)
        if self.args.should_save:
            clear_incomplete(str(self.args.output_dir))
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(str(self.args.output_dir)) or True
        self._checkpoint = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        self._had_ended = self._checkpoint is not None and _has_ended(self._checkpoint)
        self._got_sigterm = self._ends_by_sigterm = False
        with self._noting_sigterm():
            output = super().train(resume_from_checkpoint, *arguments, **keywords)
        if self._ends_by_sigterm:
            logger.warning(
                f"Ended by SIGTERM after step {self.state.global_step}, with a checkpoint: the same command goes on."
            )
            raise SystemExit(128 + signal.SIGTERM)
        return output

    @contextmanager
    def _noting_sigterm(self) -> Iterator[None]:
        """A context in which SIGTERM is noted for `stops_by_sigterm`; not in a thread, which gets no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self._got_sigterm = True

        handler = signal.signal(signal.SIGTERM, note) or signal.SIG_DFL
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, handler)

    def stops_by_sigterm(self) -> bool:
        """Whether any process got SIGTERM; for all of them at once."""
        if self.args.world_size == 1:
            return self._got_sigterm
        flag = torch.tensor([int(self._got_sigterm)], device=self.args.device)
        return bool(self.accelerator.gather(flag).any())

    @override
    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """`Trainer.set_initial_training_values`, with no epoch left for a run that had ended."""
        num_train_epochs, *rest = super().set_initial_training_values(args, dataloader)
        return (0 if self._had_ended else num_train_epochs, *rest)

    def restore_losses(self) -> None:
        """Restores the losses since the last line of the log from the checkpoint that is resumed."""
        if self._checkpoint is None:
            return
        losses = read_json(Path(self._checkpoint) / LOSSES_FILE)
        by_process = losses["since_log"]
        if len(by_process) != self.args.world_size:
            logger.warning(
                f"{self._checkpoint} was written by {len(by_process)} processes and goes on with "
                f"{self.args.world_size}: what dropout draws, and without `tokens_per_update` batches, are others "
                "than in an unbroken run."
            )
            by_process = [sum(by_process) / len(by_process)] * self.args.world_size
        self._tr_loss += by_process[self.args.process_index]
        self._total_loss_scalar = losses["logged"]
        self._globalstep_last_logged = losses["last_logged_step"]

    @override
    def _finalize_training(self, *arguments: Any, **keywords: Any) -> TrainOutput:
        """`Trainer._finalize_training`, with the mean over all steps and processes of the run as `train_loss`."""
        steps = self.state.global_step
        share = (steps - self._initial_global_step) / steps if steps else 1.0
        since_log = self.accelerator.reduce(self._tr_loss, reduction="mean").item()
        self._total_loss_scalar = (self._total_loss_scalar + since_log) * share
        self._tr_loss.zero_()
        return super()._finalize_training(*arguments, **keywords)

    @override
    def get_train_dataloader(self) -> DataLoader:
        """`Trainer.get_train_dataloader`, whose samplers get the epoch under any wrappers."""
        loader = super().get_train_dataloader()
        for sampler in samplers_by_epoch(loader):
            self.add_callback(BatchEpochCallback(sampler))
        return loader

    @override
    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """`Trainer._get_train_sampler`; one that would draw from the generator of the training gets its own."""
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return _EpochSampler(sampler, self.args.seed if self.args.data_seed is None else self.args.data_seed)
        return sampler


class _StopCallback(TrainerCallback):
    """Decides after every step whether to save, for a `ResumingTrainer`."""

    def __init__(self, trainer: ResumingTrainer):
        self.trainer = trainer
        self._saves_at_epoch_end = False

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_train_begin`: restores the losses of the checkpoint."""
        self._saves_at_epoch_end = False
        self.trainer.restore_losses()

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_step_end`: saves where SIGTERM has come, at the last step of an epoch only after it."""
        control.should_save = control.should_save or self.trainer.stops_by_sigterm()
        # What is due at the end of the epoch would be left out after a resume from here.
        if control.should_save and (float(state.epoch or 0).is_integer() or control.should_training_stop):
            control.should_save = False
            self._saves_at_epoch_end = True

    @override
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_epoch_end`: saves where the last step put it off; does nothing after SIGTERM."""
        control.should_save = control.should_save or self._saves_at_epoch_end
        self._saves_at_epoch_end = False
        if self.trainer._ends_by_sigterm:
            # The epoch has not ended.
            control.should_log = control.should_evaluate = control.should_save = False

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """`TrainerCallback.on_save`: stops the training where SIGTERM has come."""
        # After the save: a checkpoint that says that training stops is that of a run that had ended.
        if self.trainer.stops_by_sigterm():
            self.trainer._ends_by_sigterm = True
            control.should_training_stop = True


class _EpochSampler(Sampler[int]):
    """A sampler whose order is a function of seed and epoch."""

    def __init__(self, sampler: Any, seed: int):
        self.sampler = sampler
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.sampler)

    @override
    def __iter__(self) -> Iterator[int]:
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0, whose order the next iteration has."""
        self.epoch = epoch


def samplers_by_epoch(loader: DataLoader) -> list[Any]:
    """The samplers in a data loader, under accelerate's wrappers, that have `set_epoch`."""
    found = []
    around = getattr(loader, "batch_sampler", None)
    while around is not None:
        found.append(around)
        inside = getattr(around, "batch_sampler", None)
        around = getattr(around, "sampler", None) if inside is None else inside
        if any(around is sampler for sampler in found):
            break
    return [sampler for sampler in found if hasattr(sampler, "set_epoch")]


def _has_ended(checkpoint: str) -> bool:
    """Whether training was over, by its number of steps or early, when a checkpoint was written."""
    state = read_json(Path(checkpoint) / STATE_FILE)
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop", False))
