# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tables of embeddings that grow and shrink: one for both sides, one a side, two vocabularies."""

import pytest
import torch

from hf_attn import HfAttnForConditionalGeneration
from tests.utils import tiny_batch, tiny_config, tiny_model


TABLES = {
    "shared": {},
    "shared-bias": {"logits_bias": True},
    "untied-head": {"tie_word_embeddings": False, "logits_bias": True},
    "a-table-a-stack": {"share_encoder_decoder_embeddings": False, "logits_bias": True},
    "three-tables": {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
}
TWO = {"decoder_vocab_size": 30, "share_encoder_decoder_embeddings": False, "logits_bias": True}


@pytest.mark.parametrize("size", [45, 38])
@pytest.mark.parametrize("name", TABLES)
def test_all_tables_of_one_vocabulary_change_together(name, size, tmp_path):
    model = tiny_model(tiny_config(**TABLES[name]))
    batch = tiny_batch(model.config)
    kept = min(size, 40)
    batch = {key: value.clamp(max=kept - 1) for key, value in batch.items()}
    before = model(**batch).logits
    embedding = model.resize_token_embeddings(size, mean_resizing=False)
    assert embedding is model.get_input_embeddings() and embedding.num_embeddings == size
    assert model.config.vocab_size == size and model.config.decoder_vocab_size is None
    after = model(**batch).logits
    assert after.shape[-1] == size
    torch.testing.assert_close(after[..., :kept], before[..., :kept], atol=1e-6, rtol=1e-6)
    tied = model.lm_head.weight is model.model.decoder.embed_tokens.weight
    assert tied == model.config.tie_word_embeddings
    model.save_pretrained(tmp_path)
    again = HfAttnForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**batch).logits, after)


@pytest.mark.parametrize("ties", [True, False])
def test_two_vocabularies_change_one_at_a_time(ties, tmp_path):
    model = tiny_model(tiny_config(**TWO, tie_word_embeddings=ties))
    batch = tiny_batch(model.config)
    batch["labels"] = batch["labels"].clamp(max=29)
    before = model(**batch).logits
    assert before.shape[-1] == 30
    model.resize_token_embeddings(44, mean_resizing=False)
    torch.testing.assert_close(model(**batch).logits, before)
    model.resize_decoder_token_embeddings(33, mean_resizing=False)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (44, 33)
    after = model(**batch).logits
    assert after.shape[-1] == 33
    torch.testing.assert_close(after[..., :30], before, atol=1e-6, rtol=1e-6)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(HfAttnForConditionalGeneration.from_pretrained(tmp_path)(**batch).logits, after)
    with pytest.raises(ValueError, match=r"`labels` must hold ids in \[0, `vocab_size` = 33\)"):
        model(**{**batch, "labels": torch.full_like(batch["labels"], 33)})


def test_tables_that_are_one_grow_as_one():
    with pytest.raises(ValueError, match=r"`resize_decoder_token_embeddings` is for models whose target has a table"):
        tiny_model().resize_decoder_token_embeddings(50)


def test_a_decoder_of_another_vocabulary_does_not_read_the_source():
    model = tiny_model(tiny_config(**TWO))
    with pytest.raises(ValueError, match=r"The decoder would read `input_ids`, and has a vocabulary of its own"):
        model(input_ids=torch.tensor([[5, 6, 2]]))
