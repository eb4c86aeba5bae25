# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Minimum Bayes risk: of several candidates the one that is, on average, most like all of them.

The rule is Kumar and Byrne's (2004); Eikema and Aziz (2020, "Is MAP Decoding All You Need?", section 7) estimate it
from unbiased samples, and Freitag et al. (2022, "High Quality Rather than High Model Probability") show what the
utility does to it. The utilities are sacreBLEU's sentence scores. Its own loops take a second for 32 candidates, since
they count the n-grams of a text anew for each pair; here they are counted once. sacreBLEU is imported when first used:
most who generate do without it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np


def _common(counters: Sequence[Counter]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of n-grams that two texts share, (num_texts, num_texts), and that each has, (num_texts,)."""
    columns = {ngram: column for column, ngram in enumerate(set(chain.from_iterable(counters)))}
    counts = np.zeros((len(counters), len(columns)))
    for row, counter in enumerate(counters):
        counts[row, [columns[ngram] for ngram in counter]] = list(counter.values())
    return np.stack([np.minimum(row, counts).sum(axis=1) for row in counts]), counts.sum(axis=1)


def _pairwise_chrf(texts: Sequence[str]) -> np.ndarray:
    """The F-score, beta 2, of the precision and recall of character n-grams, averaged over n (Popović 2015)."""
    from sacrebleu.metrics import CHRF
    from sacrebleu.metrics.helpers import extract_all_char_ngrams

    ngrams = [extract_all_char_ngrams(text, CHRF.CHAR_ORDER) for text in texts]
    precision, recall, num_orders = (np.zeros((len(texts), len(texts))) for _ in range(3))
    for counters in zip(*ngrams, strict=True):
        shared, totals = _common(counters)
        candidate, reference = np.meshgrid(totals, totals, indexing="ij")
        # Texts shorter than n have no n-grams; then n does not count.
        has_both = (candidate > 0) & (reference > 0)
        precision += np.divide(shared, candidate, out=np.zeros_like(shared), where=has_both)
        recall += np.divide(shared, reference, out=np.zeros_like(shared), where=has_both)
        num_orders += has_both
    precision, recall = (side / np.maximum(num_orders, 1) for side in (precision, recall))
    weighted = CHRF.BETA**2 * precision + recall
    numerator = 100 * (1 + CHRF.BETA**2) * precision * recall
    return np.divide(numerator, weighted, out=np.zeros_like(weighted), where=weighted > 0)


def _pairwise_bleu(texts: Sequence[str]) -> np.ndarray:
    """Sentence BLEU in 13a tokenisation, smoothed exponentially; n-grams longer than the candidate do not count."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.metrics.helpers import extract_word_ngrams

    tokenize = BLEU().tokenizer
    tokens = [tokenize(text.rstrip()).split() for text in texts]
    orders = range(1, 5)
    counts = [_common([extract_word_ngrams(words, order) for words in tokens]) for order in orders]
    scores = np.zeros((len(texts), len(texts)))
    for candidate, reference in np.ndindex(scores.shape):
        scores[candidate, reference] = BLEU.compute_bleu(
            correct=[int(shared[candidate, reference]) for shared, _ in counts],
            total=[int(totals[candidate]) for _, totals in counts],
            sys_len=len(tokens[candidate]),
            ref_len=len(tokens[reference]),
            smooth_method="exp",
            effective_order=True,
        ).score
    return scores


UTILITIES: dict[str, Callable[[Sequence[str]], np.ndarray]] = {"bleu": _pairwise_bleu, "chrf": _pairwise_chrf}
"""Name of a utility -> a function from texts to the scores, 0 to 100, of each (row) by each as reference (column)."""


def expected_utilities(candidates: Sequence[str], utility: str = "chrf") -> np.ndarray:
    """The mean sentence score of each candidate with every candidate, itself included, as the reference.

    Candidates that are equal count as often as they occur: of samples, the mean is an unbiased estimate of the
    expected utility under the model.

    Args:
        candidates: Texts, one or more; they may repeat.
        utility: `chrf` or `bleu`.

    Returns:
        float64 of shape `(num_candidates,)`, 0 to 100.

    Raises:
        TypeError: A candidate is not a string.
        ValueError: There are no candidates, or no such utility.
    """
    from ..metrics.rows import check_sentences

    check_sentences("candidates", candidates)
    check_utility(utility)
    counts = Counter(candidates)
    weights = np.array(list(counts.values()), dtype=np.float64)
    means = UTILITIES[utility](list(counts)) @ weights / weights.sum()
    by_text = dict(zip(counts, means, strict=True))
    return np.array([by_text[candidate] for candidate in candidates])


def rank_by_utility(candidates: Sequence[str], utility: str = "chrf") -> list[tuple[str, float]]:
    """The candidates, each once, from the highest expected utility to the lowest; ties keep their order.

    Args:
        candidates: As for `expected_utilities`, which also says what it raises.
        utility: As there.

    Returns:
        Pairs of a text and its expected utility, 0 to 100. The first is the choice of minimum Bayes risk.
    """
    utilities = dict(zip(candidates, expected_utilities(candidates, utility).tolist(), strict=True))
    return sorted(utilities.items(), key=lambda item: -item[1])


def check_utility(name: str) -> None:
    """Refuses a name that is no utility.

    Raises:
        ValueError: It is not in `UTILITIES`.
    """
    if name not in UTILITIES:
        raise ValueError(f"`mbr` must be one of {', '.join(sorted(UTILITIES))}, got {name!r}")
