# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A `Seq2SeqTrainer` with token-budget batches, a loss that no split of the batch changes, and a token count."""

import copy
import inspect
import os
import time
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import EvalLoopOutput, seed_worker, unwrap_peft_model
from transformers.utils import logging

from ...data import BatchEpochCallback, LengthBucketBatchSampler, source_target_lengths
from ...loading.sharded_weights import whole_weights
from ...tasks import CLASSIFICATION_HEAD, head_of
from ..arguments import RecipeTrainingArguments
from ..hardware import TrimHeapCallback, keep_freed_memory
from .averaging import EnoughCheckpointsCallback, average_checkpoints, load_weights
from .evaluation import OrderedEvaluationTrainer, SortedRows
from .finite import FiniteTrainer
from .hub import HubTrainer
from .resuming import ResumingTrainer


logger = logging.get_logger(__name__)


class RecipeTrainer(ResumingTrainer, FiniteTrainer, HubTrainer, OrderedEvaluationTrainer):
    """
    What the recipes need beyond `Seq2SeqTrainer`; the loop and the schedule are its.

    - `args.tokens_per_batch` replaces a fixed number of rows by `LengthBucketBatchSampler`.
    - The loss is the sum over target tokens divided by the tokens of the whole update, for any model. BART, Marian, T5
      and others of transformers take `num_items_in_batch` and ignore it, so that their loss and gradients grow with
      accumulation steps and processes; for those the mean of each part is weighted here.
    - Useful tokens, source and target without padding, are counted; `useful_tokens_per_second` leaves out the time of
      evaluations.
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
        self._useful_tokens: torch.Tensor | int = 0
        self._evaluation_seconds = 0.0
        own_model = unwrap_peft_model(self.accelerator.unwrap_model(self.model))
        if self.is_fsdp_enabled and own_model.config.tie_word_embeddings:
            # One module for the weight that encoder and decoder share: FSDP2 refuses it in two places.
            own_model.set_input_embeddings(own_model.get_input_embeddings())
        self._skips_logits = "skip_logits" in inspect.signature(own_model.forward).parameters
        has_own_loss = self.compute_loss_func is None
        self._weights_the_loss = has_own_loss and not divides_by_num_items(self.accelerator.unwrap_model(self.model))
        if self._weights_the_loss and self.label_smoother is None:
            logger.info(
                f"{type(self.model).__name__} ignores `num_items_in_batch`: its mean loss is weighted by the target "
                "tokens of each part, so that accumulation steps and processes do not change it."
            )

    def get_train_dataloader(self) -> DataLoader:
        """The parent's, or batches of at most `tokens_per_batch` tokens where that is set."""
        if self.args.tokens_per_batch is None:
            return super().get_train_dataloader()
        if self.train_dataset is None or not hasattr(self.train_dataset, "__len__"):
            raise ValueError(
                "`tokens_per_batch` sorts rows by length, which a streamed training set does not have. Drop "
                "`streaming`, or use `per_device_train_batch_size`."
            )
        dataset = self._remove_unused_columns(self.train_dataset, description="training")
        sampler = LengthBucketBatchSampler(
            source_target_lengths(dataset).tolist(),
            self.args.tokens_per_batch,
            batches_per_step=self.accelerator.num_processes * self.args.gradient_accumulation_steps,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            drop_last=self.args.dataloader_drop_last,
        )
        self.add_callback(BatchEpochCallback(sampler))
        logger.info(
            f"{len(sampler)} batches an epoch of at most {self.args.tokens_per_batch} tokens, of which "
            f"{100 * sampler.padding_share:.1f}% are padding."
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            ),
        )
        return self.accelerator.prepare(loader)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """The parent's loss; the mean of a model that ignores `num_items_in_batch` becomes its share of the update."""
        labels = inputs["labels"]
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        # The parent's label smoothing divides by `num_items_in_batch` itself.
        if self._weights_the_loss and self.label_smoother is None and num_items_in_batch is not None:
            loss = loss * (labels.ne(-100).sum() / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The parent's step, counting the batch's tokens."""
        self._useful_tokens = self._useful_tokens + inputs["attention_mask"].sum() + inputs["labels"].ne(-100).sum()
        if self._skips_logits:
            inputs["skip_logits"] = True
        return super().training_step(model, inputs, num_items_in_batch)

    def train_and_save(self, checkpoint: str | None = None) -> dict[str, float]:
        """
        Train, average checkpoints where `args.average_checkpoints` says so, and save what came out.

        Args:
            checkpoint: Where to resume from.

        Returns:
            The metrics of the training, with `train_tokens_per_second`; empty where nothing was left to train.
        """
        try:
            metrics = self.train(resume_from_checkpoint=checkpoint).metrics
        except Exception:
            # The parent made it; a training that is refused before its first step leaves nothing there.
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
        """Give the model its own forward back, which mixed precision had replaced for the training."""
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

    def predict_texts(self, rows: SortedRows, metric_key_prefix: str) -> tuple[list[str], dict[str, float]]:
        """
        Generate with `args.num_beams` beams.

        Args:
            rows: A tokenized split.
            metric_key_prefix: First part of the names of the metrics.

        Returns:
            One line a row, in the order of the rows before they were sorted; and the loss and the speed.
        """
        # The parent would score these rows against the validation set.
        during_training, self.compute_metrics = self.compute_metrics, None
        output = self.predict(rows.dataset, metric_key_prefix=metric_key_prefix, num_beams=self.args.num_beams)
        self.compute_metrics = during_training
        return rows.texts(output.predictions, self.processing_class), output.metrics or {}

    def evaluation_loop(self, *arguments: Any, **keywords: Any) -> EvalLoopOutput:
        """
        The parent's loop; outside training in the precision of the weights, so that scores are those of what is saved.

        The parent pads to `max_length`, and fills in its default of 20 where only `max_new_tokens` is set, which then
        contradicts it: the loop gets a copy of the generation config in which the limit is a `max_length`.
        """
        model = unwrap_peft_model(self.accelerator.unwrap_model(self.model))
        # A model with a task head has none.
        own_config = getattr(model, "generation_config", None)
        if own_config is not None:
            model.generation_config = copy.deepcopy(own_config)
            if own_config.max_new_tokens is not None:
                model.generation_config.max_length = own_config.max_new_tokens + 1
                model.generation_config.max_new_tokens = None
        has_autocast = self.accelerator.native_amp
        was_prepared = getattr(self.model, "_is_accelerate_prepared", False)
        self.accelerator.native_amp = has_autocast and self.is_in_train
        output = super().evaluation_loop(*arguments, **keywords)
        self.accelerator.native_amp = has_autocast
        # Prepared for an evaluation is not prepared for training: that brings autocast and several processes.
        self.model.__dict__["_is_accelerate_prepared"] = was_prepared
        if own_config is not None:
            model.generation_config = own_config
        return output

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """The parent's evaluation, timed."""
        start = time.perf_counter()
        metrics = super().evaluate(*arguments, **keywords)
        if self.is_in_train:
            self._evaluation_seconds += time.perf_counter() - start
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The parent's save; the config keeps `use_cache`, which the parent switches off for training."""
        config = self.accelerator.unwrap_model(self.model).config
        during_training, config.use_cache = config.use_cache, True
        super().save_model(output_dir, _internal_call)
        config.use_cache = during_training

    def useful_tokens_per_second(self, train_runtime: float) -> float:
        """
        Source and target tokens without padding that all processes trained on, a second.

        Args:
            train_runtime: Seconds of the training, evaluations included, as the parent reports them.
        """
        tokens = torch.as_tensor(self._useful_tokens, device=self.args.device).reshape(1)
        total = int(self.accelerator.gather(tokens).sum())
        return total / max(train_runtime - self._evaluation_seconds, 1e-9)


@torch.no_grad()
def divides_by_num_items(model: PreTrainedModel) -> bool:
    """
    Whether a model's loss is the sum over target tokens divided by the `num_items_in_batch` that it is given.

    Asked of the model itself: its loss on one token, or on one label of a classifier, is compared for
    `num_items_in_batch` 1 and 2.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return False
    was_training = model.training
    model.eval()
    own_model = unwrap_peft_model(model)
    # A classifier tells its config what labels mean by the first that it sees, which these are not.
    config, problem_type = own_model.config, getattr(own_model.config, "problem_type", None)
    is_classifier = head_of(own_model) is CLASSIFICATION_HEAD
    # Some classifiers look for the token that ends a text.
    token_id = (config.eos_token_id or 0) if is_classifier else config.decoder_start_token_id
    token = torch.full((1, 1), token_id, device=model.device)
    labels = _label_of(config, token.device) if is_classifier else token
    batch = {"input_ids": token, "attention_mask": torch.ones_like(token), "labels": labels}
    with whole_weights(model.parameters()):
        losses = [model(**batch, num_items_in_batch=count).loss.item() for count in (1, 2)]
    model.train(was_training)
    if is_classifier:
        config.problem_type = problem_type
    return abs(losses[0] - 2 * losses[1]) < 1e-3 * abs(losses[0])


def _label_of(config: PretrainedConfig, device: torch.device) -> torch.Tensor:
    """A label of one row for any classifier with this config: class 0, or 1.0 for each output."""
    num_labels = config.num_labels or 1
    if config.problem_type == "single_label_classification" or (config.problem_type is None and num_labels > 1):
        return torch.zeros(1, dtype=torch.int64, device=device)
    return torch.ones(1, num_labels, device=device)
