# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Text without labels made into tasks: blocks of sentences, spans of them hidden anew each epoch, corpora mixed.

A task is drawn from (seed, epoch, row) alone, so it is the same for any number of processes and workers and after a
resume. How long a source and a target become is known before anything is drawn: batches by a token budget need that.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from typing_extensions import override

from ..text.sentences import split_sentences
from .readers import require_columns
from .texts import check_texts
from .translation import source_target_lengths


TEXT = "text"
"""Column of the documents."""

NUM_SENTINELS = 100
"""As many as T5 has."""

# Between documents that share a block.
_SEPARATOR = "\n"
# Of a mixture: its order alone takes 8 bytes a row.
_MAX_ROWS = 10**8


class Task(NamedTuple):
    """A source and its target.

    Attributes:
        input_ids: int64 of shape `(source_length,)`.
        labels: int64 of shape `(target_length,)`.
        is_hidden: bool of shape `(target_length,)`: tokens of the text that the source does not show.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    is_hidden: np.ndarray


class Noise(Protocol):
    """Hides a part of a block of text."""

    def lengths(self, num_tokens: np.ndarray) -> np.ndarray:
        """Source and target tokens of blocks of `num_tokens` tokens, whatever is drawn: int64, a last axis of 2."""
        ...

    def fits(self, num_tokens: int) -> bool:
        """Whether a block may have so many tokens."""
        ...

    def __call__(self, tokens: np.ndarray, sentence_lengths: np.ndarray, generator: np.random.Generator) -> Task:
        """Draws a task from a block, int64 of shape `(num_tokens,)`, of sentences of so many tokens each."""
        ...


@dataclass(frozen=True, kw_only=True)
class _SpanNoise:
    """The base of both kinds of noise: the numbers of hidden tokens and spans, and their positions.

    A share `mask_ratio` of the tokens, at least one, is hidden in spans of `mean_span_length` tokens on average; both
    numbers are rounded and then depend on the length of the block alone. The gaps between the tokens that stay, in
    which the spans lie, are drawn evenly; no two lie in the same, so that spans never touch.

    Raises:
        ValueError: `mask_ratio` is not between 0 and 1, or `mean_span_length` is below 1.
    """

    mask_ratio: float
    mean_span_length: float
    start_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"`mask_ratio` must be greater than 0 and less than 1, got {self.mask_ratio}")
        if self.mean_span_length < 1:
            raise ValueError(f"`mean_span_length` must be at least 1 token, got {self.mean_span_length}")

    def counts(self, num_tokens: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """Hidden tokens and spans in blocks of `num_tokens` tokens."""
        num_tokens = np.asarray(num_tokens, dtype=np.int64)
        num_hidden = np.clip(np.rint(num_tokens * self.mask_ratio).astype(np.int64), 1, num_tokens)
        num_spans = np.rint(num_hidden / self.mean_span_length).astype(np.int64)
        return num_hidden, np.clip(num_spans, 1, num_tokens - num_hidden + 1)

    def fits(self, num_tokens: int) -> bool:
        """Whether a block may have so many tokens: always."""
        return True

    def _hide(
        self, num_tokens: int, lengths: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mask of hidden tokens, bool of shape `(num_tokens,)`; and the kept token that each span precedes."""
        num_kept = num_tokens - int(lengths.sum())
        gaps = np.sort(generator.choice(num_kept + 1, len(lengths), replace=False))
        ends = gaps + np.cumsum(lengths)
        changes = np.zeros(num_tokens + 1, dtype=np.int64)
        changes[ends - lengths] += 1
        changes[ends] -= 1
        return np.cumsum(changes[:-1]) > 0, gaps

    def _task(self, source: np.ndarray, target: np.ndarray, is_hidden: np.ndarray) -> Task:
        """The task of a source and a target, with the special tokens around both."""
        source, target = (
            np.concatenate([self.start_ids, tokens, self.end_ids]).astype(np.int64) for tokens in (source, target)
        )
        return Task(source, target, np.pad(is_hidden, (len(self.start_ids), len(self.end_ids))))


@dataclass(frozen=True, kw_only=True)
class TextInfilling(_SpanNoise):
    """The text with a mask token for each hidden span becomes the whole text, as in BART (Lewis et al. 2020, 2.2).

    Lengths of spans are Poisson distributed given their sum. A span of no tokens puts a mask where nothing is missing.
    Unlike there spans never touch, and the numbers of tokens and spans are fixed by the length of the block.

    Args:
        mask_token_id: Stands for a span.
        mask_ratio: Share of hidden tokens.
        mean_span_length: Mean of the Poisson distribution, in tokens.
        permute_sentences: Also put the sentences of the source in a random order.
        start_ids, end_ids: Special tokens around each source and target.
    """

    mask_token_id: int
    mask_ratio: float = 0.3
    mean_span_length: float = 3.0
    permute_sentences: bool = False

    def lengths(self, num_tokens: np.ndarray) -> np.ndarray:
        """As `Noise.lengths`."""
        num_hidden, num_spans = self.counts(num_tokens)
        num_special = len(self.start_ids) + len(self.end_ids)
        return np.stack([num_tokens - num_hidden + num_spans, num_tokens], axis=-1) + num_special

    def __call__(self, tokens: np.ndarray, sentence_lengths: np.ndarray, generator: np.random.Generator) -> Task:
        """As `Noise.__call__`."""
        num_hidden, num_spans = self.counts(len(tokens))
        order = np.arange(len(tokens))
        if self.permute_sentences:
            sentences = np.split(order, np.cumsum(sentence_lengths)[:-1])
            order = np.concatenate([sentences[index] for index in generator.permutation(len(sentences))])
        # Poisson variables given their sum are multinomial: each hidden token falls into any span alike.
        lengths = np.bincount(generator.integers(num_spans, size=num_hidden), minlength=num_spans)
        hides, gaps = self._hide(len(tokens), lengths, generator)
        source = np.insert(tokens[order[~hides]], gaps, self.mask_token_id)
        is_hidden = np.zeros(len(tokens), dtype=bool)
        is_hidden[order] = hides
        return self._task(source, tokens, is_hidden)


@dataclass(frozen=True, kw_only=True)
class SpanCorruption(_SpanNoise):
    """The text with a sentinel for each hidden span becomes the spans, each behind its sentinel, as in T5.

    Raffel et al. 2020, section 3.1.4 and figure 2: a last sentinel ends the target. Each way to cut the hidden tokens
    into so many spans of at least one is as likely as any other.

    Args:
        sentinel_ids: Ids of the sentinels, in order.
        mask_ratio: Share of hidden tokens.
        mean_span_length: Mean length of a span, in tokens.
        start_ids, end_ids: Special tokens around each source and target.
    """

    sentinel_ids: tuple[int, ...]
    mask_ratio: float = 0.15
    mean_span_length: float = 3.0

    @override
    def fits(self, num_tokens: int) -> bool:
        """Whether there are sentinels enough for the spans of a block of so many tokens."""
        return int(self.counts(num_tokens)[1]) < len(self.sentinel_ids)

    def lengths(self, num_tokens: np.ndarray) -> np.ndarray:
        """As `Noise.lengths`."""
        num_hidden, num_spans = self.counts(num_tokens)
        num_special = len(self.start_ids) + len(self.end_ids)
        return np.stack([num_tokens - num_hidden + num_spans, num_hidden + num_spans + 1], axis=-1) + num_special

    def __call__(self, tokens: np.ndarray, sentence_lengths: np.ndarray, generator: np.random.Generator) -> Task:
        """As `Noise.__call__`; sentences play no part."""
        num_hidden, num_spans = (int(count) for count in self.counts(len(tokens)))
        cuts = np.sort(generator.choice(num_hidden - 1, num_spans - 1, replace=False)) + 1
        bounds = np.concatenate([[0], cuts, [num_hidden]]).astype(np.int64)
        hides, gaps = self._hide(len(tokens), np.diff(bounds), generator)
        sentinels = np.asarray(self.sentinel_ids[: num_spans + 1], dtype=np.int64)
        source = np.insert(tokens[~hides], gaps, sentinels[:-1])
        target = np.insert(tokens[hides], bounds, sentinels)
        is_hidden = np.insert(np.ones(num_hidden, dtype=bool), bounds, False)
        return self._task(source, target, is_hidden)


OBJECTIVES: dict[str, type[TextInfilling] | type[SpanCorruption]] = {
    "text_infilling": TextInfilling,
    "span_corruption": SpanCorruption,
}


def sentinel_tokens() -> list[str]:
    """The sentinels by their names in T5's vocabulary."""
    return [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)]


def build_noise(
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    mask_ratio: float | None = None,
    mean_span_length: float = 3.0,
    permute_sentences: bool = False,
) -> TextInfilling | SpanCorruption:
    """The noise of an objective in the special tokens of a tokenizer.

    Args:
        tokenizer: Has a mask token, or the sentinels.
        objective: A key of `OBJECTIVES`.
        mask_ratio: Share of hidden tokens. None: that of the paper, 0.3 or 0.15.
        mean_span_length: In tokens.
        permute_sentences: As for `TextInfilling`.

    Raises:
        ValueError: The objective is unknown; the tokenizer lacks its special tokens; sentences are to be permuted in
            span corruption, whose targets do not give their order; or a number is out of range.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {', '.join(map(repr, OBJECTIVES))}, got {objective!r}")
    special = tokenizer("")["input_ids"]
    options: dict[str, Any] = {"start_ids": tuple(special[:-1]), "end_ids": tuple(special[-1:])}
    options["mean_span_length"] = mean_span_length
    if mask_ratio is not None:
        options["mask_ratio"] = mask_ratio
    if objective == "text_infilling":
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "`objective` 'text_infilling' needs a tokenizer with a mask token, which this one lacks: use "
                "'span_corruption', or start from fresh weights with `model_config`"
            )
        return TextInfilling(mask_token_id=tokenizer.mask_token_id, permute_sentences=permute_sentences, **options)
    if permute_sentences:
        raise ValueError(
            "`permute_sentences` needs the `objective` 'text_infilling': the targets of 'span_corruption' do not tell "
            "the order of the sentences"
        )
    ids = [tokenizer.convert_tokens_to_ids(token) for token in sentinel_tokens()]
    known = [token_id for token_id in ids if isinstance(token_id, int) and token_id != tokenizer.unk_token_id]
    if len(known) < NUM_SENTINELS:
        raise ValueError(
            f"`objective` 'span_corruption' needs a tokenizer with the tokens <extra_id_0> to "
            f"<extra_id_{NUM_SENTINELS - 1}>, this one has {len(known)} of them: use 'text_infilling', or start from "
            "fresh weights with `model_config`"
        )
    return SpanCorruption(sentinel_ids=tuple(known), **options)


def largest_block(noise: Noise, max_source_length: int, max_target_length: int) -> int:
    """Tokens of the largest block whose source and target keep within the limits.

    Raises:
        ValueError: Not even a block of one token does.
    """
    limits = (max_source_length, max_target_length)
    size = 0
    while noise.fits(size + 1) and bool((noise.lengths(np.asarray(size + 1)) <= limits).all()):
        size += 1
    if size == 0:
        shortest = noise.lengths(np.asarray(1)).tolist()
        raise ValueError(
            "`max_source_length` and `max_target_length` must hold a block of one token, which makes "
            f"{shortest[0]} source and {shortest[1]} target tokens, got {max_source_length} and {max_target_length}"
        )
    return size


def documents(split: Dataset, name: str, columns: Sequence[str]) -> Dataset:
    """The distinct texts of some columns, one column after the other, as a column `text`.

    Args:
        split: Rows.
        name: Name of the split, for messages.
        columns: Columns of text.

    Raises:
        ValueError: A column is missing (those there are get listed), or a text is empty, blank or no string.
    """
    require_columns(split, name, columns)
    parts = []
    for column in columns:
        texts = split[column]
        check_texts(column, texts, lambda row: f"row {row} of `{name}`")
        first: dict[str, int] = {}
        for row, text in enumerate(texts):
            first.setdefault(text, row)
        part = split.select_columns([column])
        if column != TEXT:
            part = part.rename_column(column, TEXT)
        parts.append(part.select(first.values()) if len(first) < len(part) else part)
    return concatenate_datasets(parts)


def block_preprocessor(
    tokenizer: PreTrainedTokenizerBase, max_block_length: int, min_block_length: int = 1
) -> Callable[..., dict[str, list[list[int]]]]:
    """Returns the function that `Dataset.map(..., batched=True)` takes to make documents into blocks of tokens.

    A document of more than `max_block_length` tokens is cut between sentences, and a sentence that is itself longer
    anywhere. One of fewer than `min_block_length` tokens shares its block with those after it, behind a new line:
    equal numbers pack all blocks full. Blocks end where a batch of `Dataset.map` does.

    The function takes rows with `text` and returns fewer or more: `tokens`, without special tokens, and
    `sentence_lengths`, whose sum is the number of tokens.

    Args:
        tokenizer: Encodes the sentences, each with the white space before it.
        max_block_length, min_block_length: In tokens.

    Raises:
        ValueError: `min_block_length` is not from 1 to `max_block_length`.
    """
    if not 1 <= min_block_length <= max_block_length:
        raise ValueError(
            f"`min_block_length` must be from 1 to {max_block_length}, the tokens of the largest block within "
            f"`max_source_length` and `max_target_length`, got {min_block_length}"
        )
    separator = tokenizer(_SEPARATOR, add_special_tokens=False)["input_ids"]

    def preprocess(batch: Mapping[str, Sequence[str]], indices: Sequence[int] | None = None) -> dict[str, Any]:
        pieces = [_sentence_pieces(text) for text in batch[TEXT]]
        flat = [piece for sentences in pieces for piece in sentences]
        encoded = iter(tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"])
        tokenized = ([next(encoded) for _ in sentences] for sentences in pieces)
        blocks = list(_pack(tokenized, separator, min_block_length, max_block_length))
        return {
            "tokens": [[token for sentence in block for token in sentence] for block in blocks],
            "sentence_lengths": [[len(sentence) for sentence in block] for block in blocks],
        }

    return preprocess


def _sentence_pieces(text: str) -> list[str]:
    """The sentences with the white space before them; together they are the text without the white space behind it."""
    pieces, end = [], 0
    for sentence in split_sentences(text):
        start = text.index(sentence, end)
        pieces.append(text[end : start + len(sentence)])
        end = start + len(sentence)
    return pieces


def _pack(
    documents: Iterable[list[list[int]]], separator: list[int], smallest: int, largest: int
) -> Iterator[list[list[int]]]:
    block: list[list[int]] = []
    size = 0
    for sentences in documents:
        pieces = [
            sentence[start : start + largest] for sentence in sentences for start in range(0, len(sentence), largest)
        ]
        for number, piece in enumerate(pieces):
            joint = separator if block and number == 0 else []
            if block and size + len(joint) + len(piece) > largest:
                yield block
                block, size, joint = [], 0, []
            block.append(joint + piece)
            size += len(joint) + len(piece)
        if size >= smallest:
            yield block
            block, size = [], 0
    if block:
        yield block


def draw_once(blocks: Dataset, noise: Noise, seed: int = 0) -> Dataset:
    """Adds one draw of the noise to blocks, that of epoch 0: `input_ids`, `labels`, and `is_hidden`, as in `Task`.

    Its lengths are those of every draw. For held-out text it is the task itself.

    Args:
        blocks: Rows with `tokens` and `sentence_lengths`.
        noise: The noise to draw.
        seed: Seed of the noise.
    """

    def draw(batch: Mapping[str, list], rows: list[int]) -> dict[str, list]:
        tasks = [
            _draw(noise, tokens, sentence_lengths, (seed, 0, row))
            for tokens, sentence_lengths, row in zip(batch["tokens"], batch["sentence_lengths"], rows, strict=True)
        ]
        return {name: [getattr(task, name).tolist() for task in tasks] for name in Task._fields}

    return blocks.map(draw, batched=True, with_indices=True)


def _draw(noise: Noise, tokens: Sequence[int], sentence_lengths: Sequence[int], seed: tuple[int, int, int]) -> Task:
    block = np.asarray(tokens, dtype=np.int64), np.asarray(sentence_lengths, dtype=np.int64)
    return noise(*block, np.random.default_rng(seed))


def as_blocks(tokenized: Dataset) -> Dataset:
    """Rows that are tasks already, such as translations, with the columns of those that `draw_once` returns.

    Their `tokens` are none, so that `EpochNoise` leaves them alone; every target token is one to predict.

    Args:
        tokenized: Rows with `input_ids` and `labels`.
    """

    def columns(batch: Mapping[str, list]) -> dict[str, list]:
        nothing = np.zeros(0, dtype=np.int64)
        return {
            "tokens": [nothing for _ in batch["labels"]],
            "sentence_lengths": [nothing for _ in batch["labels"]],
            "is_hidden": [[True] * len(labels) for labels in batch["labels"]],
        }

    return tokenized.select_columns(["input_ids", "labels"]).map(columns, batched=True)


class EpochNoise(TrainerCallback):
    """The transform of a training set, for `Dataset.with_transform`: noise drawn anew each epoch.

    Rows have the columns of `draw_once` and `row`, by which `mix` numbers them. The results are lists `input_ids` and
    `labels`; `DataCollatorForSeq2Seq` pads. Rows without `tokens` stay as they are. It is also the callback by which
    it gets the epoch from a `Trainer`.

    Args:
        noise: The noise to draw.
        seed: Seed of the noise.
    """

    def __init__(self, noise: Noise, seed: int = 0):
        self.noise = noise
        self.seed = seed
        # Shared with the worker processes that live on from epoch to epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0."""
        self._epoch.fill_(epoch)

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_epoch_begin`: sets the epoch that begins, or goes on after a resume."""
        self.set_epoch(int(state.epoch or 0))

    def __call__(self, batch: Mapping[str, list]) -> dict[str, list[list[int]]]:
        """Draws the tasks of a batch of rows."""
        epoch = int(self._epoch)
        drawn: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        for position, tokens in enumerate(batch["tokens"]):
            if len(tokens):
                seed = (self.seed, epoch, batch["row"][position])
                task = _draw(self.noise, tokens, batch["sentence_lengths"][position], seed)
                drawn["input_ids"].append(task.input_ids.tolist())
                drawn["labels"].append(task.labels.tolist())
            else:
                for name, column in drawn.items():
                    column.append(batch[name][position])
        return drawn


def check_weight(weight: float, of: str = "") -> None:
    """
    Refuses a weight that is no share of a mixture.

    Args:
        weight: The weight.
        of: Its corpus, for the message, such as " for `novels`".

    Raises:
        ValueError: It is no finite number greater than 0.
    """
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not (is_number and 0 < weight < math.inf):
        raise ValueError(f"`weight` must be a number greater than 0, got {weight!r}{of}")


def mix(
    corpora: Mapping[str, Dataset], weights: Mapping[str, float | None] | None = None, temperature: float = 1.0
) -> tuple[Dataset, dict[str, float]]:
    """A mixture of corpora whose shares of the source and target tokens of an epoch are as wanted.

    Without weights a corpus of n tokens gets a share that grows with n^(1/temperature): 1 is in proportion, more
    gives small corpora more (Raffel et al. 2020, section 3.5.2). All rows of every corpus come at least once an
    epoch; those of a corpus with more than its proportion come again, under another number `row` and so with other
    noise. An epoch of very uneven weights is therefore long.

    Args:
        corpora: Rows by the name of the corpus, with the columns of `draw_once`; read as `source_target_lengths` does.
        weights: Share of tokens by the name of the corpus, in any unit; for all corpora or for none.
        temperature: At least 1. Has no effect with weights.

    Returns:
        The rows, numbered from 0 in the column `row`; and how often each corpus comes an epoch, the least 1.0.

    Raises:
        ValueError: Some corpora have weights and others none; a weight is not above 0; `temperature` is below 1, or
            given beside weights.
    """
    num_tokens = {name: int(source_target_lengths(split).sum()) for name, split in corpora.items()}
    given = {name: weight for name in corpora if (weight := (weights or {}).get(name)) is not None}
    if given and len(given) < len(corpora):
        missing = ", ".join(f"`{name}`" for name in corpora if name not in given)
        raise ValueError(f"`weight` must be given for all corpora or for none, {missing} has none")
    for name, weight in given.items():
        check_weight(weight, f" for `{name}`")
    if temperature < 1:
        raise ValueError(f"`temperature` must be at least 1, got {temperature}")
    if given and temperature != 1:
        raise ValueError(f"`temperature` has no effect with the `weight` of corpora, got {temperature}: drop one")
    shares = given or {name: count ** (1 / temperature) for name, count in num_tokens.items()}
    densities = {name: shares[name] / num_tokens[name] for name in corpora}
    repeats = {name: density / min(densities.values()) for name, density in densities.items()}
    num_rows = sum(round(len(split) * repeats[name]) for name, split in corpora.items())
    if num_rows > _MAX_ROWS:
        raise ValueError(
            "`weight` of the corpora must lie closer together: a pass over the mixture would be "
            f"{num_rows:,} blocks, and at most {_MAX_ROWS:,} are taken"
        )
    parts = []
    start = 0
    for name, split in corpora.items():
        count = round(len(split) * repeats[name])
        # Whole passes, and the rest taken evenly from the corpus.
        rest = np.arange(count % len(split)) * len(split) // max(count % len(split), 1)
        parts.append(start + np.concatenate([np.tile(np.arange(len(split)), count // len(split)), rest]))
        start += len(split)
    mixture = concatenate_datasets(list(corpora.values())).select(np.concatenate(parts))
    return mixture.add_column("row", np.arange(len(mixture))), repeats
