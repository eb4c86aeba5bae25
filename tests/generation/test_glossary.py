# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Source terms become their target terms in every output, and the search finds the best such output."""

import itertools
import logging
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from hf_attn.generation import (
    Glossary,
    GlossaryLogitsProcessor,
    TermTokens,
    TextGenerator,
    has_term,
    load_for_inference,
)
from tests.utils import tiny_config, tiny_model


ENTRIES = {"haus": "big house", "kleines": "tiny", "hund": "dog", "und": "(and)"}
TEXTS = ["das haus", "", "ein kleines haus und ein hund", "ein", "hund", "das haus und das haus", "Haus"]
CHECKPOINT = Path(__file__).parents[2] / "recipes" / "checkpoints" / "tatoeba_en_de_hybrid"


def test_source_terms_are_whole_words():
    glossary = Glossary(
        {"dog": "Hund", "hot  dog": "Hotdog", "US": "USA", "C++": "C plus plus", "hound": "Hund", "犬": "Hund"}
    )
    assert glossary.target_terms("Dogs and hotdogs, dog_house, adog") == []
    assert glossary.target_terms("A hot\tdog for the DOG. Another dog?") == ["Hotdog", "Hund"]
    assert glossary.target_terms("between us") == []
    assert glossary.target_terms("The US, (C++), dog-house") == ["USA", "C plus plus", "Hund"]
    assert glossary.target_terms("a dog and a hound") == ["Hund"]
    assert glossary.target_terms("大犬座") == ["Hund"]


def test_thousands_of_terms():
    words = list(map("".join, itertools.product("abcdefgh", repeat=4)))
    glossary = Glossary({word: word.upper() for word in words} | {f"{word} c++": "long" for word in words})
    assert glossary.target_terms("Abcd, hgfe C++, xabcd abcdx abcdx-hhhh ++ aaaa") == ["ABCD", "long", "HHHH", "AAAA"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("μm", "3 µm"),
        ("istanbul", "in İstanbul"),
        ("sun", "the ſun"),
        ("café", "a cafe\u0301"),
        ("cafe\u0301", "Café"),
    ],
)
def test_other_writings_of_the_same_letters(source, text):
    assert Glossary({source: "x"}).target_terms(text) == ["x"]


def test_a_letter_with_a_mark_is_another_letter():
    glossary = Glossary({"cafe": "x", "m": "y", "US": "USA", "us": "uns"})
    assert glossary.target_terms("cafe\u0301, m\u0308") == []
    assert glossary.target_terms("Us or US") == ["uns", "USA"]
    assert has_term("das Cafe\u0301", "Café") and has_term("das Café", "Cafe\u0301")
    assert not has_term("das Cafe\u0301", "Cafe")


def test_the_prefix_of_the_sources_holds_no_terms(model, tokenizer):
    options = {"num_beams": 3, "max_new_tokens": 6, "prefix": "hund "}
    generator = TextGenerator(model, tokenizer, glossary={"hund": "dog"}, **options)
    assert generator(["haus"]) == TextGenerator(model, tokenizer, **options)(["haus"])
    assert has_term(generator(["ein hund"])[0], "dog")


def test_has_term():
    assert has_term("Der Hund, der", "Hund")
    assert has_term("ein  großer\nHund", "großer Hund")
    assert not has_term("Hunde", "Hund")
    assert not has_term("der hund", "Hund")
    assert has_term("x(and)y", "(and)")


@pytest.mark.parametrize(
    ("name", "num_beams"), [("transformer", 3), ("ssru", 2), ("ssru", 6), ("lstm", 3), ("bart", 3)]
)
def test_every_output_holds_the_terms_of_its_source(models, tokenizer, name, num_beams):
    generator = TextGenerator(
        models[name],
        tokenizer,
        glossary=ENTRIES,
        num_beams=num_beams,
        num_return_sequences=2,
        max_new_tokens=24,
        tokens_per_batch=200,
    )
    num_checked = 0
    for text, hypotheses in zip(TEXTS, generator.n_best(TEXTS), strict=True):
        for hypothesis in hypotheses:
            for source, target in ENTRIES.items():
                if source in text.lower().split():
                    num_checked += 1
                    assert has_term(hypothesis.text, target), (text, hypothesis)
    assert num_checked >= 10
    plain = TextGenerator(models[name], tokenizer, num_beams=num_beams, max_new_tokens=24)
    assert generator(["ein"]) == plain(["ein"])
    assert generator(["das haus"]) != plain(["das haus"])


def test_terms_of_the_prefix_count(model, tokenizer):
    generator = TextGenerator(model, tokenizer, glossary={"hund": "dog"}, num_beams=3, max_new_tokens=6)
    plain = TextGenerator(model, tokenizer, num_beams=3, max_new_tokens=6)
    assert generator(["hund"], "a dog and") == plain(["hund"], "a dog and")
    assert generator(["hund"], "a do") != plain(["hund"], "a do")


def test_the_best_output_with_the_term_is_found():
    """Against all sequences of up to five tokens, with beams for all of them."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "c"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    model = tiny_model(tiny_config(vocab_size=len(words), tie_word_embeddings=False))
    source = torch.tensor([[4, 5, 2]])
    term, suppressed, max_new_tokens = (5, 6), (0, 1, 3), 5

    def score(ids):
        labels = torch.tensor([ids])
        with torch.no_grad():
            log_probs = model(source, labels=labels).logits.log_softmax(dim=-1)
        return log_probs.gather(2, labels[..., None]).sum().item()

    scores = {}
    for length in range(2, max_new_tokens):
        for ids in itertools.product((4, 5, 6), repeat=length):
            if term in itertools.pairwise(ids):
                scores[(*ids, 2)] = score((*ids, 2))
    best = max(scores, key=scores.__getitem__)
    processor = GlossaryLogitsProcessor(
        [["b c"]], TermTokens(tokenizer), [[2]], num_beams=60, max_length=1 + max_new_tokens, eos_token_ids=[2]
    )
    generated = model.generate(
        source,
        num_beams=60,
        length_penalty=0.0,
        early_stopping="never",
        max_new_tokens=max_new_tokens,
        suppress_tokens=list(suppressed),
        logits_processor=LogitsProcessorList([processor]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = generated.sequences[0, 1:].tolist()
    assert ids[: ids.index(2) + 1] == list(best)
    assert generated.sequences_scores[0].item() == pytest.approx(scores[best], abs=1e-4)


@pytest.mark.parametrize("term", ["Köter", "Hündchen", "Vierbeiner"])
def test_many_beams_add_no_sentences_until_a_term_is_cheap(term):
    model, tokenizer = load_for_inference(str(CHECKPOINT))
    [text] = TextGenerator(model, tokenizer, num_beams=8, fast=True, glossary={"dog": term})(["I have a dog."])
    assert has_term(text, term)
    assert text.count(".") <= 2 and len(text) < 40


def test_what_the_model_would_end_goes_on_with_its_terms(tokenizer):
    tokens = TermTokens(tokenizer)
    first, *rest = tokens.spellings("house")[0]
    processor = GlossaryLogitsProcessor([["house"]], tokens, [[2]], num_beams=2, max_length=20, eos_token_ids=[2])
    scores = torch.full((2, len(tokenizer)), -9.0)
    scores[:, 2] = 0.0
    possible = processor(torch.tensor([[2], [2]]), scores).isfinite().nonzero()[:, 1].tolist()
    assert set(possible) <= {spelling[0] for spelling in tokens.spellings("house")} and first in possible
    # And a term that has begun is not left for another sentence.
    kept = processor(torch.tensor([[2, first], [2, first]]), torch.full((2, len(tokenizer)), -9.0))
    assert kept.isfinite().nonzero()[:, 1].tolist() == rest[:1]


def test_spellings(tokenizer):
    tokens = TermTokens(tokenizer)
    spellings = [tokenizer.decode(ids) for ids in tokens.spellings("house")]
    assert sorted(spellings) == [" house", "house"]
    space, inside = (tokenizer.convert_tokens_to_ids(token) for token in ("Ġ", "h"))
    assert not tokens.goes_on[space]
    assert tokens.goes_on[inside]
    assert tokens.stays_open[inside]
    assert tokenizer.eos_token_id in tokens.silent


def test_the_embedded_translator_obeys(caplog):
    model, tokenizer = load_for_inference(str(CHECKPOINT))
    texts = [
        "Tom lives with his mother.",
        "Tom's home and office were searched.",
        "I am hungry.",
        "He lives in Boston.",
    ]
    glossary = {"lives": "lebt", "office": "Büro"}
    with caplog.at_level(logging.WARNING):
        outputs = TextGenerator(model, tokenizer, glossary=glossary, num_beams=5)(texts)
    assert not caplog.records
    for text, output in zip(texts, outputs, strict=True):
        for source, target in glossary.items():
            assert (source in text) <= has_term(output, target), output
    # Without the glossary it says "wohnt".
    assert outputs[0] == "Tom lebt mit seiner Mutter."


def test_options_that_forbid_a_term_are_logged(model, tokenizer, caplog):
    (token_id,) = TermTokens(tokenizer).spellings("dog")[0][:1]
    every = {token_id} | {ids[0] for ids in TermTokens(tokenizer).spellings("dog")}
    generator = TextGenerator(
        model, tokenizer, glossary={"hund": "dog"}, num_beams=2, max_new_tokens=6, suppress_tokens=sorted(every)
    )
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        outputs = generator(["hund"])
    assert len(outputs) == 1
    assert "No output for 'hund' holds 'dog': other options forbid tokens that the terms need." in caplog.text


def test_files(tmp_path):
    path = tmp_path / "glossary.tsv"
    path.write_text("\ufeffhot dog\tHotdog\n\n dog \t Hund \r\n", encoding="utf-8")
    assert Glossary.from_file(path).target_terms("a dog, a hot dog") == ["Hund", "Hotdog"]
    for content, message in (
        ("dog Hund\n", r"a tab and a target term on each line, line 1 of .* is 'dog Hund'$"),
        ("cat\tKatze\ndog\t\n", r"on each line, line 2 of .* is 'dog\\t'$"),
        ("dog\tHund\ndog\tKöter\n", r"^`glossary` must hold each source term once, 'dog' comes again on line 2 of"),
        ("\n", r"^`glossary` must hold at least one entry, got none$"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            Glossary.from_file(path)
    path.write_bytes(b"\xff\xfe\xfa")
    for wrong in (path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match=r"^`glossary` must be a text file in UTF-8, got '"):
            Glossary.from_file(wrong)


def test_bad_input(model, tokenizer):
    with pytest.raises(TypeError, match=r"^`glossary` must map text to text, got 'dog': 3$"):
        Glossary({"dog": 3})
    with pytest.raises(ValueError, match=r"^`glossary` must hold no blank term, got 'dog': ' '$"):
        Glossary({"dog": " "})
    with pytest.raises(
        TypeError, match=r"^`glossary` must map source terms to target terms, got \[\('hund', 'dog'\)\]$"
    ):
        TextGenerator(model, tokenizer, glossary=[("hund", "dog")], num_beams=2)
    generator = TextGenerator(model, tokenizer, glossary={"hund": "big dog"}, num_beams=2, max_new_tokens=3)
    with pytest.raises(
        ValueError, match=r"`max_new_tokens` must leave room for the target terms 'big dog' and the end"
    ):
        generator(["hund"])
    backend = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "a": 2}, unk_token="<unk>"))
    small = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    with pytest.raises(
        ValueError, match=r"^`glossary` must hold target terms that the tokenizer can write, got 'dog'$"
    ):
        TermTokens(small).spellings("dog")
