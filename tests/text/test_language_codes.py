# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Multilingual tokenizers get their languages, and outputs start with the target's."""

import pytest
from transformers import MBart50Tokenizer, NllbTokenizer, pipeline

import hf_attn  # noqa: F401 -- registers the pipelines
from hf_attn.data import train_tokenizer
from hf_attn.text.language_codes import has_language_codes, language_token_id, set_languages
from tests.utils import tiny_config, tiny_model


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "a", "b"]


@pytest.fixture
def nllb():
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    return NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=["eng_Latn", "deu_Latn"])


def test_sources_and_targets_carry_their_languages(nllb):
    forced = set_languages(nllb, "eng_Latn", "deu_Latn")
    english, german = nllb.convert_tokens_to_ids(["eng_Latn", "deu_Latn"])
    assert forced == german
    assert nllb("a").input_ids[0] == english
    assert nllb(text_target="a").input_ids[0] == german
    assert language_token_id(MBart50Tokenizer(), "tgt_lang", "de_DE") > 0


def test_codes_that_a_tokenizer_does_not_have(nllb):
    assert has_language_codes(nllb)
    with pytest.raises(
        ValueError, match=r"`tgt_lang` must be one of the 2 language codes .* such as deu_Latn, got 'de'"
    ):
        set_languages(nllb, "eng_Latn", "de")
    assert nllb.tgt_lang is None
    alone = train_tokenizer(["a b"] * 3, 270)
    assert not has_language_codes(alone)
    with pytest.raises(ValueError, match=r"`src_lang` is for tokenizers with a token for each language, .* got 'en'"):
        set_languages(alone, "en", "de")


def test_languages_of_a_pipeline(nllb):
    model = tiny_model(tiny_config(vocab_size=len(nllb)))
    translate = pipeline("attn-translation", model=model, tokenizer=nllb)
    seen = []
    generate = model.generate

    def spy(*arguments, **options):
        seen.append((options["input_ids"][0, 0].item(), options.get("forced_bos_token_id")))
        return generate(*arguments, **options)

    model.generate = spy
    english, german = nllb.convert_tokens_to_ids(["eng_Latn", "deu_Latn"])
    translate("a", src_lang="deu_Latn", tgt_lang="eng_Latn", max_new_tokens=3)
    translate("a", max_new_tokens=3)
    assert seen == [(german, english), (english, None)]
    with pytest.raises(ValueError, match="`src_lang` must be one of the 2 language codes"):
        translate("a", src_lang="xx")
