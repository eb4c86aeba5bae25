# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Confidence intervals of a metric, and whether two systems differ: by resampling rows.

A metric takes part through its `RowStatistics`: numbers of each row whose sums give the score of the corpus, such as
the n-gram counts of BLEU. A resampled score then costs one sum, not one scoring. `bleu_statistics`, `chrf_statistics`
and `ter_statistics` make them, and `mean_statistics` does for every metric that is a mean over rows (ROUGE, exact
match, F1):

    system = mean_statistics(rouge_rows(predictions, references)["rougeL"])
    baseline = mean_statistics(rouge_rows(lead_3, references)["rougeL"])
    paired_bootstrap(system, baseline).p_value
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


# Numbers drawn at once: 32 MiB of float64.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class RowStatistics:
    """
    Numbers of each row whose sums give the score of the corpus.

    Attributes:
        rows: float64 of shape `(num_rows, num_statistics)`.
        score: The score from the sums over rows, of shape `(num_statistics,)`.
    """

    rows: np.ndarray
    score: Callable[[np.ndarray], float]

    def corpus_score(self) -> float:
        """The score of all rows."""
        return self.score(self.rows.sum(axis=0))


class ConfidenceInterval(NamedTuple):
    """A score with the bounds that its resampled values keep to.

    Attributes:
        score: Of all rows.
        lower: Lower bound.
        upper: Upper bound.
    """

    score: float
    lower: float
    upper: float


class PairedBootstrap(NamedTuple):
    """The difference of a system from a baseline.

    Attributes:
        difference: Score of the system minus score of the baseline.
        lower: Lower bound of the difference.
        upper: Upper bound of the difference.
        p_value: Probability of a difference at least as large, of either sign, among systems that do not differ.
        wins: Share of the resamples, 0 to 1, in which the system scores higher: 0.95 is Koehn's (2004) "better with
            95% confidence". For an error rate such as TER, a low share is good.
    """

    difference: float
    lower: float
    upper: float
    p_value: float
    wins: float


def mean_statistics(values: Sequence[float]) -> RowStatistics:
    """
    Statistics of a score that is the mean of the scores of the rows.

    Args:
        values: One score a row, such as those of `rouge_rows` or `squad_rows`.

    Raises:
        TypeError: A row is not a number; its index is given.
        ValueError: No rows, or a row is not finite.
    """
    if len(values) == 0:
        raise ValueError("`values` must hold at least one row, got 0: there is nothing to score")
    for index, value in enumerate(values):
        if not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"`values` must hold numbers, row {index} is {value!r} ({type(value).__name__})")
        if not np.isfinite(value):
            raise ValueError(f"`values` must hold finite numbers, row {index} is {value!r}")
    rows = np.array([values, np.ones(len(values))], dtype=np.float64).T
    return RowStatistics(rows, lambda sums: float(sums[0] / sums[1]))


def confidence_interval(
    statistics: RowStatistics, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> ConfidenceInterval:
    """
    Percentile bootstrap interval of a score (Efron and Tibshirani 1993, chapter 13): rows are drawn with replacement.

    Args:
        statistics: Of the system's rows.
        level: Share of the resampled scores between the bounds, over 0 and under 1.
        num_resamples: Number of resampled corpora.
        seed: Of the draws.

    Raises:
        ValueError: `level` or `num_resamples` is out of range.
    """
    _check_count("num_resamples", num_resamples)
    scores = [statistics.score(sums) for sums in _resampled_sums(statistics.rows, num_resamples, seed)]
    return ConfidenceInterval(statistics.corpus_score(), *_bounds(scores, level))


def paired_bootstrap(
    system: RowStatistics,
    baseline: RowStatistics,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> PairedBootstrap:
    """
    Paired bootstrap resampling (Koehn 2004): both systems are scored on the same resampled rows.

    The p-value is two-sided: resampled differences are moved to the mean 0 that they would have if the systems were
    equal, and those at least as large as the observed one are counted, plus one (Riezler and Maxwell 2005, section
    4.2). Equal systems have p-value 1; sacreBLEU, which counts the larger only, gives them the smallest one.

    Args:
        system: Statistics of the system's rows.
        baseline: Statistics of the same rows under the baseline, in the same order, by the same metric.
        level: Share of the resampled differences between the bounds, over 0 and under 1.
        num_resamples: Number of resampled corpora.
        seed: Of the draws.

    Raises:
        ValueError: Unequal numbers of rows or statistics; `level` or `num_resamples` is out of range.
    """
    _check_pair(system, baseline)
    _check_count("num_resamples", num_resamples)
    width = system.rows.shape[1]
    sums_of_both = _resampled_sums(np.hstack([system.rows, baseline.rows]), num_resamples, seed)
    differences = np.array([system.score(sums[:width]) - baseline.score(sums[width:]) for sums in sums_of_both])
    difference = system.corpus_score() - baseline.corpus_score()
    return PairedBootstrap(
        difference=difference,
        **dict(zip(("lower", "upper"), _bounds(differences, level), strict=True)),
        p_value=_p_value(differences - differences.mean(), difference),
        wins=float((differences > 0).mean()),
    )


def approximate_randomization(
    system: RowStatistics, baseline: RowStatistics, *, num_trials: int = 10_000, seed: int = 0
) -> float:
    """
    Two-sided p-value of the difference of two systems by approximate randomization (Riezler and Maxwell 2005).

    In each trial the outputs of every row change sides by the toss of a coin; trials with a difference at least as
    large as the observed one are counted, plus one.

    Args:
        system: Statistics of the system's rows.
        baseline: Statistics of the same rows under the baseline, in the same order, by the same metric.
        num_trials: Number of trials.
        seed: Of the coin.

    Raises:
        ValueError: Unequal numbers of rows or statistics, or `num_trials` is out of range.
    """
    _check_pair(system, baseline)
    _check_count("num_trials", num_trials)
    generator = np.random.default_rng(seed)
    system_sums, baseline_sums = system.rows.sum(axis=0), baseline.rows.sum(axis=0)
    row_differences = baseline.rows - system.rows
    differences = []
    for block in _blocks(num_trials, len(row_differences)):
        moved = generator.integers(2, size=(block, len(row_differences))).astype(np.float64) @ row_differences
        differences += [
            system.score(system_sums + change) - baseline.score(baseline_sums - change) for change in moved
        ]
    return _p_value(np.array(differences), system.corpus_score() - baseline.corpus_score())


def _resampled_sums(rows: np.ndarray, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Sums over rows, of shape `(num_statistics,)`, of each resample: how often a row is drawn is multinomial."""
    generator = np.random.default_rng(seed)
    shares = np.full(len(rows), 1 / len(rows))
    for block in _blocks(num_resamples, len(rows)):
        yield from generator.multinomial(len(rows), shares, size=block).astype(np.float64) @ rows


def _blocks(count: int, num_rows: int) -> Iterator[int]:
    """Numbers that add up to `count`, each of draws that fit in memory."""
    size = max(1, _BLOCK // num_rows)
    for start in range(0, count, size):
        yield min(size, count - start)


def _bounds(values: Sequence[float] | np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"`level` must be over 0 and under 1, such as 0.95, got {level!r}")
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def _p_value(differences: np.ndarray, observed: float) -> float:
    # Sums in another order differ in the last digits.
    as_large = np.abs(differences) >= abs(observed) - 1e-9
    return float((as_large.sum() + 1) / (len(differences) + 1))


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {count!r}")


def _check_pair(system: RowStatistics, baseline: RowStatistics) -> None:
    if system.rows.shape != baseline.rows.shape:
        raise ValueError(
            "`system` and `baseline` must have the same number of rows, and statistics of one metric, got shapes "
            f"{system.rows.shape} and {baseline.rows.shape}"
        )
