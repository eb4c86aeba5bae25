# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Noise against a slow obvious reference, blocks, mixtures, and equal draws for any workers and after a resume."""

import math
import re

import numpy as np
import pytest
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_attn.data import source_target_lengths, train_tokenizer, translation_preprocessor
from hf_attn.data.pretraining import (
    EpochNoise,
    SpanCorruption,
    TextInfilling,
    as_blocks,
    block_preprocessor,
    build_noise,
    documents,
    draw_once,
    largest_block,
    mix,
    sentinel_tokens,
)


MASK, END = 4, 2
SENTINELS = tuple(range(1000, 1200))
# Ordinary tokens are from 5 to 904.
INFILLING = TextInfilling(mask_token_id=MASK, end_ids=(END,))
PERMUTING = TextInfilling(mask_token_id=MASK, end_ids=(END,), permute_sentences=True)
CORRUPTION = SpanCorruption(sentinel_ids=SENTINELS, end_ids=(END,))
SHORT_SPANS = SpanCorruption(
    sentinel_ids=SENTINELS, start_ids=(0,), end_ids=(END,), mask_ratio=0.6, mean_span_length=1
)
NOISES = {"infilling": INFILLING, "permuting": PERMUTING, "corruption": CORRUPTION, "short spans": SHORT_SPANS}
LENGTHS = [1, 2, 3, 4, 7, 20, 64, 65, 130, 300]

SENTENCE = "the old king sent his three sons to look for golden apples beyond a dark green forest"
WORDS = SENTENCE.split()
STORIES = [
    " ".join(WORDS[(start + step * 5) % len(WORDS)] for step in range(4 + start % 9)).capitalize() + ". He left.\nSo?"
    for start in range(30)
]
TOKENIZER = train_tokenizer(STORIES, 400)


def block(length: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Different tokens, so that each is known by its id; in sentences of five."""
    tokens = np.random.default_rng(number).permutation(900)[:length] + 5
    return tokens, np.diff([*range(0, length, 5), length])


def drawn(noise, length: int, number: int):
    return noise(*block(length, number), np.random.default_rng(number))


@pytest.mark.parametrize("length", LENGTHS)
def test_infilling_hides_each_token_once_and_keeps_the_rest_in_order(length):
    for number in range(20):
        tokens, _ = block(length, number)
        source, labels, is_hidden = drawn(INFILLING, length, number)
        assert labels.tolist() == [*tokens, END]
        # Step by step: a mask eats the hidden tokens that come next, any other token is the next of the text.
        position = 0
        for token in source[:-1]:
            if token == MASK:
                while is_hidden[position]:
                    position += 1
            else:
                assert token == tokens[position] and not is_hidden[position]
                position += 1
        assert position == length and source[-1] == END and not is_hidden[-1]
        assert all(pair.tolist() != [MASK, MASK] for pair in np.lib.stride_tricks.sliding_window_view(source, 2))


@pytest.mark.parametrize("noise", [CORRUPTION, SHORT_SPANS], ids=["default", "short spans"])
@pytest.mark.parametrize("length", LENGTHS)
def test_spans_put_back_for_their_sentinels_give_the_text(noise, length):
    num_start = len(noise.start_ids)
    for number in range(20):
        tokens, _ = block(length, number)
        source, labels, is_hidden = drawn(noise, length, number)
        target = labels[num_start:-1].tolist()
        spans: dict[int, list[int]] = {}
        for token in target:
            if token in SENTINELS:
                assert token == SENTINELS[len(spans)]
                last = spans.setdefault(token, [])
            else:
                last.append(token)
        restored, used = [], []
        for token in source[num_start:-1].tolist():
            restored += spans.get(token, [token])
            used += [token] if token in spans else []
        assert restored == tokens.tolist()
        # One after the other, none empty but the last, which the source does not have.
        assert used == list(SENTINELS[: len(used)])
        assert [len(span) > 0 for span in spans.values()] == [True] * len(used) + [False]
        assert labels[is_hidden].tolist() == [token for span in spans.values() for token in span]


def test_permuted_sentences_are_whole_and_the_target_is_in_order():
    moved = 0
    for number in range(30):
        tokens, sentence_lengths = block(64, number)
        source, labels, is_hidden = drawn(PERMUTING, 64, number)
        assert labels.tolist() == [*tokens, END]
        kept = [token for token in source[:-1].tolist() if token != MASK]
        assert sorted(kept) == sorted(tokens[~is_hidden[:-1]])
        order = {token: index for index, token in enumerate(kept)}
        for sentence in np.split(tokens, np.cumsum(sentence_lengths)[:-1]):
            indices = [order[token] for token in sentence.tolist() if token in order]
            assert indices == list(range(indices[0], indices[0] + len(indices))) if indices else True
        moved += kept != [token for token in tokens.tolist() if token in order]
    assert moved == 30


@pytest.mark.parametrize("name", NOISES)
def test_lengths_are_known_before_anything_is_drawn(name):
    noise = NOISES[name]
    known = noise.lengths(np.array(LENGTHS))
    for length, expected in zip(LENGTHS, known.tolist(), strict=True):
        for number in range(10):
            task = drawn(noise, length, number)
            assert [len(task.input_ids), len(task.labels)] == expected
            assert len(task.is_hidden) == len(task.labels)


def test_rates_and_lengths_of_spans():
    hidden = {name: np.zeros(300) for name in ("infilling", "corruption")}
    masks, spans = 0, []
    for number in range(500):
        tokens, _ = block(300, number)
        task = drawn(INFILLING, 300, number)
        hidden["infilling"] += task.is_hidden[:-1]
        masks += (task.input_ids == MASK).sum()
        # A run of hidden tokens is a span; those of no token leave no run.
        edges = np.flatnonzero(np.diff(np.pad(task.is_hidden.astype(int), 1)))
        spans += (edges[1::2] - edges[::2]).tolist()
        corrupted = drawn(CORRUPTION, 300, number)
        hidden["corruption"] += ~np.isin(tokens, corrupted.input_ids)
    assert hidden["infilling"].sum() / 150_000 == pytest.approx(0.3, abs=1e-9)
    assert hidden["corruption"].sum() / 150_000 == pytest.approx(0.15, abs=1e-9)
    for counts in hidden.values():
        # No position of the text is favoured.
        rates = counts.reshape(10, 30).sum(axis=1)
        assert rates / rates.mean() == pytest.approx(np.ones(10), abs=0.1)
    assert masks / 500 == 30
    lengths = np.bincount([*spans, *[0] * (masks - len(spans))], minlength=8) / masks
    poisson = np.exp(-3) * 3.0 ** np.arange(8) / np.array([1, 1, 2, 6, 24, 120, 720, 5040])
    assert lengths[:8] == pytest.approx(poisson, abs=0.015)


def test_blocks_hold_all_text_in_order_and_break_between_sentences():
    split = Dataset.from_dict({"text": [*STORIES, " ".join(WORDS * 30)]})
    blocks = split.map(block_preprocessor(TOKENIZER, 40, 25), batched=True, with_indices=True, remove_columns=["text"])
    sizes = [len(row["tokens"]) for row in blocks]
    assert all(sum(row["sentence_lengths"]) == size for row, size in zip(blocks, sizes, strict=True))
    assert max(sizes) == 40 and sum(size >= 25 for size in sizes) > 0.8 * len(sizes)
    texts = [TOKENIZER.decode(row["tokens"]) for row in blocks]
    whole = "\n".join([*STORIES, " ".join(WORDS * 30)])
    assert re.sub(r"\s+", "", "".join(texts)) == re.sub(r"\s+", "", whole)
    # Only the last document has a sentence that is longer than a block.
    are_whole = [text.endswith((".", "?")) for text in texts]
    assert are_whole == sorted(are_whole, reverse=True) and sum(are_whole) > 10


def test_blocks_are_documents_where_these_are_long_enough():
    split = Dataset.from_dict({"text": STORIES})
    blocks = split.map(block_preprocessor(TOKENIZER, 100), batched=True, remove_columns=["text"])
    assert [TOKENIZER.decode(row["tokens"]) for row in blocks] == STORIES


def test_largest_block_fills_one_of_the_limits():
    for noise in NOISES.values():
        size = largest_block(noise, 128, 100)
        assert (noise.lengths(np.array(size)) <= (128, 100)).all()
        assert (noise.lengths(np.array(size + 1)) > (128, 100)).any()
    few = SpanCorruption(sentinel_ids=SENTINELS[:4], end_ids=(END,))
    size = largest_block(few, 1000, 1000)
    assert few.fits(size) and not few.fits(size + 1)
    message = re.escape("must hold a block of one token, which makes 2 source and 2 target tokens, got 1 and 1")
    with pytest.raises(ValueError, match=message):
        largest_block(INFILLING, 1, 1)


def corpora() -> dict[str, Dataset]:
    split = Dataset.from_dict({"text": STORIES})
    blocks = split.map(block_preprocessor(TOKENIZER, 60), batched=True, remove_columns=["text"])
    pairs = Dataset.from_dict({"en": STORIES[:4], "de": STORIES[4:8]})
    translated = pairs.map(
        translation_preprocessor(TOKENIZER, "en", "de", source_prefix="translate: "),
        batched=True,
        remove_columns=pairs.column_names,
    )
    noise = build_noise(TOKENIZER, "text_infilling")
    return {"stories": draw_once(blocks, noise), "pairs": as_blocks(translated)}


def loaded(rows: Dataset, **options) -> list[dict]:
    """The rows in order, from a data loader."""
    return [row for batch in DataLoader(rows, batch_size=5, collate_fn=list, **options) for row in batch]


def test_draws_depend_on_seed_epoch_and_row_alone():
    rows, _ = mix(corpora())
    noise = build_noise(TOKENIZER, "text_infilling")
    epoch_noise = EpochNoise(noise, seed=3)
    training = rows.with_transform(epoch_noise)
    first = loaded(training)
    assert first == loaded(training) == [training[row] for row in range(len(training))]
    workers = {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True}
    loader = DataLoader(training, batch_size=5, collate_fn=list, **workers)
    assert [row for batch in loader for row in batch] == first
    # The epoch reaches workers that live on, and a process that starts with a later one.
    epoch_noise.set_epoch(1)
    second = [row for batch in loader for row in batch]
    resumed = EpochNoise(noise, seed=3)
    resumed.set_epoch(1)
    assert second == loaded(rows.with_transform(resumed)) != first
    assert loaded(rows.with_transform(EpochNoise(noise, seed=4))) != first
    # Translations are the same in every epoch, and all lengths are those that the sampler gets.
    assert second[-4:] == first[-4:]
    lengths = [[len(row["input_ids"]), len(row["labels"])] for row in second]
    assert lengths == source_target_lengths(training).tolist()
    text = TOKENIZER.decode(second[0]["labels"], skip_special_tokens=True)
    assert text == STORIES[0] and TOKENIZER.mask_token_id in second[0]["input_ids"]


def test_shares_of_a_mixture():
    parts = corpora()
    sizes = {name: int(source_target_lengths(part).sum()) for name, part in parts.items()}
    rows, repeats = mix(parts)
    assert repeats == {"stories": 1.0, "pairs": 1.0} and len(rows) == 34
    rows, repeats = mix(parts, {"stories": 1, "pairs": 3})
    assert repeats["stories"] == 1.0
    assert sizes["pairs"] * repeats["pairs"] == pytest.approx(3 * sizes["stories"])
    assert rows["row"] == list(range(len(rows)))
    sources = [tuple(source) for source in rows["input_ids"]]
    counts = [sources.count(tuple(source)) for source in parts["pairs"]["input_ids"]]
    assert set(counts) <= {int(repeats["pairs"]), int(repeats["pairs"]) + 1}
    assert len(rows) == 30 + sum(counts) == 30 + round(4 * repeats["pairs"])
    _, repeats = mix(parts, temperature=2)
    assert repeats["pairs"] == pytest.approx((sizes["stories"] / sizes["pairs"]) ** 0.5)


def test_a_row_that_comes_twice_has_two_draws():
    part = {name: part for name, part in corpora().items() if name == "stories"}
    rows, _ = mix(part | {"more": part["stories"].select(range(15))}, {"stories": 1, "more": 1})
    training = rows.with_transform(EpochNoise(build_noise(TOKENIZER, "text_infilling")))
    pairs = [(training[row], training[30 + row]) for row in range(15)]
    assert all(first["labels"] == second["labels"] for first, second in pairs)
    assert sum(first["input_ids"] != second["input_ids"] for first, second in pairs) > 10


def test_documents_are_the_distinct_texts_of_the_columns():
    split = Dataset.from_dict({"id": [1, 2, 3], "text": ["b", "a", "b"], "context": ["x", "x", "b"]})
    assert documents(split, "train of qa", ["context", "text"])["text"] == ["x", "b", "b", "a"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["dialogue"], "`train of chat` must have the columns `dialogue`, got only `text`, `number`"),
        (["text"], "`text` must not be empty, got ' ' in row 1 of `train of chat`"),
        (["number"], "`number` must be text, got 1 in row 0 of `train of chat`"),
    ],
)
def test_documents_that_cannot_be_used(columns, message):
    split = Dataset.from_dict({"text": ["a", " "], "number": [1, 2]})
    with pytest.raises(ValueError, match=re.escape(message)):
        documents(split, "train of chat", columns)


def test_special_tokens_of_an_objective():
    tokenizer = train_tokenizer(STORIES, 300)
    noise = build_noise(tokenizer, "text_infilling", mask_ratio=0.5)
    assert (noise.mask_token_id, noise.start_ids, noise.end_ids, noise.mask_ratio) == (4, (), (2,), 0.5)
    with pytest.raises(
        ValueError, match="needs a tokenizer with the tokens <extra_id_0> to <extra_id_99>, this one has 0"
    ):
        build_noise(tokenizer, "span_corruption")
    tokenizer.add_special_tokens({"extra_special_tokens": sentinel_tokens()})
    ids = build_noise(tokenizer, "span_corruption").sentinel_ids
    assert len(ids) == 100 and tokenizer.decode([ids[0], ids[99]]).split() == ["<extra_id_0><extra_id_99>"]
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="'text_infilling' needs a tokenizer with a mask token"):
        build_noise(tokenizer, "text_infilling")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_noise(TOKENIZER, "infilling"),
            "`objective` must be one of 'text_infilling', 'span_corruption', got",
        ),
        (
            lambda: build_noise(TOKENIZER, "span_corruption", permute_sentences=True),
            "`permute_sentences` needs the `objective` 'text_infilling'",
        ),
        (
            lambda: build_noise(TOKENIZER, "text_infilling", mask_ratio=1.0),
            "`mask_ratio` must be greater than 0 and less",
        ),
        (
            lambda: build_noise(TOKENIZER, "text_infilling", mean_span_length=0.5),
            "`mean_span_length` must be at least 1 token, got 0.5",
        ),
        (lambda: block_preprocessor(TOKENIZER, 10, 11), "`min_block_length` must be from 1 to 10, the tokens of the"),
        (
            lambda: mix(corpora(), {"pairs": 1}),
            "`weight` must be given for all corpora or for none, `stories` has none",
        ),
        (
            lambda: mix(corpora(), {"pairs": 1, "stories": 0}),
            "`weight` must be a number greater than 0, got 0 for `stories`",
        ),
        (
            lambda: mix(corpora(), {"pairs": 1, "stories": math.nan}),
            "`weight` must be a number greater than 0, got nan for `stories`",
        ),
        (
            lambda: mix(corpora(), {"pairs": 1e10, "stories": 1}),
            "`weight` of the corpora must lie closer together: a pass over the mixture would be",
        ),
        (lambda: mix(corpora(), temperature=0.5), "`temperature` must be at least 1, got 0.5"),
        (
            lambda: mix(corpora(), {"pairs": 1, "stories": 1}, 2.0),
            "`temperature` has no effect with the `weight` of corpora, got 2.0",
        ),
    ],
)
def test_refused_options(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
