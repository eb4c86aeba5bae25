# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Rows in an order that is fast to generate from, and generated text back in the order of the rows."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase

from ..data import source_target_lengths
from ..metrics import bleu


logger = logging.getLogger(__name__)


class SortedRows:
    """
    A tokenized split from the longest source to the shortest, so that the rows of a batch are of like length.

    Args:
        split: Rows with `input_ids` and `labels`.

    Attributes:
        dataset: The sorted split.
    """

    def __init__(self, split: Dataset):
        self._order = np.argsort(-source_target_lengths(split)[:, 0], kind="stable")
        self.dataset = split.select(self._order)

    def texts(self, token_ids: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """
        One line of text a row, in the order of the split before it was sorted.

        Args:
            token_ids: int64 of shape `(num_rows or more, length)`: generated from `dataset`; -100 is padding. Rows
                beyond the split are repetitions that fill the last batches of several processes.
            tokenizer: Decodes them.
        """
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


def published_bleu(predictions: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """BLEU on lower-cased text in Moses' tokenisation, the protocol of most papers on Multi30k."""
    try:
        return {"bleu_tok_lc": bleu(predictions, references, tokenize=f"moses-{language}", lowercase=True)["bleu"]}
    except ImportError as error:
        logger.warning(f"No `predict_bleu_tok_lc`: {error}")
        return {}
