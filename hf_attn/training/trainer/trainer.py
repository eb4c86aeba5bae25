# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The trainer of the recipes: `Seq2SeqTrainer` with all that the modules beside this one add to it."""

import os
from contextlib import suppress
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase

from ..arguments import RecipeTrainingArguments
from ..hardware import TrimHeapCallback, keep_freed_memory
from .averaging import EnoughCheckpointsCallback, average_checkpoints, load_weights
from .batches import TokenBudgetTrainer
from .evaluation import EvaluationTrainer
from .hub import HubTrainer
from .loss import TokenMeanLossTrainer
from .nan_guard import NanGuardTrainer
from .resuming import ResumingTrainer
from .saving import SavingTrainer
from .sharding import ShardingTrainer


class RecipeTrainer(
    TokenBudgetTrainer,
    TokenMeanLossTrainer,
    ResumingTrainer,
    SavingTrainer,
    ShardingTrainer,
    NanGuardTrainer,
    HubTrainer,
    EvaluationTrainer,
):
    """
    All that the recipes need beyond `Seq2SeqTrainer`; the loop and the schedule are its.

    Each base overrides what one concern needs; the methods here put them together.
    """

    args: RecipeTrainingArguments
    model: PreTrainedModel
    processing_class: PreTrainedTokenizerBase

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        if self.args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))
        if self.args.average_checkpoints:
            self.add_callback(EnoughCheckpointsCallback(self.args.average_checkpoints))
        if self.args.device.type == "cpu" and keep_freed_memory():
            self.add_callback(TrimHeapCallback())

    def train_and_save(self, checkpoint: str | None = None) -> dict[str, float]:
        """
        Trains, averages checkpoints where `args.average_checkpoints` says so, and saves the result.

        Args:
            checkpoint: The checkpoint to resume from.

        Returns:
            The metrics of the training, with `train_tokens_per_second`; empty where nothing was left to train.
        """
        try:
            metrics = self.train(resume_from_checkpoint=checkpoint).metrics
        except Exception:
            # `Trainer` made it; a training that is refused before its first step leaves nothing there.
            if self.args.should_save:
                with suppress(OSError):
                    os.rmdir(str(self.args.output_dir))
            raise
        if self.args.average_checkpoints:
            self.accelerator.wait_for_everyone()
            load_weights(self.model, average_checkpoints(str(self.args.output_dir), self.args.average_checkpoints))
        self._leave_autocast()
        if self.is_fsdp_enabled:
            # Checkpoints may be in shards; what came out is a model that `from_pretrained` loads.
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        self.save_model()
        self.save_state()
        if not isinstance(self._useful_tokens, torch.Tensor):
            return {}
        return metrics | {"train_tokens_per_second": self.useful_tokens_per_second(metrics["train_runtime"])}

    def _leave_autocast(self) -> None:
        """Restores the model's own forward, which mixed precision had replaced for the training."""
        model = self.accelerator.unwrap_model(self.model)
        own_forward = model.__dict__.pop("_original_forward", None)
        if own_forward is not None:
            del model.forward
            if model.forward != own_forward:
                model.forward = own_forward
        model._is_accelerate_prepared = False
        # DeepSpeed's engine gathers what is saved.
        if not self.is_deepspeed_enabled:
            self.model_wrapped = self.model
