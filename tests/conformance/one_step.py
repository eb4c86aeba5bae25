# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""One optimizer step of `Seq2SeqTrainer` over 16 samples: `torchrun one_step.py OUT.json` writes losses and norms."""

import json
import sys
import tempfile

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from tests.utils import tiny_config, tiny_model


NUM_SAMPLES = 16
MODELS = {
    "full": {},
    "lstm": {"encoder_layer_types": "lstm", "decoder_layer_types": "lstm", "position_embedding_type": "none"},
}


def samples():
    """Targets of 1 to 16 tokens, so that micro-batches differ in their number."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "input_ids": torch.randint(3, 40, (5 + row % 3,), generator=generator),
            "labels": torch.randint(3, 40, (1 + row,), generator=generator),
        }
        for row in range(NUM_SAMPLES)
    ]


def collate(rows):
    pad = torch.nn.utils.rnn.pad_sequence
    input_ids = pad([row["input_ids"] for row in rows], batch_first=True, padding_value=1)
    labels = pad([row["labels"] for row in rows], batch_first=True, padding_value=-100)
    return {"input_ids": input_ids, "attention_mask": (input_ids != 1).long(), "labels": labels}


def one_step(name: str, accumulation: int, num_processes: int) -> dict[str, float]:
    """Loss and gradient norm that the Trainer logs for one step over all samples."""
    config = tiny_config(**MODELS[name], label_smoothing=0.1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder,
            per_device_train_batch_size=NUM_SAMPLES // (accumulation * num_processes),
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            logging_steps=1,
            learning_rate=1e-3,
            max_grad_norm=1e6,
            average_tokens_across_devices=True,
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            ddp_backend="gloo" if num_processes > 1 else None,
        )
        trainer = Seq2SeqTrainer(tiny_model(config), arguments, train_dataset=samples(), data_collator=collate)
        trainer.train()
        logged = trainer.state.log_history[0]
        # One more number that sees every gradient: the weights after the step.
        weights = sum(float(parameter.detach().double().abs().sum()) for parameter in trainer.model.parameters())
    return {"loss": logged["loss"], "grad_norm": logged["grad_norm"], "weights": weights}


def all_steps(num_processes: int) -> dict[str, dict[str, float]]:
    return {
        f"{name}, accumulation {accumulation}": one_step(name, accumulation, num_processes)
        for name in MODELS
        for accumulation in (1, 8)
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = all_steps(num_processes=2)
    if torch.distributed.get_rank() == 0:
        with open(sys.argv[1], "w") as file:
            json.dump(results, file)
    torch.distributed.destroy_process_group()
