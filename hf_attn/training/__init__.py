# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The parts that the recipes share: arguments, loading, a thin trainer, output directories and reports."""

from .arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments, TaskArguments
from .configs import build_config, parse_overrides
from .generation import check_positions, longest_target, prepare_generation, set_generation
from .loading import load_model, load_tokenizer
from .model_card import write_model_card
from .parsing import parse_arguments
from .reporting import (
    add_prefix,
    format_table,
    log_to_terminal,
    score_table,
    usage_lines,
    write_attention,
    write_curves,
    write_predictions,
    write_results,
)
from .run import Run, finish_run, start_run
from .run_directory import record_run, resume_or_refuse
from .splits import read_splits, texts_of, training_split
from .stages import Stages, tokenize_splits
from .trainer.averaging import average_checkpoints
from .trainer.checkpoints import checkpoint_error, clear_incomplete, last_checkpoint
from .trainer.evaluation import SortedRows, published_bleu
from .trainer.loss import divides_by_num_items
from .trainer.nan_guard import first_nonfinite_layer
from .trainer.temporary import temporary_attributes
from .trainer.trainer import RecipeTrainer


__all__ = [
    "AdapterArguments",
    "DataArguments",
    "ModelArguments",
    "RecipeTrainer",
    "RecipeTrainingArguments",
    "Run",
    "SortedRows",
    "Stages",
    "TaskArguments",
    "add_prefix",
    "average_checkpoints",
    "build_config",
    "check_positions",
    "checkpoint_error",
    "clear_incomplete",
    "divides_by_num_items",
    "finish_run",
    "first_nonfinite_layer",
    "format_table",
    "last_checkpoint",
    "load_model",
    "load_tokenizer",
    "log_to_terminal",
    "longest_target",
    "parse_arguments",
    "parse_overrides",
    "prepare_generation",
    "published_bleu",
    "read_splits",
    "record_run",
    "resume_or_refuse",
    "score_table",
    "set_generation",
    "start_run",
    "temporary_attributes",
    "texts_of",
    "tokenize_splits",
    "training_split",
    "usage_lines",
    "write_attention",
    "write_curves",
    "write_model_card",
    "write_predictions",
    "write_results",
]
