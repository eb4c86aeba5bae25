# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Methods of `Trainer` that `RecipeTrainer` overrides, and private names of it that it uses.

A release of transformers that takes one of them away, or gives one another argument, fails here first.
"""

import ast
import inspect
from pathlib import Path

import pytest
from transformers import Seq2SeqTrainer, Trainer

import hf_attn.training.trainer
from hf_attn.training import RecipeTrainer


OVERRIDDEN = [
    "_finalize_training",
    "_get_dataloader",
    "_get_eval_sampler",
    "_get_grad_norm",
    "_get_output_dir",
    "_get_train_sampler",
    "_load_best_model",
    "_load_from_checkpoint",
    "_push_from_checkpoint",
    "_save",
    "_save_checkpoint",
    "compute_loss",
    "create_accelerator_and_postprocess",
    "evaluate",
    "evaluation_loop",
    "get_train_dataloader",
    "init_hf_repo",
    "prediction_step",
    "save_model",
    "set_initial_training_values",
    "train",
    "training_step",
]
PRIVATE = [
    "_finish_current_push",
    "_globalstep_last_logged",
    "_initial_global_step",
    "_prepare_inputs",
    "_remove_unused_columns",
    "_total_loss_scalar",
    "_tr_loss",
]
FOLDER = Path(hf_attn.training.trainer.__file__).parent
OURS = [base for base in RecipeTrainer.__mro__ if base.__module__.startswith("hf_attn.")]


def attributes_of_self(source: str) -> set[str]:
    """Private names after `self.`, `super().` and `trainer.`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            value = node.value
            is_super = isinstance(value, ast.Call) and getattr(value.func, "id", None) == "super"
            if is_super or getattr(value, "id", None) in ("self", "trainer"):
                found.add(node.attr)
    return found


def test_overridden_methods():
    found = {name for base in OURS for name in vars(base) if hasattr(Seq2SeqTrainer, name)}
    assert sorted(name for name in found if not name.startswith("__")) == OVERRIDDEN


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_overrides_takes_the_arguments_of_what_it_overrides(name):
    theirs = inspect.signature(getattr(Seq2SeqTrainer, name)).parameters
    ours = inspect.signature(getattr(RecipeTrainer, name)).parameters
    takes_any = {parameter.kind for parameter in ours.values()} & {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }
    assert takes_any or set(theirs) <= set(ours)


def test_private_names():
    trainer = Path(inspect.getsourcefile(Trainer)).read_text(encoding="utf-8")
    theirs = attributes_of_self(trainer) | {name for name in vars(Trainer) if name.startswith("_")}
    used = set().union(*(attributes_of_self(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.py")))
    assert sorted(used & theirs - set(OVERRIDDEN)) == PRIVATE
