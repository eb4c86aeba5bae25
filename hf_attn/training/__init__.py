# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the recipes share: arguments, loading, a thin trainer, output directories and reports."""

from .arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from .averaging import average_checkpoints
from .evaluation import SortedRows, published_bleu
from .loading import (
    build_config,
    load_model,
    load_tokenizer,
    longest_target,
    parse_overrides,
    read_splits,
    set_generation,
    texts_of,
)
from .parsing import parse_arguments
from .reporting import (
    add_prefix,
    format_table,
    log_to_terminal,
    score_table,
    usage_lines,
    write_attention,
    write_curves,
    write_model_card,
    write_predictions,
    write_results,
)
from .run_directory import resume_or_refuse
from .trainer import RecipeTrainer, divides_by_num_items


__all__ = [
    "AdapterArguments",
    "DataArguments",
    "ModelArguments",
    "RecipeTrainer",
    "RecipeTrainingArguments",
    "SortedRows",
    "add_prefix",
    "average_checkpoints",
    "build_config",
    "divides_by_num_items",
    "format_table",
    "load_model",
    "load_tokenizer",
    "log_to_terminal",
    "longest_target",
    "parse_arguments",
    "parse_overrides",
    "published_bleu",
    "read_splits",
    "resume_or_refuse",
    "score_table",
    "set_generation",
    "texts_of",
    "usage_lines",
    "write_attention",
    "write_curves",
    "write_model_card",
    "write_predictions",
    "write_results",
]
