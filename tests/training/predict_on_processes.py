# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts predicted by a model that copies its source, written by `torchrun predict_on_processes.py FOLDER OUT.json`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq

from hf_attn.data import train_tokenizer
from hf_attn.training import RecipeTrainer, RecipeTrainingArguments, SortedRows
from tests.utils import tiny_config, tiny_model


WORDS = ["ein", "Hund", "läuft", "über", "die", "große", "grüne", "Wiese", "am", "See"]
# Each text is another; with 2 processes of 2 rows the last batch has 3 of 4.
TEXTS = [" ".join(WORDS[-length:]) for length in (1, 9, 2, 8, 3, 7, 4)]


def all_predictions(folder: str) -> dict[str, list[str]]:
    """
    What comes back for `TEXTS`, or for the first of them alone, by case.

    A process that gets a last row of another length than the others' makes the gathering fill up with -100.
    """
    tokenizer = train_tokenizer(TEXTS, 280)
    encoded = tokenizer(TEXTS, text_target=TEXTS)
    rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask", "labels")})
    without_labels = rows.remove_columns("labels")

    def predict(split: Dataset, **options: Any) -> list[str]:
        model = tiny_model(tiny_config(vocab_size=len(tokenizer)))
        # No padding to a common length: the rows of the processes differ in it.
        model.generate = lambda input_ids, **_: input_ids
        trainer = RecipeTrainer(
            model=model,
            args=RecipeTrainingArguments(
                output_dir=folder, use_cpu=True, bf16=False, disable_tqdm=True, per_device_eval_batch_size=2,
                generation_max_length=2, predict_with_generate=True,
                ddp_backend="gloo" if torch.distributed.is_torchelastic_launched() else None, **options,
            ),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            processing_class=tokenizer,
        )  # fmt: skip
        return trainer.predict_texts(SortedRows(split), "predict")[0]

    return {
        "labels": predict(rows),
        "no labels": predict(without_labels),
        "one row": predict(without_labels.select([0])),
        "sampled by length": predict(rows, train_sampling_strategy="group_by_length"),
        "last batch dropped": predict(rows, dataloader_drop_last=True),
    }


if __name__ == "__main__":
    predictions = all_predictions(sys.argv[1])
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(predictions))
    torch.distributed.destroy_process_group()
