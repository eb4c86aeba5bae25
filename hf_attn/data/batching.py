# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Batches of samples of like length whose padded size stays within a budget of tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override


class LengthBucketBatchSampler(Sampler[list[int]]):
    """Yields batches of row numbers such that rows × (longest source + longest target) is within `tokens_per_batch`.

    Rows are sorted by the longer of source and target, then by their difference, and cut greedily. Every epoch draws
    anew which of the rows of equal lengths go where and in which order the batches come, so neither the number of
    batches nor what is lost to padding changes from epoch to epoch. The order is a function of (`seed`, epoch) alone:
    to resume, call `set_epoch` and skip the batches already seen.

    Batches `k * batches_per_step` to `(k + 1) * batches_per_step - 1` are those of optimizer step k and have like
    lengths, so a step holds the same rows whether processes, accumulation or both make up its batches. Where the last
    step would lack batches, the batches with the most rows are halved: every row comes exactly once an epoch, and
    accelerate, which deals the batches out to the processes in turn, has none to repeat.

    Note that source *and* target count: fairseq's and Marian's "4096 tokens" is a count of one side only.

    Args:
        lengths: For every row (source tokens, target tokens), or a single number of tokens, special tokens included.
        tokens_per_batch: Most tokens in a batch, padding included.
        batches_per_step: Batches of an optimizer step: processes times accumulation steps.
        shuffle: `False`: from the shortest rows to the longest, the same in each epoch.
        seed: Seed of the order.
        drop_last: Leave out batches, drawn anew each epoch, instead of halving some, where the last step lacks any.
        max_rows: Most rows in a batch. None: no limit.

    Raises:
        ValueError: A row alone exceeds the budget; a length is below 1; there are fewer rows than batches in a step.
    """

    # Accelerate reads the rows of a batch here; None says that they vary.
    batch_size = None

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]] | Sequence[int],
        tokens_per_batch: int,
        *,
        batches_per_step: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        max_rows: int | None = None,
    ):
        for name, value in (
            ("tokens_per_batch", tokens_per_batch),
            ("batches_per_step", batches_per_step),
            ("max_rows", max_rows),
        ):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        self.tokens_per_batch = tokens_per_batch
        self.batches_per_step = batches_per_step
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.max_rows = max_rows
        self.epoch = 0
        self._lengths = _as_pairs(lengths)
        self._check_lengths()
        longer = self._lengths.max(axis=1)
        difference = self._lengths[:, 0] - self._lengths[:, -1]
        # Alternate the direction, so that the difference does not jump where the longer side grows by a token.
        self._sort_keys = (np.where(longer % 2, difference, -difference), longer)
        self._bounds = self._cut()

    def _check_lengths(self) -> None:
        if len(self._lengths) < self.batches_per_step:
            raise ValueError(
                f"`lengths` must have at least one row for each of the {self.batches_per_step} batches of a step, got "
                f"{len(self._lengths)}: take fewer processes or a smaller update"
            )
        for row in np.flatnonzero(self._lengths.min(axis=1) < 1)[:1]:
            raise ValueError(f"`lengths` must be at least 1, got {self._lengths[row].tolist()} for row {row}")
        totals = self._lengths.sum(axis=1)
        row = int(totals.argmax())
        if totals[row] > self.tokens_per_batch:
            raise ValueError(
                f"`tokens_per_batch` must hold the longest row, got {self.tokens_per_batch}, but row {row} has "
                f"{' + '.join(map(str, self._lengths[row]))} = {totals[row]} tokens: raise it, or cut rows with "
                "`max_source_length` and `max_target_length`"
            )

    def _cut(self) -> np.ndarray:
        """The indices of sorted rows at which batches begin, and their number; the same for every draw of ties."""
        lengths = self._lengths[np.lexsort(self._sort_keys)]
        bounds = [0]
        while bounds[-1] < len(lengths):
            start = bounds[-1]
            most_rows = self.tokens_per_batch // lengths[start].sum()
            if self.max_rows is not None:
                most_rows = min(most_rows, self.max_rows)
            padded_row = np.maximum.accumulate(lengths[start : start + most_rows]).sum(axis=1)
            padded_batch = padded_row * np.arange(1, len(padded_row) + 1)
            bounds.append(start + int(np.searchsorted(padded_batch, self.tokens_per_batch, side="right")))
        if not self.drop_last:
            while (len(bounds) - 1) % self.batches_per_step:
                rows = np.diff(bounds)
                largest = int(rows.argmax())
                if rows[largest] == 1:
                    raise ValueError(
                        f"`tokens_per_batch` = {self.tokens_per_batch} leaves {len(rows)} batches of one row, which "
                        f"do not make up steps of {self.batches_per_step}: raise it, or set `drop_last=True`"
                    )
                bounds.insert(largest + 1, bounds[largest] + int(rows[largest]) // 2)
        elif len(bounds) - 1 < self.batches_per_step:
            raise ValueError(
                f"`drop_last=True` leaves no batch: there are {len(bounds) - 1} for steps of {self.batches_per_step}"
            )
        return np.array(bounds)

    def __len__(self) -> int:
        """Number of batches of all processes together; a multiple of `batches_per_step`."""
        num_batches = len(self._bounds) - 1
        return num_batches - num_batches % self.batches_per_step

    @override
    def __iter__(self) -> Iterator[list[int]]:
        num_batches = len(self._bounds) - 1
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.shuffle:
            rows = np.lexsort((generator.random(len(self._lengths)), *self._sort_keys))
            kept = np.sort(generator.permutation(num_batches)[: len(self)])
            steps = generator.permuted(kept.reshape(-1, self.batches_per_step), axis=1)
            batches = generator.permutation(steps).ravel()
        else:
            rows = np.lexsort(self._sort_keys)
            batches = np.arange(len(self))
        for batch in batches:
            yield rows[self._bounds[batch] : self._bounds[batch + 1]].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0, whose order the next iteration has."""
        self.epoch = epoch

    @property
    def sampler(self) -> "LengthBucketBatchSampler":
        """Itself: accelerate hands the epoch on to `batch_sampler.sampler`."""
        return self

    @property
    def padding_share(self) -> float:
        """Share of padding in all tokens of an epoch's batches, 0 to 1."""
        lengths = self._lengths[np.lexsort(self._sort_keys)]
        padded = (np.maximum.reduceat(lengths, self._bounds[:-1]).sum(axis=1) * np.diff(self._bounds)).sum()
        return 1.0 - float(lengths.sum() / padded)


def _as_pairs(lengths: Sequence[tuple[int, int]] | Sequence[int]) -> np.ndarray:
    array = np.asarray(lengths)
    if array.size == 0:
        raise ValueError("`lengths` must hold at least one row, got none")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > 2:
        raise ValueError(f"`lengths` must hold one number or two a row, got an array of shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"`lengths` must be whole numbers, got {array.dtype}")
    return array.astype(np.int64)


class BatchEpochCallback(TrainerCallback):
    """Hands the epoch to a `LengthBucketBatchSampler` when an epoch of `Trainer` begins.

    Trainer does so itself, except in the first epoch after a resume under several processes, where the sampler lies
    below two wrappers and would repeat the order of epoch 0.
    """

    def __init__(self, sampler: LengthBucketBatchSampler):
        self.sampler = sampler

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_epoch_begin`: sets the epoch of the sampler."""
        self.sampler.set_epoch(int(state.epoch or 0))
