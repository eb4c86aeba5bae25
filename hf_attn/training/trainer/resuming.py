# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A trainer that can be stopped at any step, and killed at any moment, and goes on as if nothing had happened."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from datasets import IterableDataset
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig, LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, rotate_checkpoints
from transformers.utils import logging

from ...data import BatchEpochCallback
from .checkpoints import (
    LOSSES_FILE,
    STAGING_FOLDER,
    check_whole,
    clear_incomplete,
    last_checkpoint,
    publish_checkpoint,
    read_json,
)


logger = logging.get_logger(__name__)

_STATE_FILE = "trainer_state.json"


class ResumingTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` that resumes exactly, from checkpoints that are whole or not there.

    On CPU losses, order of the samples and weights of a run in parts are those of an unbroken run bit for bit. What
    the parent lacks for that:

    - The order of the samples is a function of seed and epoch for every sampler, and set after a resume under several
      processes too. The parent's `group_by_length` draws it from the generator that dropout uses.
    - Losses since the last line of the log go into the checkpoint, and callbacks get their state back.
    - A checkpoint due at the last step of an epoch is written after what else is due at the end of the epoch.
    - A run that had ended does not train another step.
    - Streamed rows repeat endlessly and each process reads its own; the parent loses the place in a second pass, and
      has the main process read for all, in batches that must be of one length.

    Checkpoints appear as `checkpoints` tells. SIGTERM, to one process or to all, makes the run save a checkpoint after
    its current step, on all processes, and end with status 143.

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
        self._is_staging = False
        self._got_sigterm = False
        self._ends_by_sigterm = False

    def create_accelerator_and_postprocess(self) -> None:
        """The parent's; every process reads its own rows of a stream."""
        config = cast(AcceleratorConfig, self.args.accelerator_config)
        if config.dispatch_batches is None:
            config.dispatch_batches = False
        super().create_accelerator_and_postprocess()

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **keywords: Any) -> TrainOutput:
        """
        The parent's training.

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
        handler = self._handle_sigterm()
        try:
            output = super().train(resume_from_checkpoint, *arguments, **keywords)
        finally:
            if handler is not None:
                signal.signal(signal.SIGTERM, handler)
        if self._ends_by_sigterm:
            logger.warning(
                f"Ended by SIGTERM after step {self.state.global_step}, with a checkpoint: the same command goes on."
            )
            raise SystemExit(128 + signal.SIGTERM)
        return output

    def _handle_sigterm(self) -> Any:
        """Take SIGTERM; returns what took it before, or `None` where a thread trains, which gets no signals."""
        if threading.current_thread() is not threading.main_thread():
            return None

        def note(number: int, frame: FrameType | None) -> None:
            self._got_sigterm = True

        return signal.signal(signal.SIGTERM, note) or signal.SIG_DFL

    def stops_by_sigterm(self) -> bool:
        """Whether any process got SIGTERM; for all of them at once."""
        if self.args.world_size == 1:
            return self._got_sigterm
        flag = torch.tensor([int(self._got_sigterm)], device=self.args.device)
        return bool(self.accelerator.gather(flag).any())

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """The parent's; a run that had ended has no epoch left."""
        num_train_epochs, *rest = super().set_initial_training_values(args, dataloader)
        return (0 if self._had_ended else num_train_epochs, *rest)

    def restore_losses(self) -> None:
        """Take up the losses since the last line of the log from the checkpoint that is resumed."""
        if self._checkpoint is None:
            return
        losses = read_json(Path(self._checkpoint) / LOSSES_FILE)
        parts = losses["since_log"]
        if len(parts) != self.args.world_size:
            logger.warning(
                f"{self._checkpoint} was written by {len(parts)} processes and goes on with {self.args.world_size}: "
                "what dropout draws, and without `tokens_per_update` batches, are others than in an unbroken run."
            )
            parts = [sum(parts) / len(parts)] * self.args.world_size
        self._tr_loss += parts[self.args.process_index]
        self._total_loss_scalar = losses["logged"]
        self._globalstep_last_logged = losses["last_logged_step"]

    def _finalize_training(self, *arguments: Any, **keywords: Any) -> TrainOutput:
        """The parent's, but `train_loss` is the mean over all steps and all processes of the run."""
        steps = self.state.global_step
        share = (steps - self._initial_global_step) / steps if steps else 1.0
        since_log = self.accelerator.reduce(self._tr_loss, reduction="mean").item()
        self._total_loss_scalar = (self._total_loss_scalar + since_log) * share
        self._tr_loss.zero_()
        return super()._finalize_training(*arguments, **keywords)

    def get_train_dataloader(self) -> DataLoader:
        """The parent's, whose samplers get the epoch whatever lies around them."""
        loader = super().get_train_dataloader()
        for sampler in samplers_by_epoch(loader):
            self.add_callback(BatchEpochCallback(sampler))
        return loader

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """The parent's; one that would draw from the generator of the training gets its own."""
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return _EpochSampler(sampler, self.args.seed if self.args.data_seed is None else self.args.data_seed)
        return sampler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The parent's; the tokenizer is saved as it was, whether this process or an earlier part encoded with it."""
        backend = getattr(self.processing_class, "backend_tokenizer", None)
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The parent's; where FSDP2 has changed the model, with the code of its own class, and tied weights once."""
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        if state_dict is not None:
            state_dict = {name: weight for name, weight in state_dict.items() if tied.get(name) not in state_dict}
        spread = {module: type(module) for module in cast(nn.Module, self.model).modules() if _is_spread(module)}
        for module, spread_class in spread.items():
            module.__class__ = spread_class.__bases__[1]
        try:
            super()._save(output_dir, state_dict)
        finally:
            for module, spread_class in spread.items():
                module.__class__ = spread_class

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The parent's; under FSDP2 from safetensors where there are any: the parent stumbles over tied weights."""
        files = sorted(Path(resume_from_checkpoint).glob("model*.safetensors"))
        if not (self.is_fsdp_enabled and files):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        own_model = cast(nn.Module, self.model)
        options = StateDictOptions(full_state_dict=True, strict=False)
        for file in files:
            set_model_state_dict(own_model, cast(dict[str, Any], load_file(file)), options=options)

    def _load_best_model(self) -> None:
        """The parent's; a spread model as in a resume."""
        best = str(self.state.best_model_checkpoint)
        if self.is_fsdp_enabled and any(Path(best).glob("model*.safetensors")):
            self._load_from_checkpoint(best)
        else:
            super()._load_best_model()

    def _get_output_dir(self, trial: Any) -> str:
        """The parent's; while a checkpoint is written, a folder in it."""
        directory = super()._get_output_dir(trial)
        return os.path.join(directory, STAGING_FOLDER) if self._is_staging else directory

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """
        The parent's, written aside and then renamed, so that it is whole or not there.

        Raises:
            OSError: It cannot be written. Nothing of it is left, and the last one is as it was.
        """
        output_dir = Path(self._get_output_dir(trial))
        checkpoint = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged = output_dir / STAGING_FOLDER / checkpoint.name
        self._is_staging = True
        try:
            super()._save_checkpoint(model, trial)
            self._name_best_checkpoint(output_dir)
            self._save_losses(staged)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.state.save_to_json(str(staged / _STATE_FILE))
                publish_checkpoint(staged, checkpoint)
        except (OSError, RuntimeError, SafetensorError) as error:
            self._give_up(staged, error)
        finally:
            self._is_staging = False
        if self.args.should_save:
            rotate_checkpoints(
                str(output_dir),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))

    def _name_best_checkpoint(self, output_dir: Path) -> None:
        """Call the best checkpoint by the name that it will have; the parent looked for it where it is written."""
        step = self.state.best_global_step
        if step:
            best = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"
            if step == self.state.global_step or best.is_dir():
                self.state.best_model_checkpoint = str(best)

    def _save_losses(self, staged: Path) -> None:
        since_log = self.accelerator.gather(self._tr_loss.detach().reshape(1)).tolist()
        if self.args.should_save:
            losses = {
                "since_log": since_log,
                "logged": self._total_loss_scalar,
                "last_logged_step": self._globalstep_last_logged,
            }
            (staged / LOSSES_FILE).write_text(json.dumps(losses) + "\n", encoding="utf-8")

    def _give_up(self, staged: Path, error: Exception) -> None:
        if self.args.should_save:
            shutil.rmtree(staged.parent, ignore_errors=True)
        output_dir = staged.parent.parent
        last = last_checkpoint(output_dir)
        raise OSError(
            f"The checkpoint of step {self.state.global_step} could not be written in {str(output_dir)!r}: "
            f"{str(error) or type(error).__name__}. Nothing of it is left; "
            + (f"the last good one is {last!r}. " if last else "there is no earlier one. ")
            + "Make room or mend the directory, and start the same command again."
        ) from error

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """The parent's, once the checkpoint has its name."""
        if not self._is_staging:
            super()._push_from_checkpoint(checkpoint_folder)


class _StopCallback(TrainerCallback):
    """Decides after every step whether to save, for a `ResumingTrainer`."""

    def __init__(self, trainer: ResumingTrainer):
        self.trainer = trainer
        self._saves_at_epoch_end = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._saves_at_epoch_end = False
        self.trainer.restore_losses()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        control.should_save = control.should_save or self.trainer.stops_by_sigterm()
        # What is due at the end of the epoch would be left out after a resume from here.
        if control.should_save and (float(state.epoch or 0).is_integer() or control.should_training_stop):
            control.should_save = False
            self._saves_at_epoch_end = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        control.should_save = control.should_save or self._saves_at_epoch_end
        self._saves_at_epoch_end = False
        if self.trainer._ends_by_sigterm:
            # The epoch has not ended.
            control.should_log = control.should_evaluate = control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
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

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0, whose order the next iteration has."""
        self.epoch = epoch


def samplers_by_epoch(loader: DataLoader) -> list[Any]:
    """The samplers in a data loader, under what accelerate puts around them, that can be told the epoch."""
    found = []
    around = getattr(loader, "batch_sampler", None)
    while around is not None:
        found.append(around)
        inside = getattr(around, "batch_sampler", None)
        around = getattr(around, "sampler", None) if inside is None else inside
        if any(around is sampler for sampler in found):
            break
    return [sampler for sampler in found if hasattr(sampler, "set_epoch")]


def _is_spread(module: nn.Module) -> bool:
    """Whether FSDP2 made the class of a module of itself and the module's own."""
    bases = type(module).__bases__
    return len(bases) == 2 and bases[0] is FSDPModule


def _has_ended(checkpoint: str) -> bool:
    """Whether training was over, by its number of steps or early, when a checkpoint was written."""
    state = read_json(Path(checkpoint) / _STATE_FILE)
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop", False))
