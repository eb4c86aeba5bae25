# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What `DecoderSteps` keeps of each sentence and each row goes with it where rows are reordered and sentences end."""

import pytest
import torch

from hf_attn.generation.fast import decoder_steps
from hf_attn.generation.fast.decoder_steps import DecoderSteps, Sources
from tests.utils import MATRIX, tiny_config, tiny_model


# Real tokens of four sources of nine places: none looks like another, nor like the first ones of the batch.
MASK = torch.tensor(
    [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 1, 1],
        [1, 1, 0, 1, 1, 0, 0, 1, 0],
    ]
).bool()
NUM_BEAMS = 2


@torch.no_grad()
def read_sources(model, input_ids: torch.Tensor, mask: torch.Tensor) -> Sources:
    states = model.get_encoder()(input_ids, attention_mask=mask.long()).last_hidden_state
    pooled_context = model.model.encoder.pool(states, mask) if model.model.decoder.needs_pooling else None
    return Sources(states, mask, input_ids if model.config.copy_attention else None, pooled_context, NUM_BEAMS)


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("has_faster_steps", [True, False], ids=["faster", "own-forward"])
def test_sources_and_states_follow_their_rows(name, has_faster_steps, monkeypatch):
    if not has_faster_steps:
        monkeypatch.setattr(decoder_steps, "MIXER_STEPS", {})
        monkeypatch.setattr(decoder_steps, "CROSS_ATTENTION_STEPS", {})
    model = tiny_model(tiny_config(**{"tie_word_embeddings": False, **MATRIX[name]}))
    generator = torch.Generator().manual_seed(4)
    input_ids = torch.randint(3, 40, MASK.shape, generator=generator).masked_fill(~MASK, model.config.pad_token_id)
    sentences = torch.arange(len(MASK))
    steps = DecoderSteps(model, read_sources(model, input_ids, MASK))
    histories = torch.empty(len(MASK) * NUM_BEAMS, 0, dtype=torch.int64)  # what each row has read
    kept_after = {2: torch.tensor([1, 2, 3]), 4: torch.tensor([0, 2]), 5: torch.tensor([1])}
    with torch.inference_mode():
        for step in range(7):
            tokens = torch.randint(3, 40, (len(histories),), generator=generator)
            histories = torch.cat([histories, tokens[:, None]], dim=1)
            found = steps.logits(steps.read(tokens))
            # The reference is a search of these sentences alone, whose rows have always read what they have now.
            alone = DecoderSteps(model, read_sources(model, input_ids[sentences], MASK[sentences]))
            for token_ids in histories.unbind(1):
                hidden_states = alone.read(token_ids)
            torch.testing.assert_close(found, alone.logits(hidden_states), rtol=1e-4, atol=1e-4)

            first_rows = torch.arange(len(sentences))[:, None] * NUM_BEAMS
            chosen = torch.randint(0, NUM_BEAMS, (len(sentences), NUM_BEAMS), generator=generator)
            parents = (first_rows + chosen).flatten()
            steps.reorder(parents)
            histories = histories[parents]
            kept = kept_after.get(step)
            if kept is not None:
                steps.keep(kept)
                sentences = sentences[kept]
                histories = histories.view(-1, NUM_BEAMS, step + 1)[kept].flatten(0, 1)
    assert sentences.tolist() == [3]
