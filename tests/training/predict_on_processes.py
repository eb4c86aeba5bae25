# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Texts predicted by a model that copies its source, and losses of models, written by
`torchrun predict_on_processes.py FOLDER OUT.json`.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_attn.data import train_tokenizer
from hf_attn.training import RecipeTrainer, RecipeTrainingArguments, SortedRows
from tests.utils import tiny_config, tiny_model


WORDS = ["ein", "Hund", "läuft", "über", "die", "große", "grüne", "Wiese", "am", "See"]
# Each text is another; with 2 processes of 2 rows the last batch has 3 of 4.
TEXTS = [" ".join(WORDS[-length:]) for length in (1, 9, 2, 8, 3, 7, 4)]


def tokenizer_and_rows() -> tuple[PreTrainedTokenizerBase, Dataset]:
    """`TEXTS`, each its own target."""
    tokenizer = train_tokenizer(TEXTS, 280)
    encoded = tokenizer(TEXTS, text_target=TEXTS)
    return tokenizer, Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask", "labels")})


def trainer_for(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str, **options: Any):
    """A trainer that evaluates two rows at a time in each process."""
    return RecipeTrainer(
        model=model,
        args=RecipeTrainingArguments(
            output_dir=folder, use_cpu=True, bf16=False, disable_tqdm=True, per_device_eval_batch_size=2,
            ddp_backend="gloo" if torch.distributed.is_torchelastic_launched() else None, **options,
        ),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )  # fmt: skip


def all_predictions(folder: str) -> dict[str, list[str]]:
    """
    What comes back for `TEXTS`, or for the first of them alone, by case.

    A process that gets a last row of another length than the others' makes the gathering fill up with -100.
    """
    tokenizer, rows = tokenizer_and_rows()
    without_labels = rows.remove_columns("labels")

    def predict(split: Dataset, **options: Any) -> list[str]:
        model = tiny_model(tiny_config(vocab_size=len(tokenizer)))
        # No padding to a common length: the rows of the processes differ in it.
        model.generate = lambda input_ids, **_: input_ids
        trainer = trainer_for(model, tokenizer, folder, generation_max_length=2, **options)
        return trainer.predict_texts(SortedRows(split), "predict")[0]

    return {
        "labels": predict(rows),
        "no labels": predict(without_labels),
        "one row": predict(without_labels.select([0])),
        "sampled by length": predict(rows, train_sampling_strategy="group_by_length"),
        "last batch dropped": predict(rows, dataloader_drop_last=True),
    }


def ours(vocab_size: int) -> PreTrainedModel:
    """A tiny model, always the same."""
    return tiny_model(tiny_config(vocab_size=vocab_size))


def bart(vocab_size: int) -> PreTrainedModel:
    """A tiny stock model, always the same, of losses far apart."""
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=vocab_size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0, max_position_embeddings=64,
        init_std=0.5,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


MODELS = {"ours": ours, "bart": bart}
# On two processes of two rows: all full but the last, one with rows that only fill it, and both with such.
NUM_ROWS = (7, 3, 1)


def all_losses(folder: str) -> dict[str, float]:
    """The loss of the first rows by model and number of rows, as evaluated and beside predicted texts."""
    tokenizer, rows = tokenizer_and_rows()
    losses = {}
    for (name, build), num_rows in itertools.product(MODELS.items(), NUM_ROWS):
        model = build(len(tokenizer))
        model.generation_config.max_length = 4
        trainer = trainer_for(model, tokenizer, folder)
        split = rows.select(range(num_rows))
        losses[f"{name}, {num_rows} rows, evaluate"] = trainer.evaluate(split)["eval_loss"]
        losses[f"{name}, {num_rows} rows, predict"] = trainer.predict_texts(SortedRows(split), "predict")[1][
            "predict_loss"
        ]
    return losses


if __name__ == "__main__":
    written = {"texts": all_predictions(sys.argv[1]), "losses": all_losses(sys.argv[1])}
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(written))
    torch.distributed.destroy_process_group()
