# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A training of a second, that tests stop, resume, split and break."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase, TrainerCallback

from hf_attn.data import train_tokenizer
from hf_attn.training import RecipeTrainer, RecipeTrainingArguments
from tests.utils import tiny_config, tiny_model


WORDS = ["ein", "Hund", "läuft", "über", "die", "große", "grüne", "Wiese", "am", "See"]
NUM_ROWS = 20
# 10 batches of 2 rows an epoch are 5 updates.
ARGUMENTS = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "logging_steps": 2,
    "save_steps": 1000,
}
NUM_STEPS = 15
MODELS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "lstm": {"encoder_layer_types": "lstm", "decoder_layer_types": "lstm", "position_embedding_type": "none"},
    "hybrid": {"decoder_layer_types": "ssru"},
}


def rows_and_tokenizer(num_rows: int = NUM_ROWS) -> tuple[Dataset, PreTrainedTokenizerBase]:
    """Rows of ragged lengths, each another."""
    texts = [" ".join(WORDS[(row + offset) % 10] for offset in range(1 + row * 7 % 9)) for row in range(num_rows)]
    tokenizer = train_tokenizer(texts, 280)
    encoded = tokenizer([f"{text} {row}" for row, text in enumerate(texts)], text_target=texts[::-1])
    columns = {name: encoded[name] for name in ("input_ids", "attention_mask", "labels")}
    return Dataset.from_dict(columns), tokenizer


class WatchedTrainer(RecipeTrainer):
    """Writes down which rows it is given."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.__dict__.setdefault("seen", []).append(inputs["input_ids"].tolist())
        return super().training_step(model, inputs, num_items_in_batch)


class SignalAfter(TrainerCallback):
    """Sends SIGTERM to this process after some step."""

    def __init__(self, step: int):
        self.step = step

    def on_substep_end(self, args, state, control, **kwargs) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def build_trainer(
    output_dir: str | Path,
    model: str = "transformer",
    *,
    lora: bool = False,
    streaming: bool = False,
    num_shards: int = 2,
    num_rows: int = NUM_ROWS,
    dropout: float = 0.1,
    **arguments: Any,
) -> WatchedTrainer:
    """A trainer with fresh weights, always the same ones."""
    rows, tokenizer = rows_and_tokenizer(num_rows)
    network = tiny_model(tiny_config(vocab_size=len(tokenizer), dropout=dropout, **MODELS[model]))
    network.generation_config.max_length = 8
    if lora:
        torch.manual_seed(0)
        network = get_peft_model(network, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, lora_dropout=dropout))
    arguments = {**ARGUMENTS, **arguments}
    if "tokens_per_batch" in arguments:
        arguments.pop("per_device_train_batch_size")
    args = RecipeTrainingArguments(
        output_dir=str(output_dir), use_cpu=True, bf16=False, disable_tqdm=True, num_beams=1, seed=3,
        ddp_backend="gloo" if torch.distributed.is_torchelastic_launched() else None, **arguments,
    )  # fmt: skip
    evaluates = args.eval_strategy != "no"
    return WatchedTrainer(
        model=network,
        args=args,
        train_dataset=rows.to_iterable_dataset(num_shards=num_shards) if streaming else rows,
        eval_dataset=rows.select(range(3)) if evaluates else None,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )


def outcome(trainer: WatchedTrainer) -> dict[str, Any]:
    """The log and the weights, which must not depend on whether a training was stopped."""
    kept = ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss")
    history = [
        {name: entry[name] for name in kept if name in entry}
        for entry in trainer.state.log_history
        if "train_runtime" not in entry
    ]
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    return {"history": history, "weights": weights, "step": trainer.state.global_step}


def assert_equal_outcomes(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Bit for bit."""
    assert first["history"] == second["history"]
    assert first["step"] == second["step"]
    assert first["weights"].keys() == second["weights"].keys()
    differing = [name for name, weight in first["weights"].items() if not torch.equal(weight, second["weights"][name])]
    assert not differing
