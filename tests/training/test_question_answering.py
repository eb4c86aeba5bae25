# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The loss of a span head, of stock models too: neither padding nor the split of a batch changes it."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BartConfig,
    BartForQuestionAnswering,
    DataCollatorForSeq2Seq,
    T5Config,
    T5ForQuestionAnswering,
)

import hf_attn
from hf_attn.data import train_tokenizer
from hf_attn.training import RecipeTrainer, RecipeTrainingArguments
from hf_attn.training.question_answering import (
    mask_padding,
    prepare_span_training,
    span_loss,
    start_and_end_logits,
)
from tests.utils import tiny_config, tiny_model


LENGTHS = (3, 14, 4, 12, 5, 9, 6, 8)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Ada sings in Rome."], 270)


@pytest.fixture(scope="module")
def windows(tokenizer) -> Dataset:
    """Ragged windows, the answer of each in its last two tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, len(tokenizer), (length,), generator=generator).tolist() for length in LENGTHS]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "attention_mask": [[1] * length for length in LENGTHS],
            "labels": [[length - 2, length - 1] for length in LENGTHS],
        }
    )


def bart(size: int):
    config = BartConfig(
        vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0, max_position_embeddings=64,
        init_std=0.5,
    )  # fmt: skip
    return BartForQuestionAnswering(config)


def t5(size: int):
    config = T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0,
        initializer_factor=2.0, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForQuestionAnswering(config)


def ours(size: int):
    return tiny_model(tiny_config(vocab_size=size), hf_attn.HfAttnForQuestionAnswering)


def fresh(build, tokenizer):
    torch.manual_seed(0)
    model = build(len(tokenizer))
    mask_padding(model)
    return model


@pytest.mark.parametrize("build", [bart, t5, ours])
def test_padding_changes_no_loss(build, tokenizer, windows):
    model, collate = fresh(build, tokenizer).eval(), DataCollatorForSeq2Seq(tokenizer)
    batch = collate([dict(row) for row in windows])
    labels = batch.pop("labels")
    with torch.no_grad():
        together = model(**batch)
        alone = []
        for row, length in enumerate(LENGTHS):
            outputs = model(**{name: batch[name][row : row + 1, :length] for name in ("input_ids", "attention_mask")})
            torch.testing.assert_close(
                outputs.start_logits[0], together.start_logits[row, :length], rtol=1e-4, atol=1e-5
            )
            alone.append(span_loss(outputs, labels[row : row + 1]))
    assert span_loss(together, labels).item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)
    # Whoever reads answers off the logits finds none on padding.
    assert all((together.end_logits[row, length:] < -1e30).all() for row, length in enumerate(LENGTHS))


@pytest.mark.parametrize("build", [bart, t5])
def test_accumulation_changes_neither_loss_nor_gradient(build, tmp_path, tokenizer, windows):
    logged = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        args = RecipeTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", max_steps=1,
            logging_steps=1, max_grad_norm=1e6, per_device_train_batch_size=batch_size, seed=1,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        prepare_span_training(args)
        trainer = RecipeTrainer(
            model=fresh(build, tokenizer),
            args=args,
            train_dataset=windows,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            processing_class=tokenizer,
            compute_loss_func=span_loss,
            preprocess_logits_for_metrics=start_and_end_logits,
        )
        trainer.train()
        logged.append([trainer.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)
