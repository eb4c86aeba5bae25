# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Rows in an order that is fast to generate from, and generated text back in the order of the rows."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedTokenizerBase, Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput

from ...metrics import bleu


logger = logging.getLogger(__name__)


class SortedRows:
    """
    A tokenized split from the longest source to the shortest, so that the rows of a batch are of like length.

    Args:
        split: Rows with `input_ids`; `labels` are not needed.

    Attributes:
        dataset: The sorted split.
    """

    def __init__(self, split: Dataset):
        tables = split.select_columns(["input_ids"]).with_format("arrow").iter(batch_size=10_000)
        lengths = [pyarrow.compute.list_value_length(table["input_ids"]).to_numpy() for table in tables]
        self._order = np.argsort(-np.concatenate(lengths).astype(np.int64), kind="stable")
        self.dataset = split.select(self._order)

    def texts(self, token_ids: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """
        One line of text a row, in the order of the split before it was sorted.

        Args:
            token_ids: int64 of shape `(num_rows or more, length)`: generated from `dataset`; -100 is padding. Rows
                beyond the split are repetitions that fill the last batches of several processes.
            tokenizer: Decodes them.

        Raises:
            ValueError: There are fewer rows than the split has.
        """
        if len(token_ids) < len(self._order):
            raise ValueError(
                f"`token_ids` must hold each of the {len(self._order)} rows of the split, got {len(token_ids)}: no "
                "row may be left out, as `dataloader_drop_last` does."
            )
        token_ids = token_ids[: len(self._order)]
        token_ids = np.where(token_ids == -100, tokenizer.pad_token_id, token_ids)
        texts = [""] * len(self._order)
        for row, text in zip(self._order, tokenizer.batch_decode(token_ids, skip_special_tokens=True), strict=True):
            texts[row] = " ".join(text.split())
        return texts

    def scorer(
        self, tokenizer: PreTrainedTokenizerBase, score: Callable[[Sequence[str]], dict[str, float]]
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """`compute_metrics` of a trainer from a score of the generated texts in the order of the rows."""
        return lambda prediction: score(self.texts(prediction.predictions, tokenizer))


class OrderedEvaluationTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` whose evaluations see every row once and in order, whatever is set for training, and whose loss
    of a split no batch size and no number of processes changes.

    The parent applies `train_sampling_strategy`, `dataloader_drop_last` and `dataloader_in_order` to evaluations too:
    predictions then come in another order than the rows, or not for all of them. It fails on rows without labels
    where its collator makes them `None`. And its loss is the mean over batches of their mean losses, however many
    target tokens each has, with rows that are repeated to fill the last batches; here it is the mean over the target
    tokens of the split.
    """

    # Of the split that is evaluated, in this process: the sum of the losses of its target tokens, and their number.
    _summed_loss: torch.Tensor

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_options: Any,
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """The parent's, without inputs that are `None`; what it adds to the loss of the split is noted."""
        given = {name: value for name, value in inputs.items() if value is not None}
        if "labels" in given:
            given["labels"] = self._without_repeated_rows(given["labels"])
        outputs = super().prediction_step(model, given, prediction_loss_only, ignore_keys, **generation_options)
        loss: Any = outputs[0]
        if loss is not None:
            num_targets = given["labels"].ne(-100).sum().to(loss.device)
            # Without a target the mean is none.
            summed = torch.where(num_targets > 0, loss.float() * num_targets, 0.0)
            self._summed_loss = self._summed_loss + torch.stack([summed, num_targets.float()])
        return outputs

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The parent's loop, with the mean over all target tokens as its loss."""
        self._summed_loss = torch.zeros(2, device=self.args.device)
        # The loss of a batch is to be the mean over its own targets.
        during_training, self.args.average_tokens_across_devices = self.args.average_tokens_across_devices, False
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        finally:
            self.args.average_tokens_across_devices = during_training
        summed, num_targets = self.accelerator.reduce(self._summed_loss).tolist()
        loss_name = f"{metric_key_prefix}_loss"
        if output.metrics is not None and loss_name in output.metrics:
            output.metrics[loss_name] = summed / num_targets if num_targets else math.nan
        return output

    def _without_repeated_rows(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels of a batch, -100 in rows that only fill the last batches of the processes."""
        state = self.accelerator.gradient_state
        # Of real numbers -100 is one: the loss of a regression counts those rows twice.
        if not state.end_of_dataloader or state.remainder <= 0 or labels.is_floating_point():
            return labels
        num_own = max(state.remainder - self.accelerator.process_index * len(labels), 0)
        labels = labels.clone()
        labels[num_own:] = -100
        return labels

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: one row after the other."""

    def _get_dataloader(self, *arguments: Any, **keywords: Any) -> DataLoader:
        """The parent's; to evaluate, all rows in order."""
        during_training = self.args.dataloader_drop_last, self.args.dataloader_in_order
        if not keywords.get("is_training", False):
            self.args.dataloader_drop_last, self.args.dataloader_in_order = False, True
        try:
            return super()._get_dataloader(*arguments, **keywords)
        finally:
            self.args.dataloader_drop_last, self.args.dataloader_in_order = during_training


def published_bleu(predictions: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """BLEU on lower-cased text in Moses' tokenisation, the protocol of most papers on Multi30k."""
    try:
        return {"bleu_tok_lc": bleu(predictions, references, tokenize=f"moses-{language}", lowercase=True)["bleu"]}
    except ImportError as error:
        logger.warning(f"No `predict_bleu_tok_lc`: {error}")
        return {}
