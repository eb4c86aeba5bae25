# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Exact round trips, fixed ids of the special tokens, the same result each time and in a fresh process."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings, strategies

from hf_attn.data import SPECIAL_TOKENS, iterate_texts, train_tokenizer


TEXTS = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "Two young, White males are outside near many bushes.",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "  two spaces, a\ttab\nand a </s> <s> <mask> <unk> <pad> in it, 3 times: </s></s></s>",
] * 4
MODELS = ["bpe", "unigram"]
TOKENIZERS = {model: train_tokenizer(TEXTS, 400, model) for model in MODELS}


def backend(tokenizer) -> str:
    return tokenizer.backend_tokenizer.to_str()


every_model = pytest.mark.parametrize("model", MODELS)


@every_model
@settings(max_examples=300, deadline=None)
@given(text=strategies.text())
@example(text="")
@example(text=" ")
@example(text="  leading, trailing  and   inner \n\n\t ")
@example(text="no space before . , ! ? n't 's")
@example(text="</s>")
@example(text="a</s> <pad><s>b<mask> <unk>")
@example(text="👩‍👩‍👧‍👦 🇩🇪 e\u0301 é \u200b\ufeff \x00 \r\n \u2028 \U0010ffff")
@example(text="ﬁ ½ ＡＢＣ İ ß ſ")
def test_round_trip_is_exact(model, text):
    tokenizer = TOKENIZERS[model]
    input_ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(input_ids, skip_special_tokens=True) == text
    assert input_ids[-1] == tokenizer.eos_token_id
    assert not set(input_ids[:-1]) & set(tokenizer.all_special_ids)


@every_model
def test_ids_are_those_of_the_default_config(model):
    tokenizer = TOKENIZERS[model]
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS.values()] == [0, 1, 2, 3, 4]
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert tokenizer.mask_token_id == 4
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert len(tokenizer) <= 400


@every_model
def test_sources_targets_and_pairs_end_in_eos_and_have_no_bos(model):
    tokenizer = TOKENIZERS[model]
    plain = tokenizer.encode("ein Mann", add_special_tokens=False)
    encoded = tokenizer("ein Mann", text_target="ein Mann")
    assert encoded["input_ids"] == encoded["labels"] == [*plain, 2]
    assert tokenizer("ein Mann", "ein Mann")["input_ids"] == [*plain, 2, *plain, 2]
    assert set(tokenizer("ein", "Mann")) == {"input_ids", "attention_mask"}
    assert tokenizer("ein Mann steht auf", max_length=3, truncation=True)["input_ids"] == [*plain[:2], 2]


@every_model
def test_special_tokens_in_text_are_text_unless_asked_for(model):
    tokenizer = TOKENIZERS[model]
    assert 4 not in tokenizer("a <mask> b")["input_ids"]
    assert 4 in tokenizer("a <mask> b", split_special_tokens=False)["input_ids"]
    assert 4 not in tokenizer("a <mask> b")["input_ids"]


def test_order_of_texts_does_not_matter():
    assert backend(train_tokenizer(reversed(TEXTS), 400)) == backend(TOKENIZERS["bpe"])


@pytest.mark.slow
def test_order_of_texts_does_not_matter_to_a_unigram_of_a_real_corpus(data_dir):
    texts = list(iterate_texts([data_dir / "translation" / "multi30k_en_de" / "train.jsonl.gz"]))
    assert backend(train_tokenizer(texts, 8000, "unigram")) == backend(train_tokenizer(texts[::-1], 8000, "unigram"))


def test_a_fresh_process_trains_and_loads_the_same(tmp_path):
    for model in MODELS:
        TOKENIZERS[model].save_pretrained(tmp_path / model)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    script = """
import json, sys
from transformers import AutoTokenizer
from hf_attn.data import train_tokenizer
directory, *models = sys.argv[1:]
texts = json.load(open(directory + "/texts.json", encoding="utf-8"))
found = {"trained": train_tokenizer(texts, 400).backend_tokenizer.to_str()}
for model in models:
    loaded = AutoTokenizer.from_pretrained(directory + "/" + model)
    found[model] = [loaded.backend_tokenizer.to_str(), loaded(texts)["input_ids"], loaded("a", "b")["input_ids"],
        loaded.decode(loaded(texts[-1])["input_ids"]), loaded.model_max_length, loaded.padding_side, list(loaded("a"))]
print(json.dumps(found))
"""
    command = [sys.executable, "-c", script, str(tmp_path), *MODELS]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["trained"] == backend(TOKENIZERS["bpe"])
    for model in MODELS:
        tokenizer = TOKENIZERS[model]
        assert found[model] == [
            backend(tokenizer),
            tokenizer(TEXTS)["input_ids"],
            tokenizer("a", "b")["input_ids"],
            TEXTS[-1] + "</s>",
            1024,
            "right",
            ["input_ids", "attention_mask"],
        ]


def test_small_corpora_yield_fewer_tokens():
    assert 261 <= len(train_tokenizer(["abc"], 8000)) < 300


def test_model_max_length():
    assert train_tokenizer(["abc"], 300, model_max_length=77).model_max_length == 77


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["a"], 300, "wordpiece"), ValueError, "`model` must be one of 'bpe', 'unigram', got 'wordpiece'"),
        (
            (["a"], 261),
            ValueError,
            "`vocab_size` must be greater than 261 (5 special tokens and 256 bytes), got 261",
        ),
        (([], 300), ValueError, "`texts` must hold at least one text that is not empty"),
        ((["", ""], 300, "unigram"), ValueError, "`texts` must hold at least one text that is not empty"),
        (("abc", 300), TypeError, "`texts` must be an iterable of strings, got one string: put it in a list"),
        ((["a", None], 300), TypeError, "`texts` must hold strings, got NoneType: None"),
    ],
)
def test_arguments_it_refuses(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        train_tokenizer(*arguments)
