# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Rows in an order that is fast to generate from, and generated text back in the order of the rows."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedTokenizerBase, Seq2SeqTrainer

from ..metrics import bleu


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
    A `Seq2SeqTrainer` whose evaluations see every row once and in order, whatever is set for training.

    The parent applies `train_sampling_strategy`, `dataloader_drop_last` and `dataloader_in_order` to evaluations too:
    predictions then come in another order than the rows, or not for all of them. And it fails on rows without labels
    where its collator makes them `None`.
    """

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_options: Any,
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """The parent's, without inputs that are `None`."""
        given = {name: value for name, value in inputs.items() if value is not None}
        return super().prediction_step(model, given, prediction_loss_only, ignore_keys, **generation_options)

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
