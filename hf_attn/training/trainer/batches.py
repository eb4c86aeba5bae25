# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Batches by a token budget, and the number of tokens a second."""

import time
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import seed_worker
from transformers.utils import logging
from typing_extensions import override

from ...data import BatchEpochCallback, LengthBucketBatchSampler, source_target_lengths
from ..arguments import RecipeTrainingArguments


logger = logging.get_logger(__name__)


class TokenBudgetTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` whose batches hold at most `args.tokens_per_batch` tokens, where that is set.

    Useful tokens, source and target without padding, are counted; `useful_tokens_per_second` leaves out the time of
    evaluations.
    """

    args: RecipeTrainingArguments

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._useful_tokens: torch.Tensor | int = 0
        self._evaluation_seconds = 0.0

    @override
    def get_train_dataloader(self) -> DataLoader:
        """`Trainer.get_train_dataloader`, with batches of at most `tokens_per_batch` tokens where that is set."""
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

    @override
    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """`Trainer.training_step`, which also counts the tokens of the batch."""
        self._useful_tokens = self._useful_tokens + inputs["attention_mask"].sum() + inputs["labels"].ne(-100).sum()
        return super().training_step(model, inputs, num_items_in_batch)

    @override
    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """`Seq2SeqTrainer.evaluate`, timed during the training."""
        start = time.perf_counter()
        metrics = super().evaluate(*arguments, **keywords)
        if self.is_in_train:
            self._evaluation_seconds += time.perf_counter() - start
        return metrics

    def useful_tokens_per_second(self, train_runtime: float) -> float:
        """
        Source and target tokens without padding that all processes trained on, a second.

        Args:
            train_runtime: Seconds of the training, evaluations included, as `Trainer` reports them.
        """
        tokens = torch.as_tensor(self._useful_tokens, device=self.args.device).reshape(1)
        total = int(self.accelerator.gather(tokens).sum())
        return total / max(train_runtime - self._evaluation_seconds, 1e-9)
