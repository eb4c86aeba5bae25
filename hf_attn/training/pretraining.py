# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pre-training as its recipe needs it beside the noise: the corpora of a mixture, and metrics of held-out text."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import EvalPrediction

from ..data.pretraining import check_weight
from .arguments import DataArguments, RecipeTrainingArguments
from .splits import read_splits
from .trainer.evaluation import SortedRows


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Corpus:
    """
    One corpus of a mixture: documents, or sentence pairs where both languages are given.

    Args:
        train, validation, test: Files, as the flags `train_file` and so on take them.
        columns: Columns of text; each text is a document.
        source_lang, target_lang: Languages of the pairs, names in the rows as in translation.
        prefix: Text before the sources of the pairs. `None`: "translate SOURCE to TARGET: ".
        weight: Share of the tokens of the mixture, in any unit.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    columns: Sequence[str] = ("text",)
    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        if (self.source_lang is None) != (self.target_lang is None):
            raise ValueError(
                "`source_lang` and `target_lang` make a corpus a parallel one together, got "
                f"{self.source_lang!r} and {self.target_lang!r}."
            )
        if self.prefix is not None and not self.is_parallel:
            raise ValueError(f"`prefix` is for parallel corpora, got {self.prefix!r} without `source_lang`.")
        for split in SPLITS:
            files = getattr(self, split)
            if files is not None and not isinstance(files, str):
                raise ValueError(f"`{split}` must name a file, or a pattern of files, got {files!r}.")
        if self.weight is not None:
            check_weight(self.weight)
        if isinstance(self.columns, str) or not self.columns:
            raise ValueError(f"`columns` must be a list of names, got {self.columns!r}.")

    @property
    def is_parallel(self) -> bool:
        """Whether the rows are sentence pairs."""
        return self.source_lang is not None

    @property
    def source_prefix(self) -> str:
        """The text before the sources of the pairs."""
        return f"translate {self.source_lang} to {self.target_lang}: " if self.prefix is None else self.prefix


def parse_corpora(text: str) -> dict[str, Corpus]:
    """
    The corpora in a json text: an object of names, each with an object of the arguments of `Corpus`.

    Raises:
        ValueError: The text does not have this form, an argument is unknown, or a corpus names no file.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`corpora` must be json, got {text[:200]!r}: {error}.") from error
    if not (isinstance(content, dict) and content and all(isinstance(entry, dict) for entry in content.values())):
        raise ValueError(f"`corpora` must hold names with an object each, such as {_EXAMPLE}, got {text!r}.")
    known = [field.name for field in dataclasses.fields(Corpus)]
    corpora = {}
    for name, entry in content.items():
        unknown = [key for key in entry if key not in known]
        if unknown:
            raise ValueError(f"`{unknown[0]}` of `{name}` in `corpora` must be one of {', '.join(known)}.")
        try:
            corpora[name] = Corpus(**entry)
        except ValueError as error:
            raise ValueError(f"`{name}` in `corpora`: {error}") from error
        if not any(entry.get(split) for split in SPLITS):
            raise ValueError(f"`{name}` in `corpora` must name a file for {', '.join(SPLITS)} or some of them.")
    return corpora


_EXAMPLE = '{"novels": {"train": "novels.jsonl.gz", "columns": ["text"]}}'


def read_corpora(
    corpora: Mapping[str, Corpus], arguments: DataArguments, training_arguments: RecipeTrainingArguments
) -> dict[str, dict[str, Dataset]]:
    """
    The splits of each corpus, as `read_splits` reads those of one: name of the corpus to name of the split to rows.

    Args:
        corpora: Files by the name of the corpus.
        arguments: `max_*_samples` hold for each corpus.
        training_arguments: `do_train`, `do_eval` and `do_predict` choose the splits.
    """
    read = {}
    for name, corpus in corpora.items():
        options: dict[str, Any] = {}
        for split, limit in zip(SPLITS, _LIMITS, strict=True):
            # A limit is for the corpora that have the split.
            if getattr(corpus, split) is not None:
                options |= {f"{split}_file": getattr(corpus, split), limit: getattr(arguments, limit)}
        read[name] = read_splits(DataArguments(**options), training_arguments)
    return read


_LIMITS = ("max_train_samples", "max_eval_samples", "max_predict_samples")


class HeldOutRows(SortedRows):
    """
    Held-out text with fixed noise, the longest sources first, and the metrics of the tokens that it hides, by corpus.

    Args:
        corpora: Rows with `input_ids`, `labels` and `is_hidden` by the name of the corpus.

    Attributes:
        names: Those of the corpora.
    """

    def __init__(self, corpora: Mapping[str, Dataset]):
        split = concatenate_datasets([rows.select_columns(_COLUMNS) for rows in corpora.values()])
        super().__init__(split)
        rows = np.repeat(np.arange(len(corpora)), [len(corpus) for corpus in corpora.values()])
        self.names = list(corpora)
        self._corpus = rows[self._order]
        self._is_hidden = [np.asarray(mask, dtype=bool) for mask in self.dataset["is_hidden"]]
        self._hidden = [
            np.asarray(labels)[mask] for labels, mask in zip(self.dataset["labels"], self._is_hidden, strict=True)
        ]
        self.dataset = self.dataset.select_columns(["input_ids", "labels"])

    def shortest(self, number: int) -> list[dict[str, list[int]]]:
        """The `number` rows of each corpus with the shortest sources."""
        indices = [np.flatnonzero(self._corpus == corpus)[-number:] for corpus in range(len(self.names))]
        return [self.dataset[int(index)] for index in np.concatenate(indices)]

    def metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        The metrics of hidden tokens: a trainer's `compute_metrics` behind `token_losses`.

        Returns:
            For each corpus, and without a name for all together: `masked_loss`, the mean negative log-likelihood of a
            hidden token in nats, the tokens before it known; `perplexity`, its exponential; `accuracy`, the share, 0
            to 1, of hidden tokens that the model holds for the likeliest. In translation every token is hidden.
        """
        names = ("masked_loss", "accuracy")
        return self._means(
            {
                # Rows beyond these are repetitions that fill the last batches of several processes.
                name: [
                    row[: len(mask)][mask]
                    for row, mask in zip(rows[: len(self._is_hidden)], self._is_hidden, strict=True)
                ]
                for name, rows in zip(names, cast(tuple[np.ndarray, ...], prediction.predictions), strict=True)
            }
        )

    def unigram_metrics(self, counts: np.ndarray) -> dict[str, float]:
        """
        `unigram_perplexity`, by corpus and in all: that of a model that knows how frequent tokens are and no more.

        Args:
            counts: How often each token of the vocabulary occurs in the training data; one is added to each.
        """
        losses = -np.log((counts + 1) / (counts + 1).sum())
        means = self._means({"unigram_loss": [losses[tokens] for tokens in self._hidden]})
        return {
            name.replace("unigram_loss", "unigram_perplexity"): float(np.exp(loss)) for name, loss in means.items()
        }

    def _means(self, values: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
        """Means over the hidden tokens of each corpus, which stand in one array a row, and over all."""
        means = {}
        groups = {f"{name}_": np.flatnonzero(self._corpus == number) for number, name in enumerate(self.names)}
        for prefix, rows in ({"": np.arange(len(self._corpus))} | groups).items():
            for name, row_values in values.items():
                mean = np.concatenate([row_values[int(row)] for row in rows]).mean(dtype=np.float64)
                means[f"{prefix}{name}"] = float(mean)
                if name == "masked_loss":
                    means[f"{prefix}perplexity"] = float(np.exp(mean))
        return means


_COLUMNS = ["input_ids", "labels", "is_hidden"]


def token_losses(
    logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The losses and hits of target tokens in a model's outputs: a trainer's `preprocess_logits_for_metrics`.

    Args:
        logits: Of shape `(batch_size, target_length, vocab_size)`, or a tuple that begins with them.
        labels: int64 of shape `(batch_size, target_length)`; -100 is padding.

    Returns:
        The negative log-likelihood of each target token in nats, and whether it is the likeliest; both float32 of
        shape `(batch_size, target_length)`.
    """
    if isinstance(logits, tuple):
        logits = logits[0]
    losses = nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return losses, (logits.argmax(dim=-1) == labels).float()


def count_tokens(split: Dataset, vocab_size: int) -> np.ndarray:
    """The number of times that each token occurs in the `labels` of rows: int64 of shape `(vocab_size,)`."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for table in split.select_columns(["labels"]).with_format("arrow").iter(batch_size=10_000):
        tokens: Any = table["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        counts += np.bincount(tokens, minlength=vocab_size)
    return counts
