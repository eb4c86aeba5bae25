# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The stages between loading and writing that the recipes share: tokenize, train, evaluate, predict."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..metrics import RowStatistics, confidence_interval, paired_bootstrap
from .reporting import add_prefix
from .run import Run
from .trainer.evaluation import SortedRows
from .trainer.trainer import RecipeTrainer


logger = logging.get_logger(__name__)

SOURCE_LENGTH = "source_length"
"""Column in which a preprocessor may give the tokens of a source before it was cut."""


def tokenize_splits(
    run: Run,
    splits: Mapping[str, Dataset | IterableDataset],
    preprocess: Callable[..., dict[str, list]] | Mapping[str, Callable[..., dict[str, list]]],
) -> dict[str, Dataset | IterableDataset]:
    """
    The splits after a preprocessor, in the main process first; the log says what share of the sources was cut.

    Args:
        run: The run.
        splits: Rows.
        preprocess: Makes the columns of the result from a batch of rows and their numbers; one for all splits, or each
            by its split.
    """
    by_split = preprocess if isinstance(preprocess, Mapping) else dict.fromkeys(splits, preprocess)
    with run.training_args.main_process_first():
        tokenized = {
            name: split.map(by_split[name], batched=True, with_indices=True, remove_columns=split.column_names)
            for name, split in splits.items()
        }
    for name, split in tokenized.items():
        if isinstance(split, Dataset) and SOURCE_LENGTH in split.column_names:
            _log_cut_sources(name, np.array(split[SOURCE_LENGTH]), run.data_args.max_source_length)
            tokenized[name] = split.remove_columns(SOURCE_LENGTH)
    return tokenized


def _log_cut_sources(name: str, lengths: np.ndarray, max_source_length: int) -> None:
    is_cut = lengths > max_source_length
    if is_cut.any():
        logger.warning(
            f"{100 * is_cut.mean():.1f}% of the {len(lengths)} sources of `{name}` are longer than "
            f"`max_source_length`={max_source_length} tokens and cut there; the longest has {lengths.max()}."
        )


class Stages:
    """
    Trains a model, and scores its outputs for the validation and the test split.

    A stage for which there is no split does nothing. Nothing is written before the training begins or, where there is
    none, this is made.

    Args:
        run: The run.
        model: The model to train.
        tokenizer: Saved with the model; decodes what is generated.
        tokenized: The splits after `tokenize_splits`.
        score: Metrics from the name of a split and one text a row, in the order of its rows; none where the split has
            nothing to compare with.
        rows: How the scored splits become texts, by split; generated, without it.
        statistics: Makes the row statistics of the main metric from texts of the test split. With it that metric has a
            95% interval, `predict_bleu_lower` and `predict_bleu_upper`, and what it is compared with has the p-value
            of `paired_bootstrap`, `predict_copy_source_p_value`.
        main_score: Name of that metric; `None`: that of the task.
        **trainer_options: Further or other arguments of `RecipeTrainer`.

    Attributes:
        trainer: The `RecipeTrainer`.
        metrics: The results of the stages so far.
    """

    def __init__(
        self,
        run: Run,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tokenized: Mapping[str, Dataset | IterableDataset],
        score: Callable[[str, Sequence[str]], dict[str, float]],
        rows: Mapping[str, SortedRows] | None = None,
        statistics: Callable[[Sequence[str]], RowStatistics] | None = None,
        main_score: str | None = None,
        **trainer_options: Any,
    ):
        if rows is None:
            rows = {name: SortedRows(tokenized[name]) for name in ("validation", "test") if name in tokenized}
        validation = rows.get("validation")
        # A label smoother outside the model needs the decoder's input, which the model then does not make.
        has_smoother = bool(run.training_args.label_smoothing_factor)
        self.run = run
        self.metrics: dict[str, float] = {}
        self.trainer = RecipeTrainer(
            **{
                "model": model,
                "args": run.training_args,
                "train_dataset": tokenized.get("train"),
                "eval_dataset": validation.dataset if validation else None,
                "data_collator": DataCollatorForSeq2Seq(tokenizer, model if has_smoother else None),
                "processing_class": tokenizer,
                "compute_metrics": (
                    validation.scorer(tokenizer, lambda texts: score("validation", texts)) if validation else None
                ),
                **trainer_options,
            }
        )
        run.record(self.trainer)
        self._test = rows.get("test")
        self._score = score
        self._statistics = statistics
        self._main_score = main_score or run.training_args.task.main_score
        self._compared: dict[str, RowStatistics] = {}

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes."""
        return self.trainer.is_world_process_zero()

    def train(self) -> None:
        """Trains, from the last checkpoint of the run where there is one, and saves."""
        if self.trainer.train_dataset is not None:
            self.metrics |= self.trainer.train_and_save(self.run.checkpoint)

    def evaluate(self) -> None:
        """Scores the validation split with the beams of the end."""
        if self.trainer.eval_dataset is not None:
            self.metrics |= self.trainer.evaluate(num_beams=self.run.training_args.num_beams)

    def predict(self, prefix: str = "predict") -> list[str]:
        """
        One text a row of the test split, which is scored.

        Args:
            prefix: First part of the names of the metrics.

        Returns:
            The text of each row; none where there is no test split.
        """
        if self._test is None:
            return []
        texts, speed = self.trainer.predict_texts(self._test, prefix)
        self.metrics |= speed
        self._score_test(prefix, texts)
        if self._compared:
            name, interval = self._main_score, confidence_interval(self._compared[prefix])
            self.metrics |= {f"{prefix}_{name}_lower": interval.lower, f"{prefix}_{name}_upper": interval.upper}
        if prefix == "predict":
            self._compare("before")
        return texts

    def add_baseline(self, name: str, texts: Sequence[str]) -> None:
        """Scores texts for the test split that no model made, as `predict_{name}_*`; none are no baseline."""
        if texts:
            self._score_test(f"predict_{name}", texts)
            self._compare(f"predict_{name}")

    def _score_test(self, prefix: str, texts: Sequence[str]) -> None:
        self.metrics |= add_prefix(prefix, self._score("test", texts))
        if self._statistics is not None:
            self._compared[prefix] = self._statistics(texts)

    def _compare(self, prefix: str) -> None:
        """Adds the p-value of the difference between the trained model and what has the prefix."""
        if "predict" in self._compared and prefix in self._compared:
            compared = paired_bootstrap(self._compared["predict"], self._compared[prefix])
            self.metrics[f"{prefix}_p_value"] = compared.p_value
