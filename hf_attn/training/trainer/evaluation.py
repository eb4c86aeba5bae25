# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Evaluations of all rows in order, and generated text in the order of the rows."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, unwrap_peft_model
from typing_extensions import override

from ...metrics import bleu
from ..arguments import RecipeTrainingArguments
from .temporary import temporary_attributes


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
        """The `compute_metrics` of a trainer, from a function that scores the texts in the order of the rows."""
        return lambda prediction: score(self.texts(prediction.predictions, tokenizer))


class EvaluationTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` whose evaluations see every row once and in order, whatever is set for training, and whose loss
    of a split no batch size and no number of processes changes.

    `Trainer` applies `train_sampling_strategy`, `dataloader_drop_last` and `dataloader_in_order` to evaluations too:
    predictions then come in another order than the rows, or not for all of them. It fails on rows without labels
    where its collator makes them `None`. And its loss is the mean over batches of their mean losses, however many
    target tokens each has, with rows that are repeated to fill the last batches; here it is the mean over the target
    tokens of the split. Outside a training it computes in the precision of the weights, so that the metrics are those
    of what is saved.
    """

    args: RecipeTrainingArguments
    model: PreTrainedModel
    processing_class: PreTrainedTokenizerBase

    # Of the split that is evaluated, in this process: the sum of the losses of its target tokens, and their number.
    _summed_loss: torch.Tensor

    def predict_texts(self, rows: SortedRows, metric_key_prefix: str) -> tuple[list[str], dict[str, float]]:
        """
        One text a row, generated with `args.num_beams` beams, and the loss and the speed.

        Args:
            rows: A tokenized split.
            metric_key_prefix: First part of the names of the metrics.

        Returns:
            One line a row, in the order of the rows before they were sorted; and the metrics.
        """
        # It would compare these rows with the validation set.
        with temporary_attributes(self, compute_metrics=None):
            output = self.predict(rows.dataset, metric_key_prefix=metric_key_prefix, num_beams=self.args.num_beams)
        return rows.texts(output.predictions, self.processing_class), output.metrics or {}

    @override
    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_options: Any,
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """`Seq2SeqTrainer.prediction_step`, without inputs that are `None`; its loss is added to that of the split."""
        present = {name: value for name, value in inputs.items() if value is not None}
        if "labels" in present:
            present["labels"] = self._without_repeated_rows(present["labels"])
        outputs = super().prediction_step(model, present, prediction_loss_only, ignore_keys, **generation_options)
        loss: Any = outputs[0]
        if loss is not None:
            num_targets = present["labels"].ne(-100).sum().to(loss.device)
            # Without a target the mean is none.
            summed = torch.where(num_targets > 0, loss.float() * num_targets, 0.0)
            self._summed_loss = self._summed_loss + torch.stack([summed, num_targets.float()])
        return outputs

    @override
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """`Trainer.evaluation_loop`, whose loss is the mean over all target tokens; see `EvaluationTrainer`."""
        self._summed_loss = torch.zeros(2, device=self.args.device)
        with (
            self._length_limit_as_max_length(),
            self._precision_of_weights(),
            # The loss of a batch is to be the mean over its own targets.
            temporary_attributes(self.args, average_tokens_across_devices=False),
        ):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        summed, num_targets = self.accelerator.reduce(self._summed_loss).tolist()
        loss_name = f"{metric_key_prefix}_loss"
        if output.metrics is not None and loss_name in output.metrics:
            output.metrics[loss_name] = summed / num_targets if num_targets else math.nan
        return output

    @contextmanager
    def _length_limit_as_max_length(self) -> Iterator[None]:
        """
        A context in which the generation config of the model is a copy whose limit of length is a `max_length`.

        `Seq2SeqTrainer` pads to `max_length`, and fills in its default of 20 where only `max_new_tokens` is set, which
        then contradicts it.
        """
        model = unwrap_peft_model(self.accelerator.unwrap_model(self.model))
        # A model with a task head has none.
        config = copy.deepcopy(getattr(model, "generation_config", None))
        if config is None:
            yield
            return
        if config.max_new_tokens is not None:
            config.max_length = config.max_new_tokens + 1
            config.max_new_tokens = None
        with temporary_attributes(model, generation_config=config):
            yield

    @contextmanager
    def _precision_of_weights(self) -> Iterator[None]:
        """A context without autocast, except during a training, for which the model is prepared already."""
        was_prepared = getattr(self.model, "_is_accelerate_prepared", False)
        try:
            with temporary_attributes(self.accelerator, native_amp=self.accelerator.native_amp and self.is_in_train):
                yield
        finally:
            # Prepared for an evaluation is not prepared for training: that brings autocast and several processes.
            self.model.__dict__["_is_accelerate_prepared"] = was_prepared

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

    @override
    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """`Trainer._get_eval_sampler`, always `None`: one row after the other."""

    @override
    def _get_dataloader(self, *arguments: Any, **keywords: Any) -> DataLoader:
        """`Trainer._get_dataloader`, with all rows in order in an evaluation."""
        if keywords.get("is_training", False):
            return super()._get_dataloader(*arguments, **keywords)
        with temporary_attributes(self.args, dataloader_drop_last=False, dataloader_in_order=True):
            return super()._get_dataloader(*arguments, **keywords)


def published_bleu(predictions: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """BLEU on lower-cased text in Moses' tokenisation, the protocol of most papers on Multi30k."""
    try:
        return {"bleu_tok_lc": bleu(predictions, references, tokenize=f"moses-{language}", lowercase=True)["bleu"]}
    except ImportError as error:
        logger.warning(f"No `predict_bleu_tok_lc`: {error}")
        return {}
