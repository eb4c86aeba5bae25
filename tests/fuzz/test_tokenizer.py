# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tokenizers trained on any texts, and any text through a tokenizer and back."""

import pytest
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from hf_attn.data import train_tokenizer
from hf_attn.data.tokenizer_training import SPECIAL_TOKENS
from tests.fuzz.fuzzing import VALUES, fuzz, many


# Any character that UTF-8 can write, those of special tokens, white space and combining ones more often.
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="ab \t\n\u200d\u0301\u00a0\u3000\ufeff\x00", max_size=20),
    st.lists(st.sampled_from([*SPECIAL_TOKENS.values(), "dog", " ", "</s", "Ġ", "\r\n", "👩‍👩‍👧"]), max_size=6).map(
        "".join
    ),
)
SURROGATES = st.text(st.characters(categories=["Cs", "Lu"]), max_size=5)


def check_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    token_ids = tokenizer(text)["input_ids"]
    assert token_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in token_ids
    assert all(0 <= token_id < len(tokenizer) for token_id in token_ids)
    assert tokenizer.decode(token_ids, skip_special_tokens=True) == text


@many()
def test_round_trip(examples, tokenizer):
    fuzz(lambda text: check_round_trip(tokenizer, text), TEXTS, examples)


@many()
def test_training(examples):
    texts = st.lists(TEXTS, max_size=5) | st.lists(TEXTS | VALUES | SURROGATES, max_size=3) | TEXTS
    sizes = st.integers(262, 300) | st.sampled_from([-1, 0, 261, 10**9])

    def check(value: tuple) -> None:
        given, vocab_size, model = value
        tokenizer = train_tokenizer(given, vocab_size, model)
        assert len(tokenizer) <= vocab_size
        assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS.values()] == list(range(5))
        for text in given:
            check_round_trip(tokenizer, text)

    fuzz(check, st.tuples(texts, sizes, st.sampled_from(["bpe", "bpe", "unigram", "other"])), examples)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match=r"`texts` must hold text that UTF-8 can write, got 'a\\ud800'"):
        train_tokenizer(["a\ud800"], 300)
