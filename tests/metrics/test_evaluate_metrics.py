# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The `evaluate` metrics: offline, in batches, combined, over two processes, and equal to the functions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest

from hf_attn.metrics import Chrf, Rouge, SacreBleu, Squad, SquadV2, Ter, bleu, chrf, rouge, squad, squad_v2, ter


REPOSITORY = Path(__file__).resolve().parents[2]
PREDICTIONS = ["The cat sat on the mat.", "A dog barks loudly at night."]
REFERENCES = ["The cat sat on a mat.", "A dog barks loudly at night."]


ANSWERS = [
    {"id": "one", "answers": {"text": ["1976", "in 1976"], "answer_start": [97, 94]}},
    {"id": "two", "answers": {"text": ["Santa Clara, California"], "answer_start": [403]}},
    {"id": "three", "answers": {"text": [], "answer_start": []}},
]
ANSWERED = [
    {"id": "three", "prediction_text": "", "no_answer_probability": 0.9},
    {"id": "two", "prediction_text": "Santa Clara", "no_answer_probability": 0.1},
    {"id": "one", "prediction_text": "1976", "no_answer_probability": 0.2},
]


@pytest.mark.parametrize(("metric", "score"), [(SacreBleu, bleu), (Chrf, chrf), (Ter, ter), (Rouge, rouge)])
def test_compute_equals_the_functions(metric, score):
    assert metric().compute(predictions=PREDICTIONS, references=REFERENCES) == score(PREDICTIONS, REFERENCES)


def test_rouge_takes_numbers_of_references_that_vary():
    references = [REFERENCES[:1], REFERENCES]
    assert Rouge().compute(predictions=PREDICTIONS, references=references) == rouge(PREDICTIONS, references)


def test_answers_are_matched_by_id():
    texts = [row["answers"]["text"] for row in ANSWERS]
    expected = squad_v2(["1976", "Santa Clara", ""], texts, [0.2, 0.1, 0.9], no_answer_threshold=0.15)
    assert SquadV2().compute(predictions=ANSWERED, references=ANSWERS, no_answer_threshold=0.15) == expected
    assert expected["NoAns_total"] == 1 and expected["HasAns_exact"] == 0
    plain = [{"id": row["id"], "prediction_text": row["prediction_text"]} for row in ANSWERED]
    assert SquadV2().compute(predictions=plain, references=ANSWERS) == squad_v2(["1976", "Santa Clara", ""], texts)
    expected = squad(["1976", "Santa Clara"], texts[:2])
    assert Squad().compute(predictions=plain[1:], references=ANSWERS[:2]) == expected
    assert expected == {"exact_match": 50.0, "f1": pytest.approx(90.0)}


@pytest.mark.parametrize(
    ("predictions", "references", "error", "message"),
    [
        (ANSWERED[:2] + ANSWERED[:1], ANSWERS, ValueError, "`predictions` must hold each id once, 'three' occurs"),
        (ANSWERED, ANSWERS[:2] + ANSWERS[:1], ValueError, "`references` must hold each id once, 'one' occurs"),
        (
            [*ANSWERED[:2], {"id": "four", "prediction_text": ""}],
            ANSWERS,
            ValueError,
            "must hold each id of `references`, 1 are missing, the first is 'one'",
        ),
        (
            ["1976"],
            ANSWERS[:1],
            TypeError,
            "`predictions` must hold objects with `id` and `prediction_text`, row",
        ),
        ([{"id": "one"}], ANSWERS[:1], ValueError, r"`id` and `prediction_text`, row 0 has \['id'\]"),
        (ANSWERED[:1], [{"id": "three"}], ValueError, r"`references` must hold objects .* row 0 has \['id'\]"),
        (
            [{"id": "one", "prediction_text": 1976}],
            ANSWERS[:1],
            TypeError,
            r"`predictions` must hold strings, row 0 is 1976 \(int\)",
        ),
        (
            ANSWERED[:1],
            [{"id": "three", "answers": {"answer_start": []}}],
            ValueError,
            r"`answers` that are objects must have `text`, row 0 has only \['answer_start'\]",
        ),
        (
            [{**ANSWERED[0], "no_answer_probability": "high"}],
            ANSWERS[2:],
            TypeError,
            "`no_answer_probability` must hold numbers, row 0 is 'high'",
        ),
    ],
)
def test_bad_answers_are_refused(predictions, references, error, message):
    metric = SquadV2()
    with pytest.raises(error, match=message):
        metric.compute(predictions=predictions, references=references)
    # Nothing of the failed rows is left: the metric goes on, and so does another.
    for good in (metric, SquadV2()):
        assert good.compute(predictions=ANSWERED, references=ANSWERS)["exact_match"] == pytest.approx(200 / 3)
    assert not list(Path(metric.data_dir).glob("*.arrow"))


def test_what_else_is_in_the_rows_of_answers_does_not_matter():
    answered = [{**row, "score": 3} for row in ANSWERED]
    references = [{**row, "context": "..."} for row in ANSWERS]
    expected = SquadV2().compute(predictions=ANSWERED, references=ANSWERS)
    assert SquadV2().compute(predictions=answered, references=references) == expected


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


def test_rows_one_by_one_are_checked():
    metric = Rouge()
    metric.add(prediction=PREDICTIONS[0], reference=REFERENCES[0])
    with pytest.raises(TypeError, match="`predictions` must hold strings, row 0 is 3"):
        metric.add(prediction=3, reference=REFERENCES[1])
    with pytest.raises(TypeError, match="`references` must hold strings, or lists of strings, row 0 is None"):
        metric.add(prediction=PREDICTIONS[1], reference=None)
    metric.add(prediction=PREDICTIONS[1], reference=REFERENCES[1:])
    assert metric.compute() == rouge(PREDICTIONS, REFERENCES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictions": [3], "references": ["x"]}, "`predictions` must hold strings, row 0 is 3"),
        ({"use_stemer": True}, "`compute` of Rouge has the options `use_stemmer`, got `use_stemer`"),
    ],
    ids=["row", "option"],
)
def test_what_compute_refuses_leaves_the_rows_that_were_added(given, message):
    metric = Rouge()
    metric.add_batch(predictions=PREDICTIONS, references=REFERENCES)
    with pytest.raises(TypeError, match=message):
        metric.compute(**given)
    assert metric.compute() == rouge(PREDICTIONS, REFERENCES)


def test_one_row_under_the_names_of_the_columns():
    combined = evaluate.combine([SacreBleu(), Chrf()])
    metric = SacreBleu()
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add(predictions=prediction, references=reference)
        combined.add(prediction, reference)
    assert metric.compute() == bleu(PREDICTIONS, REFERENCES)
    assert combined.compute()["chrf"] == chrf(PREDICTIONS, REFERENCES)["chrf"]


def test_several_references_from_pandas_or_numpy():
    pairs = [[reference, "another one"] for reference in REFERENCES]
    for given in (np.array(pairs), [np.array(row, dtype=object) for row in pairs]):
        assert Rouge().compute(predictions=np.array(PREDICTIONS), references=given) == rouge(PREDICTIONS, pairs)


def test_several_references():
    pairs = [[reference, "another one"] for reference in REFERENCES]
    assert SacreBleu().compute(predictions=PREDICTIONS, references=pairs) == bleu(PREDICTIONS, pairs)


def test_combine():
    combined = evaluate.combine([SacreBleu(), Chrf()]).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert combined["bleu"] == bleu(PREDICTIONS, REFERENCES)["bleu"]
    assert combined["chrf"] == chrf(PREDICTIONS, REFERENCES)["chrf"]


def test_unequal_numbers_are_refused_with_both():
    with pytest.raises(ValueError, match=r"`predictions` and `references` must have the same .* got 2 and 1"):
        SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES[:1])


@pytest.mark.parametrize("metric", [SacreBleu, Chrf, Ter, Rouge, Squad, SquadV2])
def test_no_rows_are_refused(metric):
    with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
        metric().compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="`predictions` must hold at least one row, got 0"):
        metric().compute()


# Process 0 has two batches, process 1 one row for the first metric, none for the second and no call for the third.
SCORE_A_SHARE = """
import json, sys
from hf_attn.metrics import Rouge, SacreBleu, SquadV2

process, folder, shares, answers = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
setting = {"num_process": 2, "process_id": process, "experiment_id": "shared", "cache_dir": folder, "timeout": 240}
rouge, bleu, squad = Rouge(**setting), SacreBleu(**setting), SquadV2(**setting)
for predictions, references in shares[process]:
    rouge.add_batch(predictions=predictions, references=references)
results = [rouge.compute()]
rows = [pair for share in shares for pair in share] if process == 0 else [([], [])]
for predictions, references in rows:
    bleu.add_batch(predictions=predictions, references=references)
results.append(bleu.compute(lowercase=True))
if process == 0:
    squad.add_batch(predictions=answers[0], references=answers[1])
results.append(squad.compute())
print(json.dumps(results))
"""


def test_two_processes_score_all_rows_once(tmp_path):
    predictions, references = [*PREDICTIONS, "Birds sing."], [[text] for text in [*REFERENCES, "A bird sang."]]
    shares = [
        [(predictions[:1], references[:1]), (predictions[1:2], references[1:2])],
        [(predictions[2:], references[2:])],
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", SCORE_A_SHARE]
    given = [str(tmp_path), json.dumps(shares), json.dumps([ANSWERED, ANSWERS])]
    processes = [
        subprocess.Popen([*command, str(process), *given], env=environment, stdout=subprocess.PIPE, text=True)
        for process in (0, 1)
    ]
    first, second = (json.loads(process.communicate(timeout=280)[0].splitlines()[-1]) for process in processes)
    assert first[0] == pytest.approx(rouge(predictions, references))
    assert first[1] == bleu(predictions, references, lowercase=True)
    assert first[2] == SquadV2().compute(predictions=ANSWERED, references=ANSWERS)
    assert second == [None, None, None]
    assert not list(tmp_path.rglob("*.arrow"))
