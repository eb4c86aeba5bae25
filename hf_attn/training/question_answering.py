# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Extractive answering as its recipe needs it: to train a span head and to read answers off its logits."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import ModelOutput
from typing_extensions import override

from ..data.question_answering import Span, best_spans, choose_answers
from ..loading.position_limits import source_positions
from ..tasks import SPAN_HEAD, WRITING_HEAD
from .arguments import RecipeTrainingArguments
from .reporting import loading_lines
from .trainer.evaluation import SortedRows


PREDICTIONS_FILE = "predictions.json"
N_BEST_FILE = "nbest_predictions.json"


def prepare_span_training(arguments: RecipeTrainingArguments) -> None:
    """
    Sets the training arguments for a span head.

    Raises:
        ValueError: `label_smoothing_factor` is set, which a span head does not have; or `remove_unused_columns` is
            false, though the windows have columns that are no input of a model.
    """
    if arguments.label_smoothing_factor:
        raise ValueError(
            "`label_smoothing_factor` is for generated text, got "
            f"{arguments.label_smoothing_factor} with `mode` extractive. Leave it out."
        )
    if not arguments.remove_unused_columns:
        raise ValueError(
            "`remove_unused_columns` must be true with `mode` extractive, whose windows have columns that no model "
            f"reads, got {arguments.remove_unused_columns}."
        )
    arguments.predict_with_generate = False
    # Not `start_positions` and `end_positions`: the trainer counts the items of `labels` for its loss.
    arguments.label_names = ["labels"]


def check_window(model: PreTrainedModel, max_seq_length: int) -> None:
    """
    Checks that a window fits the model.

    Raises:
        ValueError: A window may have more tokens than the model has positions.
    """
    limit = source_positions(unwrap_peft_model(model))
    if limit is not None and max_seq_length > limit:
        raise ValueError(
            f"`max_seq_length` must keep within the {limit} positions of the model, got {max_seq_length}. Lower it: "
            "a long context is then cut into more windows."
        )


def mask_padding(model: nn.Module) -> None:
    """
    Gives padding the least number as its logits in any model with a span head, as ours has it.

    The heads of transformers treat it as any token, so that their loss depends on what else is in a batch.
    """
    model.register_forward_hook(_mask_span_logits, with_kwargs=True)


def _mask_span_logits(
    module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], outputs: ModelOutput
) -> ModelOutput:
    mask = keywords.get("attention_mask")
    if mask is not None:
        for name in ("start_logits", "end_logits"):
            logits = outputs[name]
            is_padding = mask.to(logits.device) == 0
            outputs[name] = logits.masked_fill(is_padding, torch.finfo(logits.dtype).min)
    return outputs


class SpanRows(SortedRows):
    """
    A split cut into windows, the longest first; its texts are answers, read off the logits of the windows.

    Args:
        windows: The rows that `span_preprocessor` makes of the split.
        contexts: The context of each row of the split.
        n_best_size, max_answer_length: As for `best_spans`.
        null_score_diff_threshold: As for `choose_answers`; `None` where every question has an answer.

    Attributes:
        spans: The candidates of each row, the best first, that `texts` found when it was last called.
    """

    def __init__(
        self,
        windows: Dataset,
        contexts: Sequence[str],
        *,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        null_score_diff_threshold: float | None = None,
    ):
        super().__init__(windows)
        self.spans: list[list[Span]] = []
        self._contexts = list(contexts)
        self._limits = {"n_best_size": n_best_size, "max_answer_length": max_answer_length}
        self._null_score_diff_threshold = null_score_diff_threshold

    @override
    def texts(self, token_ids: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """
        One answer a row of the split, in its order; "" where the context holds none.

        Args:
            token_ids: Not token ids here but the logits of `dataset`, start and end, each of shape
                `(num_windows or more, length)`.
            tokenizer: Not needed: answers are cut out of the contexts.
        """
        start_logits, end_logits = token_ids
        threshold = self._null_score_diff_threshold
        self.spans = best_spans(
            start_logits,
            end_logits,
            self.dataset,
            self._contexts,
            with_null=threshold is not None,
            **self._limits,
        )
        return choose_answers(self.spans, threshold or 0.0)


def span_loss(
    outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """
    Cross-entropy of the first and the last token of the answer over the tokens of a window, in float32.

    A trainer's `compute_loss_func`, for any model with a span head after `mask_padding`. It is the mean over `labels`,
    so that no split of the same windows over accumulation steps and processes changes it.

    Args:
        outputs: `start_logits` and `end_logits`, each of shape `(batch_size, length)`.
        labels: int64 of shape `(batch_size, 2)`: first and last token, or -100 in windows that do not count.
        num_items_in_batch: Labels of the whole update, two a window; by default those here.
    """
    logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=1).float()
    total = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


def start_and_end_logits(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The start and end logits among a model's outputs: a trainer's `preprocess_logits_for_metrics`."""
    return logits[0], logits[1]


def write_answers(
    output_dir: str | Path, ids: Sequence[Any], answers: Sequence[str], spans: Sequence[Sequence[Span]] | None = None
) -> None:
    """
    Writes `predictions.json`, id to answer, and, where there are spans, `nbest_predictions.json`, id to candidates.

    Args:
        output_dir: Directory of the run.
        ids: One a row.
        answers: One a row.
        spans: The candidates of each row, the best first; the fields of `Span` are the keys of the file.
    """
    contents: dict[str, dict[str, Any]] = {PREDICTIONS_FILE: dict(zip(map(str, ids), answers, strict=True))}
    if spans is not None:
        candidates = ([span._asdict() for span in row] for row in spans)
        contents[N_BEST_FILE] = dict(zip(map(str, ids), candidates, strict=True))
    for name, content in contents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (Path(output_dir) / name).write_text(text, encoding="utf-8")


def question_usage_lines(
    output_dir: str, base_model: str | None, question: str, *, context: str, is_extractive: bool
) -> str:
    """
    The Python lines that load the result and answer a question.

    Args:
        output_dir: The directory of the result.
        base_model: The checkpoint under an adapter; `None` for a whole model.
        question, context: An example.
        is_extractive: Whether the model is extractive, with a span head, or generative.
    """
    lines = [
        *loading_lines(output_dir, base_model, SPAN_HEAD if is_extractive else WRITING_HEAD),
        f"question = {json.dumps(question, ensure_ascii=False)}",
        f"context = {json.dumps(context, ensure_ascii=False)}",
        'batch = tokenizer(question, context, truncation="only_second", return_tensors="pt")',
    ]
    if not is_extractive:
        return "\n".join([*lines, "print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))"])
    lines += [
        "outputs = model(**batch)",
        "first, last = outputs.start_logits.argmax(), outputs.end_logits.argmax()",
        'print(tokenizer.decode(batch["input_ids"][0, first : last + 1]))',
    ]
    return "\n".join(lines)
