# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The `evaluate` metrics: offline, in batches, combined, and equal to the functions."""

import evaluate
import pytest

from hf_attn.metrics import Chrf, SacreBleu, bleu, chrf


PREDICTIONS = ["The cat sat on the mat.", "A dog barks loudly at night."]
REFERENCES = ["The cat sat on a mat.", "A dog barks loudly at night."]


def test_compute_equals_the_functions():
    assert SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES) == bleu(PREDICTIONS, REFERENCES)
    assert Chrf().compute(predictions=PREDICTIONS, references=REFERENCES) == chrf(PREDICTIONS, REFERENCES)


def test_compute_passes_keywords_on():
    given = {"tokenize": "char", "lowercase": True}
    score = SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES, **given)
    assert score == bleu(PREDICTIONS, REFERENCES, **given)
    plus = Chrf().compute(predictions=PREDICTIONS, references=REFERENCES, word_order=2)
    assert plus == chrf(PREDICTIONS, REFERENCES, word_order=2)


def test_batches_add_up():
    metric = SacreBleu()
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add_batch(predictions=[prediction], references=[reference])
    assert metric.compute() == bleu(PREDICTIONS, REFERENCES)


def test_several_references():
    pairs = [[reference, "another one"] for reference in REFERENCES]
    assert SacreBleu().compute(predictions=PREDICTIONS, references=pairs) == bleu(PREDICTIONS, pairs)


def test_combine():
    combined = evaluate.combine([SacreBleu(), Chrf()]).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert combined["bleu"] == bleu(PREDICTIONS, REFERENCES)["bleu"]
    assert combined["chrf"] == chrf(PREDICTIONS, REFERENCES)["chrf"]


def test_unequal_numbers_are_refused_with_both():
    with pytest.raises(ValueError, match=r"predictions \(2\) and references \(1\)"):
        SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES[:1])


@pytest.mark.parametrize("metric", [SacreBleu, Chrf])
def test_no_rows_are_refused(metric):
    with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
        metric().compute(predictions=[], references=[])
