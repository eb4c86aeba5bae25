# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of a training that appear whole or not at all, and models that are saved as they were loaded."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from typing_extensions import override

from .checkpoints import LOSSES_FILE, STAGING_FOLDER, STATE_FILE, last_checkpoint, publish_checkpoint
from .temporary import temporary_attributes


class SavingTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` that writes checkpoints as the module `checkpoints` describes, the losses since the last line of
    the log included; and that saves tokenizer and config without what the training changed in them.
    """

    # Whether a checkpoint is being written.
    _is_staging = False

    @override
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        `Trainer.save_model`, with the tokenizer as it was before it encoded anything, in this process or an earlier
        one, and with `use_cache` in the config, which `Trainer.__init__` switches off.
        """
        backend = getattr(self.processing_class, "backend_tokenizer", None)
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
        with temporary_attributes(self.accelerator.unwrap_model(self.model).config, use_cache=True):
            super().save_model(output_dir, _internal_call)

    @override
    def _get_output_dir(self, trial: Any) -> str:
        """`Trainer._get_output_dir`; while a checkpoint is written, a folder in it."""
        directory = super()._get_output_dir(trial)
        return os.path.join(directory, STAGING_FOLDER) if self._is_staging else directory

    @override
    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """
        `Trainer._save_checkpoint`, into another folder that is then renamed: a checkpoint is whole or not there.

        Raises:
            OSError: It cannot be written. Nothing of it is left, and the last one is as it was.
        """
        output_dir = Path(self._get_output_dir(trial))
        checkpoint = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged = output_dir / STAGING_FOLDER / checkpoint.name
        try:
            with temporary_attributes(self, _is_staging=True):
                super()._save_checkpoint(model, trial)
                self._name_best_checkpoint(output_dir)
                self._save_losses(staged)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self.state.save_to_json(str(staged / STATE_FILE))
                    publish_checkpoint(staged, checkpoint)
        except (OSError, RuntimeError, SafetensorError) as error:
            self._give_up(staged, error)
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
        """Names the best checkpoint as it will be called; `Trainer` looked for it in the folder of the writing."""
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

    @override
    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """`Trainer._push_from_checkpoint`, once the checkpoint has its name."""
        if not self._is_staging:
            super()._push_from_checkpoint(checkpoint_folder)
