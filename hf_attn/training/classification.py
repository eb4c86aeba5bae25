# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Classification as its recipe needs it: to train the head of a classifier and to read classes off its logits."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from ..data.classification import CLASS
from ..tasks import CLASSIFICATION_HEAD
from .arguments import ModelArguments
from .configs import checkpoint_config
from .reporting import loading_lines
from .run import Run
from .trainer.evaluation import SortedRows


_FOR_GENERATION = (
    *("max_target_length", "num_beams", "length_penalty", "early_stopping", "no_repeat_ngram_size"),
    *("generation_num_beams", "generation_max_length", "label_smoothing_factor"),
)


def prepare_class_training(run: Run) -> None:
    """
    Sets the training arguments for the head of a classifier.

    Raises:
        ValueError: An argument is for generation; or the training set is streamed, whose classes are not known.
    """
    for name in _FOR_GENERATION:
        if name in run.values:
            raise ValueError(
                f"`{name}` is for generated text, got {run.values[name]!r} for a classifier. Leave it out."
            )
    if run.data_args.streaming:
        raise ValueError("`streaming` must be false: the classes are those of the training set, got True.")
    run.training_args.predict_with_generate = False
    run.training_args.label_names = ["labels"]


def choose_labels(arguments: ModelArguments, splits: Mapping[str, Dataset]) -> list[str]:
    """
    The names of the classes: those of a checkpoint that classifies, in its order; else those of the training split,
    sorted.

    Raises:
        ValueError: There is neither, or the training split has fewer than two classes.
    """
    if arguments.model_name_or_path is not None:
        config = checkpoint_config(arguments, {})
        if any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
            return [str(name) for _, name in sorted((config.id2label or {}).items())]
    found = sorted(set(splits["train"][CLASS])) if "train" in splits else []
    if len(found) < 2:
        raise ValueError(
            "`train_file` or `dataset_name` must give a training split with two classes or more, or "
            f"`model_name_or_path` a checkpoint that classifies; got the classes {found} and "
            f"{arguments.model_name_or_path or arguments.model_config!r}."
        )
    return found


class ClassRows(SortedRows):
    """
    A tokenized split, the longest row first; its texts are the names of classes, read off the logits.

    Args:
        split: Rows with `input_ids`.
        labels: Names of the classes, in the order of the outputs.
    """

    def __init__(self, split: Dataset, labels: Sequence[str]):
        super().__init__(split)
        self._labels = list(labels)

    @override
    def texts(self, token_ids: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """
        The likeliest class of each row, in the order of the split.

        Args:
            token_ids: Not token ids here but the logits of `dataset`, of shape `(num_rows or more, num_labels)`.
            tokenizer: Not needed.
        """
        best = np.asarray(token_ids)[: len(self._order)].argmax(axis=-1)
        names = [""] * len(self._order)
        for row, number in zip(self._order, best, strict=True):
            names[row] = self._labels[number]
        return names


def class_logits(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """The logits among a model's outputs: a trainer's `preprocess_logits_for_metrics`."""
    return logits if isinstance(logits, torch.Tensor) else logits[0]


def class_usage_lines(output_dir: str, base_model: str | None, text: str, *, labels: Sequence[str]) -> str:
    """
    The Python lines that load the result and classify a text by the pipeline of transformers.

    Args:
        output_dir: The directory of the result.
        base_model: The checkpoint under an adapter, which does not know the classes; `None` for a whole model.
        text: An example.
        labels: Names of the classes.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    options = f", id2label={dict(enumerate(labels))!r}, label2id={numbers!r}"
    lines = loading_lines(output_dir, base_model, CLASSIFICATION_HEAD, options)
    imports = next(index for index, line in enumerate(lines) if line.startswith("from transformers import"))
    lines[imports] += ", pipeline"
    lines += [
        'classify = pipeline("text-classification", model=model, tokenizer=tokenizer)',
        f"print(classify({json.dumps(text, ensure_ascii=False)}))",
    ]
    return "\n".join(lines)
