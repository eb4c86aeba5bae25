# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""BLEU, chrF and TER: values against hand calculation, protocols, and the refusal of bad rows."""

import gzip
import json
import math
import sys

import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from hf_attn.metrics import bleu, bleu_by_length, bleu_statistics, chrf, chrf_statistics, ter, ter_statistics
from hf_attn.metrics.translation import _moses_tokenizer


PREDICTIONS = ["The cat sat on the mat.", "A dog barks loudly at night."]
REFERENCES = ["The cat sat on a mat.", "A dog barks loudly at night."]


def test_bleu_equals_a_calculation_by_hand():
    # Tokens: 7 + 7. Matches: 13/14 words, 10/12 pairs, 7/10 triples, 5/8 fours; lengths are equal.
    score = bleu(PREDICTIONS, REFERENCES)
    expected = 100 * math.exp(sum(math.log(share) for share in (13 / 14, 10 / 12, 7 / 10, 5 / 8)) / 4)
    assert score["bleu"] == pytest.approx(expected)
    assert score["precisions"] == pytest.approx([1300 / 14, 1000 / 12, 70, 62.5])
    assert (score["prediction_tokens"], score["reference_tokens"], score["brevity_penalty"]) == (14, 14, 1.0)


def test_bleu_and_chrf_equal_sacrebleu_and_carry_its_signature():
    score, characters = bleu(PREDICTIONS, REFERENCES), chrf(PREDICTIONS, REFERENCES)
    assert score["bleu"] == corpus_bleu(PREDICTIONS, [REFERENCES]).score
    assert score["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert characters["chrf"] == corpus_chrf(PREDICTIONS, [REFERENCES]).score
    assert characters["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|")
    assert "nw:2|" in chrf(PREDICTIONS, REFERENCES, word_order=2)["signature"]


def test_case_counts_unless_lowercase():
    upper = [prediction.upper() for prediction in PREDICTIONS]
    assert bleu(upper, PREDICTIONS)["bleu"] < 10
    assert bleu(upper, PREDICTIONS, lowercase=True)["bleu"] == pytest.approx(100)


def test_several_references_a_row():
    pairs = [[reference, prediction] for reference, prediction in zip(REFERENCES, PREDICTIONS, strict=True)]
    assert bleu(PREDICTIONS, pairs)["bleu"] == pytest.approx(100)
    assert bleu(PREDICTIONS, pairs)["signature"].startswith("nrefs:2|")
    assert chrf(PREDICTIONS, pairs)["chrf"] == pytest.approx(100)


def test_moses_tokens_are_those_of_the_perl_scripts():
    pytest.importorskip("sacremoses")
    # What lowercase.perl | normalize-punctuation.perl -l de | tokenizer.perl -l de make of such text.
    tokens = _moses_tokenizer("de")("ein boot namens „el corazon“, z.b. im saftig-grünen gras (2007).")
    assert tokens == "ein boot namens &quot; el corazon &quot; , z.b. im saftig-grünen gras ( 2007 ) ."


def test_moses_bleu_is_lowercased_tokenised_and_unsmoothed():
    pytest.importorskip("sacremoses")
    score = bleu(["EIN Mann, der läuft."], ["ein mann , der läuft ."], tokenize="moses-de", lowercase=True)
    assert score["bleu"] == pytest.approx(100)
    assert score["signature"].startswith("nrefs:1|case:lc|eff:no|tok:moses-de|smooth:none|")
    short = (["ein mann läuft weg ."], ["ein hund läuft weg !"])
    assert bleu(*short, tokenize="moses-de")["bleu"] == 0
    assert bleu(*short)["bleu"] > 0


def test_moses_lowercases_before_it_tokenises():
    pytest.importorskip("sacremoses")
    # "Dr." keeps its stop as a known abbreviation, "dr." does not: the order shows in the number of tokens.
    cased = bleu(["Herr Dr. Maier kommt heute"], ["Herr Dr. Maier kommt heute"], tokenize="moses-de")
    lowered = bleu(["Herr Dr. Maier kommt heute"], ["x x x x"], tokenize="moses-de", lowercase=True)
    assert cased["prediction_tokens"] == 5
    assert lowered["prediction_tokens"] == len(_moses_tokenizer("de")("herr dr. maier kommt heute").split())


def test_moses_without_sacremoses_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    _moses_tokenizer.cache_clear()
    with pytest.raises(ImportError, match=r"`tokenize='moses-de'` needs the package sacremoses: install it with"):
        bleu(PREDICTIONS, REFERENCES, tokenize="moses-de")


@pytest.mark.parametrize("tokenize", ["13b", "moses", "moses-"])
def test_unknown_tokenisation_is_refused_with_the_choices(tokenize):
    with pytest.raises(ValueError, match=rf"`tokenize` must be one of none, .* or moses-<language>.*got '{tokenize}'"):
        bleu(PREDICTIONS, REFERENCES, tokenize=tokenize)


def test_ter_counts_edits_and_shifts_over_reference_words():
    # The example of Snover et al. 2006, section 2.1: one shift of two words, two substitutions, one insertion.
    hypothesis = "THIS WEEK THE SAUDIS denied information published in the new york times"
    reference = "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times"
    score = ter([hypothesis], [reference])
    assert (score["num_edits"], score["reference_words"]) == (4, 13)
    assert score["ter"] == pytest.approx(100 * 4 / 13)
    assert score["signature"].startswith("nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:")


def test_ter_takes_the_reference_with_fewest_edits_and_the_mean_length():
    score = ter(["a b c d"], [["a b c d x x", "a b c y"]])
    assert score["ter"] == pytest.approx(100 * 1 / 5)
    assert ter(["A b."], ["a b ."], normalized=True)["ter"] == 0
    assert ter(["A b."], ["a b."], case_sensitive=True)["ter"] == 50
    assert ter(["a, b."], ["a b"], no_punct=True)["ter"] == 0


@pytest.mark.parametrize(
    ("score", "statistics", "options"),
    [
        (bleu, bleu_statistics, {"tokenize": "char", "lowercase": True}),
        (chrf, chrf_statistics, {"word_order": 2}),
        (ter, ter_statistics, {"normalized": True, "case_sensitive": True}),
    ],
)
def test_statistics_of_rows_add_up_to_the_score(score, statistics, options):
    pairs = [[reference, reference.upper()] for reference in REFERENCES]
    for given in ({}, options):
        for references in (REFERENCES, pairs):
            summed = statistics(PREDICTIONS, references, **given)
            expected = score(PREDICTIONS, references, **given)[score.__name__]
            assert summed.rows.shape[0] == 2 and summed.corpus_score() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("score", [bleu, bleu_statistics, chrf, ter])
class TestBadRows:
    def test_no_rows(self, score):
        with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
            score([], [])

    def test_unequal_numbers(self, score):
        with pytest.raises(ValueError, match=r"`predictions` and `references` must have the same .* got 2 and 3"):
            score(["a", "b"], ["a", "b", "c"])

    def test_prediction_that_is_no_string(self, score):
        with pytest.raises(TypeError, match=r"`predictions` must hold strings, row 1 is None \(NoneType\)"):
            score(["a", None], ["a", "b"])

    @pytest.mark.parametrize("row", [3, ["b", 3]])
    def test_reference_that_is_no_string(self, score, row):
        with pytest.raises(TypeError, match="`references` must hold strings, or lists of strings, row 1 is"):
            score(["a", "b"], ["a", row])

    @pytest.mark.parametrize("name", ["predictions", "references"])
    def test_a_single_string(self, score, name):
        with pytest.raises(TypeError, match=rf"`{name}` must be a sequence.*got a single string"):
            score(**{"predictions": ["a"], "references": ["a"], name: "a"})

    def test_unequal_numbers_of_references(self, score):
        with pytest.raises(ValueError, match=r"same number of references.* row 1 has 2, row 0 has 1"):
            score(["a", "b"], [["a"], ["b", "c"]])


def test_bleu_by_length_scores_each_bin_alone():
    predictions = ["a b c d e", "p q r s t", "x x x x x", "f g h i j"]
    references = ["a b c d e", "p q r s t", "k l m n o", "f g h i j"]
    points = bleu_by_length(predictions, references, [3, 5, 11, 40], bins=(5, 10, 20))
    assert [(point.length, point.num_sentences) for point in points] == [(4.0, 2), (11.0, 1), (40.0, 1)]
    assert points[0].bleu == pytest.approx(100)
    assert points[1].bleu < 10
    assert points[2].bleu == pytest.approx(100)
    whole = bleu_by_length(predictions, references, [3, 5, 11, 40], bins=(100,))
    assert whole == [(14.75, bleu(predictions, references)["bleu"], 4)]


def test_bleu_by_length_refuses_bad_input():
    with pytest.raises(ValueError, match=r"`predictions` and `source_lengths` must have the same .* got 2 and 1"):
        bleu_by_length(PREDICTIONS, REFERENCES, [3])
    for bins in ([], [5, 5], [10, 5]):
        with pytest.raises(ValueError, match="`bins` must be at least one upper limit, each above the one before"):
            bleu_by_length(PREDICTIONS, REFERENCES, [3, 4], bins=bins)


def test_moses_pipeline_gives_as_many_tokens_as_the_published_files(data_dir):
    pytest.importorskip("sacremoses")
    # The lc.norm.tok files of test_2016_flickr in multi30k/dataset have 70,777 (de) and 63,307 (en) characters.
    corpus = data_dir / "translation/multi30k_en_de/test_2016_flickr.jsonl.gz"
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["translation"] for line in lines]
    for language, characters in (("de", 70777), ("en", 63307)):
        tokenize = _moses_tokenizer(language)
        assert sum(len(tokenize(row[language].lower())) + 1 for row in rows) == characters
