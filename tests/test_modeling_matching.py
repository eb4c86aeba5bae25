# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Marked are the tokens that the two texts of a source have in common, and nothing else changes."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration, HfAttnForQuestionAnswering
from hf_attn.adapters import add_lora
from hf_attn.modeling_matching import MatchEmbedding
from hf_attn.training import AdapterArguments
from tests.utils import tiny_batch, tiny_config, tiny_model


PAD, END, OTHER_END = 1, 2, 3


def slow_matches(row, real, separators):
    """Token by token, with sets."""
    places = [place for place, is_real in enumerate(real) if is_real]
    ends = [place for place in places if row[place] in separators]
    first = [place for place in places if not ends or place < ends[0]]
    second = [place for place in places if place not in first and row[place] not in separators]
    in_first, in_second = {row[place] for place in first}, {row[place] for place in second}
    marked = [[0, 0] for _ in row]
    for place in first:
        marked[place][0] = int(row[place] in in_second)
    for place in second:
        marked[place][1] = int(row[place] in in_first)
    return marked


@pytest.mark.parametrize("separators", [[END], [END, OTHER_END]])
@pytest.mark.parametrize("padding", ["left", "right", "holes", None])
def test_matches_are_those_of_sets(separators, padding):
    generator = torch.Generator().manual_seed(0)
    embedding = MatchEmbedding(4, separators)
    batch = tiny_batch(tiny_config(vocab_size=9), batch_size=6, source_length=12, padding=padding)
    ids = torch.randint(PAD, 9, (6, 12), generator=generator).masked_fill(batch["attention_mask"] == 0, PAD)
    expected = [
        slow_matches(row, real, separators)
        for row, real in zip(ids.tolist(), batch["attention_mask"].tolist(), strict=True)
    ]
    found = embedding.matches(ids, None if padding is None else batch["attention_mask"])
    assert found.int().tolist() == expected
    assert 0 < found.float().mean() < 0.9


def test_a_single_text_and_an_empty_one_have_no_matches():
    embedding = MatchEmbedding(4, [END])
    for ids in ([5, 6, 5, 7], [5, 6, 5, END], [END, 5, 5, END], [5, 6, END, END]):
        assert not embedding.matches(torch.tensor([ids]), None).any()


def test_vectors_are_added_to_the_embedding():
    config = tiny_config(match_embedding=True)
    model = tiny_model(config)
    plain = HfAttnForConditionalGeneration(tiny_config()).eval()
    weights = model.state_dict()
    vectors = weights.pop("model.encoder.match_embedding.weight")
    plain.load_state_dict(weights)
    batch = tiny_batch(config)
    input_ids = batch.pop("input_ids")
    marked = torch.tensor(
        [slow_matches(*pair, [END]) for pair in zip(input_ids.tolist(), batch["attention_mask"].tolist(), strict=True)]
    )
    assert marked.sum() > 0
    embeds = plain.get_input_embeddings()(input_ids)
    for place, vector in enumerate(vectors):
        embeds = embeds + marked[..., place, None] * vector
    expected = plain(inputs_embeds=embeds, **batch)
    found = model(input_ids=input_ids, **batch)
    torch.testing.assert_close(found.logits, expected.logits)
    assert not torch.allclose(found.logits, plain(input_ids=input_ids, **batch).logits, atol=1e-3)
    # Embeddings come without tokens, so that these are given beside them.
    again = model(inputs_embeds=model.get_input_embeddings()(input_ids), source_ids=input_ids, **batch)
    torch.testing.assert_close(again.logits, found.logits)


def test_gradients_of_the_vectors():
    config = tiny_config(match_embedding=True)
    model = tiny_model(config).double()
    batch = tiny_batch(config)
    model(**batch).loss.backward()
    vectors = model.model.encoder.match_embedding.weight
    gradient = vectors.grad.clone()
    with torch.no_grad():
        for place in ((0, 3), (1, 7)):
            losses = []
            for step in (1e-5, -2e-5):
                vectors[place] += step
                losses.append(model(**batch).loss.item())
            vectors[place] += 1e-5
            assert gradient[place].item() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("model_class", [HfAttnForConditionalGeneration, HfAttnForQuestionAnswering])
def test_a_checkpoint_gets_vectors_and_computes_what_it_did(tmp_path, model_class):
    plain = tiny_model(model_class=model_class)
    plain.save_pretrained(tmp_path)
    model, info = model_class.from_pretrained(tmp_path, match_embedding=True, output_loading_info=True)
    assert set(info["missing_keys"]) == {"model.encoder.match_embedding.weight"}
    batch = tiny_batch(tiny_config(match_embedding=True))
    labels = batch.pop("labels")
    inputs = {"labels": labels} if model_class is HfAttnForConditionalGeneration else {}
    expected, found = plain(**batch, **inputs), model(**batch, **inputs)
    for name in expected:
        if isinstance(expected[name], torch.Tensor):
            assert torch.equal(found[name], expected[name])


def test_an_adapter_trains_the_vectors(tmp_path):
    base = HfAttnForConditionalGeneration(tiny_config(match_embedding=True))
    base.save_pretrained(tmp_path / "base")
    model = add_lora(base, AdapterArguments(lora=True))
    batch = tiny_batch(base.config)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(**batch).loss.backward()
    optimizer.step()
    loss = model.eval()(**batch).loss
    model.save_pretrained(tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert stored["base_model.model.model.encoder.match_embedding.weight"].abs().max() > 0

    base = HfAttnForConditionalGeneration.from_pretrained(tmp_path / "base")
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(again(**batch).loss, loss)
    torch.testing.assert_close(again.merge_and_unload()(**batch).loss, loss)


def test_refusals():
    with pytest.raises(ValueError, match="`match_embedding` compares the two texts that `eos_token_id` parts, and it"):
        HfAttnConfig(match_embedding=True, eos_token_id=None)
    model = tiny_model(tiny_config(match_embedding=True))
    batch = tiny_batch(model.config)
    input_ids = batch.pop("input_ids")
    embeds = model.get_input_embeddings()(input_ids)
    message = r"`source_ids` must hold the token of each source position, for `match_embedding` .* \(3, 7\), got "
    with pytest.raises(ValueError, match=message + "None. Pass `input_ids`, the"):
        model(inputs_embeds=embeds, **batch)
    with pytest.raises(ValueError, match=message + r"\(3, 5\)"):
        model(inputs_embeds=embeds, source_ids=input_ids[:, :5], **batch)
    with pytest.raises(ValueError, match=r"`source_ids` must hold ids in \[0, `vocab_size` = 40\), got 40"):
        model(inputs_embeds=embeds, source_ids=input_ids.fill_(40), **batch)
