# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tokenizers of Marian's vocabularies split as SentencePiece does, and load where hf_attn is not installed."""

import json
import subprocess
import sys

import pytest
import sentencepiece
from transformers import AutoTokenizer

from hf_attn.interop.marian.tokenizer import (
    build_tokenizer,
    build_tokenizer_of_two,
    extend_vocabulary,
    read_vocabulary,
    with_tokens,
)
from tests.interop.marian.examples import TEXTS, spm_bytes


ODD = [
    "",
    "   ",
    "  many   spaces  ",
    "\tand\nothers \u00a0 too\u3000",
    "zero\u200bwidth \ufeffmark",
    "\u0007bell first",
    "ﬁne ① ½ １２３ …",
    "e\u0301 e\u0301\u0302",
    "日本語 テスト 🇵🇹 👨‍👩‍👧 ☃☃",
    "a </s> b<unk>c <pad></s>",
    "<0x41> <0xE2>",
    "under▁score",
    "<unk>",
    "`code` ```",
    "x" * 300,
]

VOCABULARIES = {
    "bytes": {},
    "unknown": {"byte_fallback": False, "size": 72},
    "user_defined": {"user_defined_symbols": "__source__,the,o f"},
    "identity": {"byte_fallback": False, "size": 72, "normalization_rule_name": "identity"},
    "no_prefix": {"add_dummy_prefix": False, "normalization_rule_name": "nfkc_cf"},
    "across_spaces": {"split_by_whitespace": False},
}


def _write(path, **options):
    path.write_bytes(spm_bytes(**options))
    return read_vocabulary(path)


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_texts_are_split_as_sentencepiece_splits_them(tmp_path, kind):
    vocabulary = _write(tmp_path / "vocab.spm", **VOCABULARIES[kind])
    tokenizer = build_tokenizer(vocabulary, vocabulary.size, 512)
    processor = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.content)
    texts = [*TEXTS, *ODD, "of __source__ the theory__source__ o f"]
    for text in texts:
        if any(special in text for special in ("<unk>", "</s>")) and not vocabulary.model.byte_fallback:
            # What is unknown is cut in two, and still is no special token.
            assert not {0, vocabulary.size} & set(tokenizer(text).input_ids[:-1])
            continue
        expected = processor.encode(text)
        assert tokenizer(text).input_ids == [*expected, 0], text
        known = [token_id for token_id in expected if token_id != 1]
        assert tokenizer.decode([*known, 0], skip_special_tokens=True) == processor.decode(known), text
    assert len(tokenizer) == vocabulary.size + 1
    assert (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (0, 1, vocabulary.size)
    assert tokenizer.bos_token is None
    batch = tokenizer(TEXTS, padding=True)
    assert batch.input_ids[0][-1] == vocabulary.size and batch.attention_mask[0][-1] == 0


@pytest.mark.slow
def test_a_tokenizer_loads_without_the_package(tmp_path):
    vocabulary = _write(tmp_path / "vocab.spm")
    tokenizer = build_tokenizer(vocabulary, vocabulary.size, 512)
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "hf_attn"}')
    code = (
        "import json, sys\n"
        "sys.modules['hf_attn'] = sys.modules['sentencepiece'] = None\n"
        "from transformers import AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "texts = json.loads(sys.argv[2])\n"
        "print(json.dumps([tokenizer(text).input_ids for text in texts] + [tokenizer.model_max_length]))\n"
    )
    texts = [*TEXTS, *(text for text in ODD if "\x00" not in text)]
    command = [sys.executable, "-c", code, str(tmp_path / "saved"), json.dumps(texts)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(result.stdout) == [*(tokenizer(text).input_ids for text in texts), 512]


def test_added_tokens_are_split_as_by_the_extended_sentencepiece(tmp_path):
    vocabulary = _write(tmp_path / "vocab.spm", byte_fallback=False, size=72)
    tokens = ["€", "⟦ref⟧", "▁⟧⟧"]
    tokenizer = with_tokens(build_tokenizer(vocabulary, 72, 512), tokens)
    tokenizer.save_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.convert_tokens_to_ids(["<pad>", *tokens]) == [72, 73, 74, 75] and len(tokenizer) == 76
    extended = extend_vocabulary(vocabulary, tokens, multiple_of=8)
    assert extended.size == 80 and extended.content.startswith(vocabulary.content)
    processor = sentencepiece.SentencePieceProcessor(model_proto=extended.content)
    for text in [*TEXTS, *ODD[:9], "€5", "5€ a€b ⟦ref⟧x", "⟦ref⟧ ⟧⟧ ⟧", "filler_76 <filler_76>"]:
        expected = [token_id + (token_id >= 72) for token_id in processor.encode(text)]
        assert tokenizer(text).input_ids == [*expected, 0], text
    assert extend_vocabulary(vocabulary, [], 8) is vocabulary
    for token in ("", "<unk>", "€"):
        with pytest.raises(ValueError, match=f"`tokens` must be new and not empty, got {token!r}"):
            with_tokens(tokenizer, [token])
    with pytest.raises(ValueError, match="`tokenizer` must be a unigram one whose tokens are all pieces"):
        tokenizer.add_tokens(["⟦⟦"])
        with_tokens(tokenizer, ["⟧⟧⟧"])


def test_two_vocabularies_are_one_tokenizer(tmp_path):
    source = _write(tmp_path / "source.spm", size=300)
    target = _write(tmp_path / "target.spm", size=312, seed_text="q")
    tokenizer = build_tokenizer_of_two(source, target, 312, 512)
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "source.spm").unlink()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    reads, writes = (
        sentencepiece.SentencePieceProcessor(model_proto=vocabulary.content) for vocabulary in (source, target)
    )
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (312, 0, 313)
    for text in [*TEXTS, *ODD[:10]]:
        both = tokenizer(text, text_target=text)
        assert both.input_ids == [*reads.encode(text), 0]
        assert both.labels == [*writes.encode(text), 0]
        assert tokenizer.decode(both.labels, skip_special_tokens=True) == writes.decode(writes.encode(text)).strip()
    (tmp_path / "vocab.yml").write_text("</s>: 0\n<unk>: 1\n")
    with pytest.raises(ValueError, match=r"must both be SentencePiece models, got 'vocab.yml' for the target"):
        build_tokenizer_of_two(source, read_vocabulary(tmp_path / "vocab.yml"), 312, 512)


def test_a_list_of_words_is_split_at_spaces(tmp_path):
    words = {"</s>": 0, "<unk>": 1, "the": 2, "ca@@": 3, "t": 4, "no": 5, "1": 6, "&quot;": 7, "ã": 9}
    for name in ("vocab.yml", "vocab.json"):
        (tmp_path / name).write_text(json.dumps(words, ensure_ascii=False, indent=1))
        vocabulary = read_vocabulary(tmp_path / name)
        tokenizer = build_tokenizer(vocabulary, 12, 512)
        assert (vocabulary.size, tokenizer.pad_token_id, len(tokenizer)) == (10, 12, 13)
        assert tokenizer("the  ca@@ t dog no 1 &quot; ã ").input_ids == [2, 3, 4, 1, 5, 6, 7, 9, 0]
        assert tokenizer.decode([2, 3, 4, 7, 0], skip_special_tokens=True) == "the ca@@ t &quot;"
    (tmp_path / "nematus.yml").write_text("eos: 0\nUNK: 1\na: 2\n")
    tokenizer = build_tokenizer(read_vocabulary(tmp_path / "nematus.yml"), 3, 512)
    assert tokenizer("a b").input_ids == [2, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.spm", b"no model", "no SentencePiece model"),
        ("v.spm", spm_bytes()[:-300], "cut short"),
        ("v.spm", spm_bytes(model_type="bpe"), "it has the model type 'bpe', where only 'unigram' is known"),
        ("v.spm", spm_bytes(eos_id=-1), "it has no end of a sentence"),
        ("v.spm", spm_bytes(remove_extra_whitespaces=False), "it has spaces that are kept in number"),
        ("v.spm", spm_bytes(treat_whitespace_as_suffix=True), "it has spaces behind words"),
        ("v.spm", spm_bytes() + b"\x1a\x02\x28\x00", "it has spaces that are not escaped"),
        ("v.yml", b"a: [", "no yaml of words and ids"),
        ("v.yml", b"- a", "it must map words to ids"),
        ("v.yml", b"a: b", "it must map words to ids"),
        ("v.yml", b"</s>: 0\n<unk>: 1\na: 1", "its ids must differ"),
        ("v.yml", b"</s>: 0\n<unk>: 1\na: 99999999999", "be from 0 to 9999999"),
        ("v.yml", b"</s>: 0\nb: 1", "it has no '<unk>'"),
        ("v.yml", b"</s>: 0\n<unk>: 1\nno: 2", "the word False must be in quotes"),
        ("v.yml", b"\xff: 0", "can't decode"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"The vocabulary .* cannot be read: .*{message}"):
        read_vocabulary(tmp_path / name)


def test_a_vocabulary_of_another_model_is_refused(tmp_path):
    vocabulary = _write(tmp_path / "vocab.spm")
    for num_rows in (319, 321):
        with pytest.raises(ValueError, match=f"has 320 tokens and the model's embedding {num_rows}: it belongs to"):
            build_tokenizer(vocabulary, num_rows, 512)
    (tmp_path / "vocab.yml").write_text("</s>: 0\n<unk>: 1\n")
    words = read_vocabulary(tmp_path / "vocab.yml")
    with pytest.raises(ValueError, match=r"must be a SentencePiece model to add tokens, got 'vocab.yml'"):
        extend_vocabulary(words, ["a"])
