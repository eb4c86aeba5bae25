# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Intervals and paired tests: against theory, against sacreBLEU's own, seeded, and the refusal of bad input."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from hf_attn.metrics import (
    approximate_randomization,
    bleu_statistics,
    confidence_interval,
    mean_statistics,
    paired_bootstrap,
)


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[str], list[str]]:
    """References and two systems that get each word wrong at a rate of 20% and 22%."""
    generator = np.random.default_rng(3)
    words = np.array([f"word{index}" for index in range(30)])
    rows = [words[generator.integers(30, size=generator.integers(5, 15))] for _ in range(120)]

    def worse(share: float) -> list[str]:
        return [" ".join(np.where(generator.random(len(row)) < share, "wrong", row)) for row in rows]

    return [" ".join(row) for row in rows], worse(0.2), worse(0.22)


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(30, 10, size=400)
    interval = confidence_interval(mean_statistics(values), num_resamples=4000)
    deviation = values.std() / np.sqrt(len(values))
    assert interval.score == pytest.approx(values.mean())
    assert (interval.lower, interval.upper) == pytest.approx(
        (values.mean() - 1.96 * deviation, values.mean() + 1.96 * deviation), abs=0.1 * deviation
    )
    narrow = confidence_interval(mean_statistics(values), level=0.5)
    assert interval.lower < narrow.lower < narrow.upper < interval.upper


def test_p_values_of_means_are_those_of_theory():
    generator = np.random.default_rng(1)
    baseline = generator.normal(30, 10, size=300)
    # Mean difference 0.5 at a standard error of 4 / sqrt(300): z = 2.17, two-sided p = 0.030.
    noise = generator.normal(size=300)
    system = baseline + 0.5 + 4 * (noise - noise.mean()) / noise.std()
    systems = mean_statistics(system), mean_statistics(baseline)
    bootstrap = paired_bootstrap(*systems, num_resamples=4000)
    assert bootstrap.difference == pytest.approx(0.5)
    assert bootstrap.p_value == pytest.approx(0.030, abs=0.01)
    assert bootstrap.wins == pytest.approx(0.985, abs=0.006)
    assert 0 < bootstrap.lower < 0.5 < bootstrap.upper
    assert approximate_randomization(*systems, num_trials=4000) == pytest.approx(0.030, abs=0.01)
    reverse = paired_bootstrap(*reversed(systems), num_resamples=4000)
    assert reverse.difference == pytest.approx(-0.5) and reverse.p_value == pytest.approx(bootstrap.p_value)


def test_bleu_is_resampled_as_sacrebleu_does(corpus):
    references, system, baseline = corpus
    statistics = bleu_statistics(system, references), bleu_statistics(baseline, references)
    expected = BLEU().corpus_score(system, [references], n_bootstrap=1000)
    interval = confidence_interval(statistics[0])
    assert interval.score == pytest.approx(expected.score)
    assert (interval.upper - interval.lower) / 2 == pytest.approx(expected._ci, rel=0.1)
    named = [("baseline", baseline), ("system", system)]
    _, results = PairedTest(named, {"BLEU": BLEU()}, [references], test_type="ar", n_samples=1000)()
    p_value = approximate_randomization(*statistics, num_trials=1000)
    assert p_value == pytest.approx(results["BLEU"][1].p_value, abs=0.05)
    assert paired_bootstrap(*statistics).p_value == pytest.approx(p_value, abs=0.07)


def test_seed_decides(corpus):
    references, system, baseline = corpus
    systems = bleu_statistics(system, references), bleu_statistics(baseline, references)
    for score in (
        lambda seed: confidence_interval(systems[0], num_resamples=50, seed=seed),
        lambda seed: paired_bootstrap(*systems, num_resamples=50, seed=seed),
        lambda seed: approximate_randomization(*systems, num_trials=50, seed=seed),
    ):
        assert score(1) == score(1) != score(2)


def test_equal_systems_do_not_differ():
    system = mean_statistics([0, 100, 50])
    assert paired_bootstrap(system, system) == (0, 0, 0, 1, 0)
    assert approximate_randomization(system, system, num_trials=100) == 1


def test_bad_input_is_refused():
    two, three = mean_statistics([1, 2]), mean_statistics([1, 2, 3])
    for compare in (paired_bootstrap, approximate_randomization):
        with pytest.raises(ValueError, match=r"`system` and `baseline` must have the same .* \(2, 2\) and \(3, 2\)"):
            compare(two, three)
    with pytest.raises(ValueError, match=r"`level` must be over 0 and under 1, such as 0.95, got 95"):
        confidence_interval(two, level=95)
    with pytest.raises(ValueError, match="`num_resamples` must be a whole number of at least 1, got 0"):
        paired_bootstrap(two, two, num_resamples=0)
    with pytest.raises(ValueError, match=r"`num_trials` must be a whole number of at least 1, got 0.5"):
        approximate_randomization(two, two, num_trials=0.5)
    with pytest.raises(ValueError, match="`values` must hold at least one row, got 0"):
        mean_statistics([])
    with pytest.raises(TypeError, match=r"`values` must hold numbers, row 1 is '2' \(str\)"):
        mean_statistics([1, "2"])
    with pytest.raises(ValueError, match="`values` must hold finite numbers, row 0 is nan"):
        mean_statistics([float("nan")])
