# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""ROUGE: values by hand and by rouge-score, several references, sentences, and the refusal of bad rows."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from hf_attn.metrics import rouge, rouge_rows
from hf_attn.metrics.summarization import _sentence_lines


def test_rouge_equals_the_examples_of_lin_2004():
    # Section 3.1: S1 reference; S2 shares "police ... the gunman", S3 only "the gunman" or "police" in order.
    reference = "police killed the gunman"
    rows = rouge_rows(["police kill the gunman", "the gunman kill police"], [reference] * 2, use_stemmer=False)
    assert rows["rougeL"] == pytest.approx([75, 50])
    assert rows["rouge2"] == pytest.approx([100 / 3, 100 / 3])
    assert rows["rouge1"] == pytest.approx([75, 75])
    # Stems make "kill" and "killed" one word.
    assert rouge_rows(["police kill the gunman"], [reference])["rougeL"] == [100]


def test_union_of_subsequences_over_sentences():
    # Section 3.2: of the reference, sentences w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5 cover 4 of 5 words.
    score = rouge(["w1 w3 w8 w9 w5\nw1 w2 w6 w7 w8"], ["w1 w2 w3 w4 w5"])
    assert score["rougeLsum"] == pytest.approx(100 * 2 * 0.8 * 0.4 / 1.2)
    # As one line, w1 w3 w5.
    assert score["rougeL"] == pytest.approx(100 * 2 * 0.6 * 0.3 / 0.9)


@pytest.mark.parametrize("use_stemmer", [True, False])
def test_corpus_has_the_mean_of_what_rouge_score_gives(use_stemmer):
    predictions = ["The quick brown foxes jump.", "Nothing in common"]
    references = ["The quick brown fox jumped over the lazy dogs.", "Wholly different words here"]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=use_stemmer)
    scores = [scorer.score(*pair) for pair in zip(references, predictions, strict=True)]
    expected = {name: 50 * sum(score[name].fmeasure for score in scores) for name in scores[0]}
    assert rouge(predictions, references, use_stemmer=use_stemmer) == pytest.approx(expected)


def test_best_reference_is_chosen_for_each_row_and_type():
    prediction = "one two three four"
    references = ["four three two one", "one two five six seven eight"]
    alone = [rouge([prediction], [reference]) for reference in references]
    best = rouge([prediction], [references])
    assert best == {name: max(score[name] for score in alone) for name in best}
    assert best["rouge1"] == 100 and 0 < best["rouge2"] < 100


def test_sentences_are_lines_or_end_in_a_mark():
    assert _sentence_lines('He came. "Why?" she said. Then (at 3 p.m. or so) he left! 2 days later...').split(
        "\n"
    ) == [
        "He came.",
        '"Why?" she said.',
        "Then (at 3 p.m. or so) he left!",
        "2 days later...",
    ]
    assert _sentence_lines("First. Second\nThird. Fourth\n") == "First. Second\nThird. Fourth"


def test_empty_texts_score_nothing():
    assert rouge_rows(["", "a word"], ["a word", ""])["rougeLsum"] == [0, 0]


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
        rouge([], [])
    with pytest.raises(ValueError, match=r"`predictions` and `references` must have the same .* got 1 and 2"):
        rouge(["a"], ["a", "b"])
    with pytest.raises(TypeError, match=r"`predictions` must hold strings, row 1 is 4 \(int\)"):
        rouge(["a", 4], ["a", "b"])
    with pytest.raises(
        TypeError, match=r"`references` must hold strings, or lists of strings, row 0 is \['a', None\]"
    ):
        rouge(["a"], [["a", None]])
    with pytest.raises(ValueError, match="`references` must hold at least one reference in each row, row 1 has none"):
        rouge(["a", "b"], [["a"], []])
