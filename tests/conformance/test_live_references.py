# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""BART, Marian and T5 with random weights, and this family with the same weights: equal losses, equal beams."""

import pytest
import torch

from hf_attn.interop.conversion import convert
from tests.interop.families import build
from tests.utils import tiny_batch


@pytest.fixture(params=["bart-scaled", "marian", "t5", "t5-v1.1"])
def pair(request):
    reference = build(request.param)
    return reference, convert(reference)


def test_equal_logits_and_gradients(pair):
    reference, model = pair
    batch = tiny_batch(model.config, padding="right")
    decoder_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    outputs = [each(**batch, decoder_input_ids=decoder_ids) for each in (reference, model)]
    torch.testing.assert_close(outputs[1].logits, outputs[0].logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss, atol=1e-5, rtol=1e-5)
    for output in outputs:
        output.loss.backward()
    gradients = [each.get_input_embeddings().weight.grad for each in (reference, model)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_equal_beam_search(pair):
    reference, model = pair
    batch = tiny_batch(model.config, padding="right", source_length=9)
    del batch["labels"]
    settings = {"num_beams": 4, "max_new_tokens": 12, "num_return_sequences": 2, "no_repeat_ngram_size": 1}
    # transformers 5.23 has no cache for the third decoder layer of a T5 with two encoder layers.
    sequences = [reference.generate(**batch, **settings, use_cache=False), model.generate(**batch, **settings)]
    assert torch.equal(*sequences)
    assert len({tuple(row) for row in sequences[0].tolist()}) > 2
