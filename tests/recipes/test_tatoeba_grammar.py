# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The embedded sentences with learners' errors: each rule, and that the rows are what the script makes."""

import importlib
import random
import sys

import pytest

from tests.recipes.launching import RECIPES


DATA = RECIPES / "data"
COUNTS = {"train": 20000, "validation": 500, "test": 1000}
# Every sentence that one error makes.
CASES = [
    ("article", "He has an apple.", {"He has a apple.", "He has apple."}),
    ("article", "The dog speaks French.", {"Dog speaks French.", "The dog speaks the French."}),
    ("preposition", "We met in May.", {"We met on May.", "We met at May.", "We met May."}),
    ("agreement", "Is she old?", {"Are she old?"}),
    ("agreement", "Tom wants tea, you know.", {"Tom want tea, you know.", "Tom wants tea, you knows."}),
    ("verb form", "I want to go.", {"I want to goes.", "I want to went.", "I want to going."}),
    ("verb form", "We are waiting.", {"We are wait."}),
    ("verb form", "He has gone.", {"He has go.", "He has went."}),
    ("number", "Two dogs, each day.", {"Two dog, each day.", "Two dogs, each days."}),
    ("number", "Every city is big.", {"Every cities is big."}),
    ("pronoun", "Come with me, not her dog.", {"Come with I, not her dog."}),
    ("order", "Where do you live?", {"Where you do live?"}),
    ("order", "I know where he is.", {"I know where is he."}),
    ("order", "I never drink beer.", {"I drink never beer."}),
    ("word", "How much is it?", {"How many is it?"}),
    ("word", "Many dogs bark.", {"Much dogs bark."}),
]  # fmt: skip


@pytest.fixture
def grammar(monkeypatch):
    monkeypatch.syspath_prepend(str(DATA))
    return importlib.import_module("make_tatoeba_grammar")


@pytest.mark.parametrize(("kind", "sentence", "expected"), CASES, ids=[f"{kind}: {text}" for kind, text, _ in CASES])
def test_errors_of_a_kind(grammar, kind, sentence, expected):
    errors = grammar.errors_of(kind, sentence)
    assert {grammar.put_errors(sentence, [error]) for error in errors} == expected
    assert {kind for kind, *_ in CASES} == set(grammar.RULES)


def test_errors_of_a_sentence_are_of_different_kinds_and_do_not_overlap(grammar):
    randomness = random.Random(0)
    assert grammar.with_errors("He has gone.", 0, randomness) == "He has gone."
    assert grammar.with_errors("Nothing here!", 3, randomness) == "Nothing here!"
    made = {grammar.with_errors("Two dogs bark.", 3, randomness) for _ in range(20)}
    assert made == {"Two dog bark."}
    made = {grammar.with_errors("I can see two dogs.", 2, randomness) for _ in range(200)}
    forms, nouns = ("sees", "saw", "seeing", "look", "watch"), ("dogs", "dog")
    assert "I can see two dogs." not in made and made <= {
        f"I can {verb} two {noun}." for verb in (*forms, "see") for noun in nouns
    }
    assert {f"I can {verb} two dog." for verb in forms} <= made


def test_embedded_rows(grammar):
    splits = {name: list(grammar.read_split(grammar.OUTPUT / f"{name}.jsonl.gz")) for name in COUNTS}
    assert {name: len(rows) for name, rows in splits.items()} == COUNTS
    texts = [
        text for rows in splits.values() for row in rows for text in {row["source"].lower(), row["target"].lower()}
    ]
    assert len(texts) == len(set(texts))
    for rows in splits.values():
        assert 0.25 < sum(row["source"] == row["target"] for row in rows) / len(rows) < 0.35


@pytest.mark.slow
def test_the_script_writes_the_embedded_rows(grammar, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_tatoeba_grammar.py", str(data_dir / "translation" / "tatoeba_en_de")])
    embedded = grammar.OUTPUT
    monkeypatch.setattr(grammar, "OUTPUT", tmp_path)
    grammar.main()
    for name in COUNTS:
        written, kept = (list(grammar.read_split(folder / f"{name}.jsonl.gz")) for folder in (tmp_path, embedded))
        assert written == kept
