# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Trainers of small models on rows of ragged lengths."""

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, MarianConfig, MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_attn.training import RecipeTrainer, RecipeTrainingArguments
from tests.utils import tiny_config, tiny_model


WORDS = ["ein", "Hund", "läuft", "über", "die", "große", "grüne", "Wiese", "am", "See"]
# Ragged lengths: the mean of the means of parts is not the mean.
TEXTS = [" ".join(WORDS[:length]) for length in (1, 9, 2, 8, 3, 7, 4, 6)]


def marian(tokenizer: PreTrainedTokenizerBase) -> MarianMTModel:
    """A model of another family, without dropout."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0, pad_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, max_position_embeddings=64,
    )  # fmt: skip
    return MarianMTModel(config)


def ours(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model of this family, without dropout."""
    return tiny_model(tiny_config(vocab_size=len(tokenizer), dropout=0.0))


def trainer_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, output_dir, **arguments
) -> RecipeTrainer:
    """A trainer that logs every step and saves no checkpoint."""
    args = RecipeTrainingArguments(
        output_dir=str(output_dir), use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1,
        max_grad_norm=1e6, seed=1, **arguments,
    )  # fmt: skip
    smoothing = args.label_smoothing_factor
    return RecipeTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model if smoothing else None),
        processing_class=tokenizer,
    )
