# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`fast_generate` finds what `generate` finds, token for token, for every layer type and option that it takes."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BartConfig, BartForConditionalGeneration, LogitsProcessor, LogitsProcessorList, pipeline
from transformers.generation import StoppingCriteria, StoppingCriteriaList

from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES
from hf_attn.generation import TextGenerator, fast_generate
from hf_attn.generation.fast import decoder_steps
from hf_attn.generation.fast.decoder_steps import CROSS_ATTENTION_STEPS, MIXER_STEPS, FoldedCrossAttentionStep
from hf_attn.modeling_layers import resolve_class
from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


SEARCHES = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 3, "length_penalty": 1.3},
    "n-best": {"num_beams": 4, "early_stopping": True, "num_return_sequences": 3, "length_penalty": 0.6},
}


def sources(model, **options):
    batch = tiny_batch(model.config, **options)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def assert_alike(model, inputs, **options):
    """Plain and fast search give the same tokens and scores; returns the tokens."""
    options = {"max_new_tokens": 14, **options}
    expected, found = (
        model.generate(
            **inputs,
            **options,
            return_dict_in_generate=True,
            output_scores=output_scores,
            custom_generate=custom_generate,
        )
        for custom_generate, output_scores in ((None, True), (fast_generate, True))
    )
    assert torch.equal(found.sequences, expected.sequences)
    if options.get("num_beams", 1) > 1:
        torch.testing.assert_close(found.sequences_scores, expected.sequences_scores, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.beam_indices, expected.beam_indices)
    # Without scores to return, ended sentences leave the batch.
    assert torch.equal(model.generate(**inputs, **options, custom_generate=fast_generate), expected.sequences)
    return expected.sequences


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config(tie_word_embeddings=False, decoder_layer_types=["ssru", "full_attention"]))


def eager_to_end(model, end=5.0):
    """Raises the bias of the end token, so that sentences end at different steps."""
    with torch.no_grad():
        model.lm_head.bias[model.config.eos_token_id] += end
    return model


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("search", SEARCHES)
def test_every_mechanism(name, search):
    config = tiny_config(**{"tie_word_embeddings": False, "logits_bias": True, **MATRIX[name]})
    model = eager_to_end(tiny_model(config), end=0.6)
    outputs = assert_alike(model, sources(model, batch_size=5, padding="ragged"), **SEARCHES[search])
    assert outputs.shape[1] > 3


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("search", SEARCHES)
def test_every_mechanism_by_its_own_forward(name, search, monkeypatch):
    """Without the faster steps, as a mechanism of another package is decoded."""
    monkeypatch.setattr(decoder_steps, "MIXER_STEPS", {})
    monkeypatch.setattr(decoder_steps, "CROSS_ATTENTION_STEPS", {})
    test_every_mechanism(name, search)


def test_faster_steps_are_of_registered_classes():
    assert set(MIXER_STEPS) <= {resolve_class(layer_type.path) for layer_type in LAYER_TYPES.values()}
    assert set(CROSS_ATTENTION_STEPS) <= {
        resolve_class(cross_attention.path) for cross_attention in CROSS_ATTENTION_TYPES.values()
    }


@pytest.mark.parametrize("decoder_layer_types", LAYER_TYPES)
@pytest.mark.parametrize("cross_attention_type", CROSS_ATTENTION_TYPES)
def test_every_layer_type_with_every_cross_attention(decoder_layer_types, cross_attention_type):
    config = tiny_config(
        tie_word_embeddings=False,
        encoder_layers=1,
        decoder_layer_types=decoder_layer_types,
        cross_attention_type=cross_attention_type,
    )
    model = tiny_model(config)
    inputs = sources(model, padding="left")
    for options in ({}, {"num_beams": 2}):
        expected = model.generate(**inputs, **options, max_new_tokens=9)
        found = model.generate(**inputs, **options, max_new_tokens=9, custom_generate=fast_generate)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("padding", ["left", "right", "holes", None])
def test_padding(model, padding):
    assert_alike(model, sources(model, batch_size=4, padding=padding), num_beams=2)
    assert_alike(model, sources(model, batch_size=4, padding=padding))


@pytest.mark.parametrize("search", SEARCHES)
def test_sentences_that_end_leave_the_batch(search):
    config = tiny_config(tie_word_embeddings=False, logits_bias=True, decoder_layer_types=["gru", "sliding_attention"])
    model = eager_to_end(tiny_model(config), end=1.0)
    outputs = assert_alike(
        model, sources(model, batch_size=12, source_length=14, padding=None), **SEARCHES[search], max_new_tokens=30
    )
    lengths = (outputs == config.pad_token_id).sum(dim=1)
    assert len(lengths.unique()) > 2


@pytest.mark.parametrize("position_embedding_type", ["sinusoidal", "rope", "relative_bias", "alibi"])
def test_long_outputs(position_embedding_type):
    # Past twice the places that are made room for at a time.
    config = tiny_config(
        tie_word_embeddings=False, position_embedding_type=position_embedding_type, max_position_embeddings=150,
        decoder_layer_types=["full_attention", "sliding_attention"], global_attention_tokens=2, sliding_window=5,
    )  # fmt: skip
    model = tiny_model(config)
    options = {"max_new_tokens": 135, "min_new_tokens": 135}
    found, expected = (
        model.generate(**sources(model, batch_size=1), **options, custom_generate=custom_generate)
        for custom_generate in (fast_generate, None)
    )
    assert torch.equal(found, expected)
    assert found.shape[1] == 136


def test_the_position_table_ends(model):
    inputs = sources(model)
    for custom_generate in (None, fast_generate):
        with pytest.raises(ValueError, match=r"The target has 49 tokens, `max_position_embeddings` allows 48"):
            model.generate(**inputs, max_new_tokens=60, min_new_tokens=60, custom_generate=custom_generate)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},
        {"bad_words_ids": [[5], [6, 7]]},
        {"min_new_tokens": 6},
        {"forced_bos_token_id": 9},
        {"forced_eos_token_id": 2},
        {"encoder_no_repeat_ngram_size": 2},
        {"eos_token_id": [2, 11, 12]},
        {"renormalize_logits": True, "suppress_tokens": [4]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_logits_processors_of_the_options(model, num_beams, options):
    assert_alike(model, sources(model), num_beams=num_beams, **options)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 2.0])
def test_stopping_of_beams(early_stopping, length_penalty):
    model = tiny_model(tiny_config(tie_word_embeddings=False, logits_bias=True, decoder_layer_types="ssru"))
    eager_to_end(model, end=1.0)
    options = {"early_stopping": early_stopping, "length_penalty": length_penalty}
    assert_alike(model, sources(model, batch_size=8, source_length=12), num_beams=3, max_new_tokens=20, **options)


class Rotation(LogitsProcessor):
    """Forbids, in row r, token r more than the length: it acts by the row and by the length."""

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        rows = torch.arange(len(scores))
        scores[rows, (rows + input_ids.shape[1]) % scores.shape[1]] = -torch.inf
        return scores


class EndsAfter(StoppingCriteria):
    """Ends a hypothesis at any of some tokens."""

    def __call__(self, input_ids, scores, **kwargs):
        return torch.isin(input_ids[:, -1], torch.arange(20, 30))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_own_processors_and_criteria(model, num_beams):
    inputs = sources(model, batch_size=5)
    assert_alike(model, inputs, num_beams=num_beams, logits_processor=LogitsProcessorList([Rotation()]))
    assert_alike(model, inputs, num_beams=num_beams, stopping_criteria=StoppingCriteriaList([EndsAfter()]))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_prompts_and_given_encoder_outputs(model, num_beams):
    inputs = sources(model)
    prompt = torch.tensor([[2, 9, 8], [2, 7, 5], [2, 3, 3]])
    outputs = assert_alike(model, {**inputs, "decoder_input_ids": prompt}, num_beams=num_beams)
    assert torch.equal(outputs[:, :3], prompt)
    with torch.no_grad():
        encoder_outputs = model.get_encoder()(**inputs)
    given = {"encoder_outputs": encoder_outputs, "attention_mask": inputs["attention_mask"]}
    expected = model.generate(**inputs, num_beams=num_beams, max_new_tokens=8)
    found = model.generate(**given, num_beams=num_beams, max_new_tokens=8, custom_generate=fast_generate)
    assert torch.equal(found, expected)


def test_logits_are_returned(model):
    inputs = sources(model)
    options = {"max_new_tokens": 6, "return_dict_in_generate": True, "output_logits": True}
    for num_beams in (1, 2):
        expected = model.generate(**inputs, **options, num_beams=num_beams)
        found = model.generate(**inputs, **options, num_beams=num_beams, custom_generate=fast_generate)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
        assert found.scores is None


@pytest.mark.parametrize("is_merged", [False, True])
def test_adapters_act(is_merged):
    base = tiny_model(tiny_config(tie_word_embeddings=False, decoder_layer_types=["lstm", "full_attention"]))
    inputs = sources(base)
    without = base.generate(**inputs, max_new_tokens=10)
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", init_lora_weights=False, lora_alpha=64)).eval()
    if is_merged:
        # Also once the base has generated by itself.
        base.generate(**inputs, max_new_tokens=10, custom_generate=fast_generate)
        model = model.merge_and_unload()
    outputs = assert_alike(model, inputs, num_beams=2)
    assert outputs.shape != without.shape or not torch.equal(outputs, without)


def test_weights_that_change_are_seen(model):
    model = tiny_model(model.config)
    inputs = sources(model)
    assert_alike(model, inputs)
    with torch.no_grad():
        for parameter in model.model.decoder.parameters():
            parameter.data += torch.randn_like(parameter) * 0.2
    assert_alike(model, inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": True}, r"greedy and beam search, got options of sample\. Leave out `custom_generate`"),
        ({"do_sample": True, "num_beams": 2}, r"got options of beam sample"),
        ({"output_attentions": True, "return_dict_in_generate": True}, r"`output_attentions` must be False"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, r"`output_hidden_states` must be False"),
        ({"use_cache": False}, r"`use_cache` must be True with `fast_generate`, which always carries a state"),
        (
            {"decoder_input_ids": torch.tensor([[1, 2]] * 3), "decoder_attention_mask": torch.tensor([[0, 1]] * 3)},
            r"`decoder_attention_mask` must be 1 everywhere with `fast_generate`, got padding",
        ),
    ],
    ids=["sample", "beam-sample", "attentions", "hidden-states", "no-cache", "padded-prompt"],
)
def test_what_is_lacking_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.generate(**sources(model), **options, max_new_tokens=4, custom_generate=fast_generate)


def test_a_cache_in_use_is_refused(model):
    inputs = sources(model)
    with torch.no_grad():
        past = model(**inputs, decoder_input_ids=torch.full((3, 2), 2), use_cache=True)[CACHE_NAME]
    with pytest.raises(ValueError, match=rf"`{CACHE_NAME}` must be empty with `fast_generate`, got 2 tokens"):
        model.generate(
            **inputs,
            decoder_input_ids=torch.full((3, 3), 2),
            cache=past,
            max_new_tokens=4,
            custom_generate=fast_generate,
        )


def test_other_families_are_refused():
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
    )  # fmt: skip
    bart = BartForConditionalGeneration(config).eval()
    with pytest.raises(TypeError, match=r"decodes `hf_attn` models, got BartForConditionalGeneration"):
        bart.generate(torch.tensor([[4, 5, 2]]), max_new_tokens=4, custom_generate=fast_generate)


@pytest.mark.parametrize("name", ["transformer", "ssru", "lstm"])
def test_texts(models, tokenizer, name):
    texts = ["das haus", "", "ein kleines haus und ein hund", "hund", "das haus und das haus"]
    for options in ({}, {"num_beams": 3, "num_return_sequences": 2}, {"num_beams": 3, "glossary": {"haus": "house"}}):
        plain, fast = (
            TextGenerator(models[name], tokenizer, max_new_tokens=12, fast=fast, **options) for fast in (False, True)
        )
        assert fast(texts) == plain(texts)
        for found, expected in zip(fast.n_best(texts, "the"), plain.n_best(texts, "the"), strict=True):
            assert [hypothesis.text for hypothesis in found] == [hypothesis.text for hypothesis in expected]
            scores = [hypothesis.score for hypothesis in expected]
            assert [hypothesis.score for hypothesis in found] == pytest.approx(scores, abs=1e-4)


def test_fast_samples_are_refused(model, models, tokenizer):
    with pytest.raises(ValueError, match=r"`fast` has no effect on samples: leave out `fast` or `do_sample`"):
        TextGenerator(models["ssru"], tokenizer, fast=True, do_sample=True)
    with pytest.raises(ValueError, match=r"`fast` is for `hf_attn` models, got BartForConditionalGeneration"):
        TextGenerator(models["bart"], tokenizer, fast=True)


def test_pipelines_take_it(models, tokenizer):
    translate = pipeline("attn-translation", model=models["ssru"], tokenizer=tokenizer)
    texts = ["das haus", "ein kleines haus und ein hund"]
    assert translate(texts, custom_generate=fast_generate) == translate(texts)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_one_sentence_alone(num_beams, padding, use_bias, key_value_heads):
    config = tiny_config(
        tie_word_embeddings=False, decoder_layer_types="ssru", use_bias=use_bias,
        decoder_key_value_heads=key_value_heads,
    )  # fmt: skip
    model = tiny_model(config)
    inputs = sources(model, batch_size=1, padding=None)
    folded = FoldedCrossAttentionStep.largest * config.d_model // config.decoder_attention_heads
    assert inputs["input_ids"].shape[1] <= folded
    inputs["attention_mask"][:, :padding] = 0
    assert_alike(model, inputs, num_beams=num_beams)
    longer = {name: tensor.repeat(1, 3) for name, tensor in inputs.items()}
    assert longer["input_ids"].shape[1] > folded
    assert_alike(model, longer, num_beams=num_beams)
