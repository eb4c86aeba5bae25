# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""BLEU, chrF and TER as pure functions on strings, and their row statistics for intervals and comparisons.

Two BLEU protocols are in use for the corpora that the recipes train on, and their numbers must not be mixed:

- **cased, detokenised** (the default): raw text in, sacreBLEU's `13a` tokenisation (Post 2018, "A Call for Clarity in
  Reporting BLEU Scores");
- **lower-cased, tokenised**, what Multi30k results are published in (Wu et al. 2021, "Good for Misconceived Reasons"):
  `tokenize="moses-de", lowercase=True`. Both sides are lower-cased, punctuation-normalised and tokenised as Moses'
  `lowercase.perl | normalize-punctuation.perl | tokenizer.perl` do, and scored as `multi-bleu.perl` does: BLEU-4 over
  space-separated tokens, no smoothing. This is the pipeline that made Multi30k's own `lc.norm.tok` files.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from .rows import check_same_number, check_sentences, reference_rows
from .significance import RowStatistics


MOSES_PREFIX = "moses-"
DEFAULT_LENGTH_BINS = (5, 10, 15, 20, 30, 40, 50)


class LengthBleu(NamedTuple):
    """BLEU of the sentences of about one length.

    Attributes:
        length: Mean source length of these sentences, in the units of `source_lengths`.
        bleu: Corpus BLEU of these sentences, 0 to 100.
        num_sentences: Their number.
    """

    length: float
    bleu: float
    num_sentences: int


@lru_cache(maxsize=8)
def _moses_tokenizer(language: str) -> Callable[[str], str]:
    """A function that normalises punctuation and tokenises one string as Moses' scripts do for `language`."""
    try:
        from sacremoses import MosesPunctNormalizer, MosesTokenizer  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            f"`tokenize='{MOSES_PREFIX}{language}'` needs the package sacremoses: install it with "
            "`pip install 'hf_attn[moses]'`"
        ) from error
    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)
    return lambda text: tokenizer.tokenize(normalizer.normalize(text), return_str=True)


def _checked(
    predictions: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Predictions, and references as sacreBLEU takes them: one list of `num_rows` strings a reference stream."""
    check_sentences("predictions", predictions)
    rows = reference_rows("references", references)
    check_same_number("predictions", predictions, "references", rows)
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                "`references` must hold the same number of references, at least one, in each row: "
                f"row {index} has {len(row)}, row 0 has {len(rows[0])}"
            )
    return list(predictions), [list(stream) for stream in zip(*rows, strict=True)]


def _bleu_metric(tokenize: str, lowercase: bool) -> tuple[BLEU, Callable[[str], str] | None]:
    """sacreBLEU's metric, and the function that prepares each string for it where sacreBLEU does not tokenise."""
    if tokenize.startswith(MOSES_PREFIX) and tokenize != MOSES_PREFIX:
        tokenize_moses = _moses_tokenizer(tokenize.removeprefix(MOSES_PREFIX))

        def prepare(text: str) -> str:
            return tokenize_moses(text.lower() if lowercase else text)

        return BLEU(tokenize="none", lowercase=lowercase, smooth_method="none", force=True), prepare
    if tokenize in BLEU.TOKENIZERS:
        return BLEU(tokenize=tokenize, lowercase=lowercase), None
    raise ValueError(
        f"`tokenize` must be one of {', '.join(BLEU.TOKENIZERS)} or {MOSES_PREFIX}<language> such as "
        f"{MOSES_PREFIX}de, got {tokenize!r}"
    )


def _bleu_inputs(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    tokenize: str,
    lowercase: bool,
) -> tuple[BLEU, list[str], list[list[str]]]:
    """sacreBLEU's metric and its inputs, checked and prepared."""
    prediction_rows, reference_streams = _checked(predictions, references)
    metric, prepare = _bleu_metric(tokenize, lowercase)
    if prepare is not None:
        prediction_rows = [prepare(text) for text in prediction_rows]
        reference_streams = [[prepare(text) for text in stream] for stream in reference_streams]
    return metric, prediction_rows, reference_streams


def _row_statistics(metric: BLEU | CHRF | TER, predictions: list[str], streams: list[list[str]]) -> RowStatistics:
    """The counts of each row that sacreBLEU's own paired tests add up."""
    rows = np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)
    return RowStatistics(rows, lambda sums: metric._compute_score_from_stats(sums.tolist()).score)


def bleu(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> dict[str, Any]:
    """Corpus BLEU-4 (Papineni et al. 2002) by sacreBLEU, with the signature that says what was computed.

    Args:
        predictions: One detokenised string a row.
        references: One string a row, or one list of strings a row (several references, as many in each row).
        tokenize: A tokenisation of sacreBLEU (`13a`, `intl`, `char`, `none`, ...), or `moses-<language>` such as
            `moses-de`: Moses' punctuation normalisation and tokenisation, scored as `multi-bleu.perl` does, without
            smoothing (the others smooth exponentially, sacreBLEU's default). It needs the package sacremoses.
        lowercase: Lower-case both sides first.

    Returns:
        `bleu` (0 to 100), `precisions` (of 1- to 4-grams, 0 to 100), `brevity_penalty` (0 to 1), `prediction_tokens`,
        `reference_tokens` (tokens of the reference nearest in length) and `signature`.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows, unequal numbers of predictions and references, or an unknown `tokenize`.
        ImportError: `tokenize` is a Moses one and sacremoses is not installed.
    """
    metric, prediction_rows, reference_streams = _bleu_inputs(predictions, references, tokenize, lowercase)
    score = metric.corpus_score(prediction_rows, reference_streams)
    signature = str(metric.get_signature())
    if tokenize.startswith(MOSES_PREFIX):
        signature = signature.replace("tok:none", f"tok:{tokenize}")
    return {
        "bleu": score.score,
        "precisions": list(score.precisions),
        "brevity_penalty": score.bp,
        "prediction_tokens": score.sys_len,
        "reference_tokens": score.ref_len,
        "signature": signature,
    }


def chrf(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    word_order: int = 0,
) -> dict[str, Any]:
    """Corpus chrF (Popović 2015) by sacreBLEU: F-score, beta 2, of character 1- to 6-grams, case kept.

    Args:
        predictions: One detokenised string a row.
        references: One string a row, or one list of strings a row (several references, as many in each row).
        word_order: Longest word n-gram counted besides; 2 gives chrF++ (Popović 2017).

    Returns:
        `chrf` (0 to 100) and `signature`.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows, or unequal numbers of predictions and references.
    """
    prediction_rows, reference_streams = _checked(predictions, references)
    metric = CHRF(word_order=word_order)
    score = metric.corpus_score(prediction_rows, reference_streams)
    return {"chrf": score.score, "signature": str(metric.get_signature())}


def ter(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    normalized: bool = False,
    no_punct: bool = False,
    case_sensitive: bool = False,
) -> dict[str, Any]:
    """Translation edit rate (Snover et al. 2006) by sacreBLEU: edits and shifts over reference words; lower is better.

    Of several references the one with the fewest edits counts; its length is the mean of their lengths.

    Args:
        predictions: One detokenised string a row.
        references: One string a row, or one list of strings a row (several references, as many in each row).
        normalized: Separate punctuation from words first, as Tercom's `-N`.
        no_punct: Drop punctuation first.
        case_sensitive: Keep case; Tercom lower-cases.

    Returns:
        `ter` (0 and up; 100 is as many edits as reference words), `num_edits`, `reference_words` and `signature`.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows, or unequal numbers of predictions and references.
    """
    prediction_rows, reference_streams = _checked(predictions, references)
    metric = TER(normalized=normalized, no_punct=no_punct, case_sensitive=case_sensitive)
    score = metric.corpus_score(prediction_rows, reference_streams)
    return {
        "ter": score.score,
        "num_edits": score.num_edits,
        "reference_words": score.ref_length,
        "signature": str(metric.get_signature()),
    }


def bleu_statistics(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> RowStatistics:
    """The n-gram counts of each row that add up to `bleu`; arguments and errors as there."""
    return _row_statistics(*_bleu_inputs(predictions, references, tokenize, lowercase))


def chrf_statistics(
    predictions: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]], *, word_order: int = 0
) -> RowStatistics:
    """The n-gram counts of each row that add up to `chrf`; arguments and errors as there."""
    return _row_statistics(CHRF(word_order=word_order), *_checked(predictions, references))


def ter_statistics(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    normalized: bool = False,
    no_punct: bool = False,
    case_sensitive: bool = False,
) -> RowStatistics:
    """Edits and reference words of each row, which add up to `ter`; arguments and errors as there."""
    metric = TER(normalized=normalized, no_punct=no_punct, case_sensitive=case_sensitive)
    return _row_statistics(metric, *_checked(predictions, references))


def bleu_by_length(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    source_lengths: Sequence[int],
    bins: Sequence[int] = DEFAULT_LENGTH_BINS,
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[LengthBleu]:
    """BLEU against sentence length, the points of figure 2 of Bahdanau et al. 2015.

    Where that figure plots all sentences up to a length, here each is in one bin.

    Args:
        predictions: One detokenised string a row.
        references: As for `bleu`.
        source_lengths: Length of each row's source, in words or tokens, as you like.
        bins: Rising upper limits, each included in its bin: `(5, 10)` makes the bins 0-5, 6-10 and over 10.
        tokenize: As for `bleu`.
        lowercase: As for `bleu`.

    Returns:
        One `LengthBleu` a bin that has sentences, from short to long.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows, unequal numbers of rows, or `bins` that do not rise.
    """
    prediction_rows, reference_streams = _checked(predictions, references)
    reference_rows = list(zip(*reference_streams, strict=True))
    check_same_number("predictions", predictions, "source_lengths", source_lengths)
    if not bins or any(lower >= upper for lower, upper in pairwise(bins)):
        raise ValueError(f"`bins` must be at least one upper limit, each above the one before, got {list(bins)}")
    points = []
    for lower, upper in zip([float("-inf"), *bins], [*bins, float("inf")], strict=True):
        chosen = [row for row, length in enumerate(source_lengths) if lower < length <= upper]
        if not chosen:
            continue
        score = bleu(
            [prediction_rows[row] for row in chosen],
            [reference_rows[row] for row in chosen],
            tokenize=tokenize,
            lowercase=lowercase,
        )
        mean_length = sum(source_lengths[row] for row in chosen) / len(chosen)
        points.append(LengthBleu(length=float(mean_length), bleu=score["bleu"], num_sentences=len(chosen)))
    return points
