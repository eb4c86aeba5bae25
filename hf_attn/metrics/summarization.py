# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""ROUGE as pure functions on strings, by the library rouge-score, which repeats ROUGE-1.5.5 (Lin 2004).

- **Words** are runs of a-z and 0-9 in lower case; other letters separate words, so the numbers mean little outside
  English. Words of more than three letters are stemmed by Porter's rules unless `use_stemmer=False`: so is it done
  for published summarization scores (ROUGE-1.5.5's `-m`), and so are numbers without it lower.
- **Several references**: each ROUGE of a row is that with its best reference by F-score, as in rouge-score's
  `score_multi` and in Cachola et al. 2020 for SciTLDR; no jackknifing.
- **Sentences**, which ROUGE-Lsum alone sees: the lines of a text that has several; of other texts, what ends in
  `.`, `!` or `?` (with closing quotes or brackets) before white space and no small letter.
- A corpus has the mean of the F-scores of its rows.
"""

from collections.abc import Sequence
from functools import lru_cache

from rouge_score.rouge_scorer import RougeScorer

from ..text.sentences import split_sentences
from .rows import check_same_number, check_sentences, reference_rows


ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@lru_cache(maxsize=2)
def _scorer(use_stemmer: bool) -> RougeScorer:
    return RougeScorer(list(ROUGE_TYPES), use_stemmer=use_stemmer)


def _sentence_lines(text: str) -> str:
    """One sentence a line, as rouge-score wants them."""
    text = text.strip()
    return text if "\n" in text else "\n".join(split_sentences(text))


def rouge_rows(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    use_stemmer: bool = True,
) -> dict[str, list[float]]:
    """
    F-scores of ROUGE-1, -2, -L and -Lsum of each row, by the rules at the head of this module.

    Args:
        predictions: One string a row.
        references: One string a row, or one list of strings a row: several references, their number may vary.
        use_stemmer: Compare stems of words.

    Returns:
        `rouge1`, `rouge2`, `rougeL` and `rougeLsum`: one number from 0 to 100 a row.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows, unequal numbers of predictions and references, or a row without a reference.
    """
    check_sentences("predictions", predictions)
    rows = reference_rows("references", references)
    check_same_number("predictions", predictions, "references", rows)
    scorer = _scorer(use_stemmer)
    scores: dict[str, list[float]] = {name: [] for name in ROUGE_TYPES}
    for prediction, row in zip(predictions, rows, strict=True):
        score = scorer.score_multi([_sentence_lines(text) for text in row], _sentence_lines(prediction))
        for name in ROUGE_TYPES:
            scores[name].append(100.0 * score[name].fmeasure)
    return scores


def rouge(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    use_stemmer: bool = True,
) -> dict[str, float]:
    """
    Mean over rows of the F-scores of ROUGE-1, -2, -L and -Lsum; arguments and errors as for `rouge_rows`.

    Returns:
        `rouge1`, `rouge2`, `rougeL` and `rougeLsum`, 0 to 100.
    """
    rows = rouge_rows(predictions, references, use_stemmer=use_stemmer)
    return {name: sum(scores) / len(scores) for name, scores in rows.items()}
