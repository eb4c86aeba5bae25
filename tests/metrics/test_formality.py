# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Formal and informal address in German: the rules on sentences made by hand, and on Tatoeba by its English side."""

import gzip
import json
import re

import pytest

from hf_attn.metrics import address_form, formality_share


FORMAL = [
    "Kommen Sie mit?",
    "Wie geht es Ihnen?",
    "Ist das Ihr Hund?",
    "Ich habe Ihre Frage gehört.",
    "Sie sind müde.",
    "Sie müssen jetzt gehen.",
    "„Sie haben recht“, sagte er.",
    "Guten Morgen! Sie sehen gut aus.",
    "Ich hoffe, dass Sie kommen.",
    "Bitte setzen Sie sich.",
    "Sie sollten Ihren Bruder fragen.",
    "Warten Sie auf ihn?",
    "Haben Sie ihr das gesagt?",
]
INFORMAL = [
    "Du bist müde.",
    "Ich sehe dich.",
    "Ist das dein Hund?",
    "DEINE Frage ist gut.",
    "Wo hast du das gefunden?",
    "Ich helfe euch.",
    "Ist das eure Katze?",
    "Habt ihr Zeit?",
    "Seid vorsichtig!",
    "Ihr seid müde.",
    "Ihr kommt zu spät.",
    "Wann geht ihr nach Hause?",
    "Mit wem redet ihr?",
    "Wie viele Tassen Kaffee trinkt ihr am Tag?",
    "Ich weiß, was ihr denkt.",
    "Ich möchte, dass ihr heute kommt.",
    "Sie suchen dich.",
]
NONE = [
    "Der Hund schläft.",
    "Sie ist müde.",
    "Sie kann gut singen.",
    "Sie haben ihren Hund verloren.",
    "Ich glaube, sie haben recht.",
    "Ich gab ihr das Buch.",
    "Er hat ihr geholfen.",
    "Das ist ihr Haus.",
    "Gibt ihr das zu denken?",
    "Ihr Hund schläft.",
    "Komm mit!",
    "Man kann nicht alles wissen.",
    "Maria sagte, dass ihr Mann kommt.",
    "Euphorie, Dudelsack, Irrtum.",
    "...",
    "",
]
MIXED = ["Wie geht es Ihnen? Und hast du Zeit?"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (form, text)
        for form, texts in (("formal", FORMAL), ("informal", INFORMAL), ("none", NONE), ("mixed", MIXED))
        for text in texts
    ],
)
def test_address_form(form, text):
    assert address_form(text) == form


def test_they_at_the_head_of_a_sentence_counts_as_formal():
    # The known limit: German alone does not tell "you" from "they" here.
    assert address_form("Sie haben recht.") == "formal"


def test_formality_share_counts_rows():
    assert formality_share(FORMAL + INFORMAL + NONE + MIXED) == {
        "formal": 13,
        "informal": 17,
        "mixed": 1,
        "none": 16,
        "formality_share": 13 / 31,
    }
    assert formality_share(["Der Hund schläft."])["formality_share"] == 0.0


def test_bad_rows():
    with pytest.raises(ValueError, match="`sentences` must hold at least one row, got 0"):
        formality_share([])
    with pytest.raises(TypeError, match=r"`sentences` must hold strings, row 1 is 3 \(int\)"):
        formality_share(["Hallo.", 3])
    with pytest.raises(TypeError, match="`sentences` must be a sequence of strings, one a row, got a single string"):
        formality_share("Hallo.")


def test_on_tatoeba_the_rules_agree_with_the_english_side(data_dir):
    you = re.compile(r"\b(you|your|yours|yourself|yourselves)\b", re.IGNORECASE)
    with gzip.open(data_dir / "translation/tatoeba_en_de/validation.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["translation"] for line in lines]
    with_you = formality_share([row["de"] for row in rows if you.search(row["en"])])
    # Where English says "you", hardly a row goes without address (impersonal "man", imperatives, thanks) ...
    assert with_you["none"] < 0.08 * sum(with_you[form] for form in ("formal", "informal", "mixed", "none"))
    # ... and "they" taken for "you" is all but absent: no English "they" among these formal rows but in a few.
    they = re.compile(r"\bthey\b", re.IGNORECASE)
    formal = [row["en"] for row in rows if you.search(row["en"]) and address_form(row["de"]) == "formal"]
    assert sum(they.search(text) is not None for text in formal) <= 0.03 * len(formal)
