# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Token budget, exact cover, equal epochs, like steps, resuming through accelerate, and what padding costs."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_attn.data import (
    BatchEpochCallback,
    LengthBucketBatchSampler,
    iterate_texts,
    load_splits,
    source_target_lengths,
    train_tokenizer,
    translation_preprocessor,
)


def random_lengths(num_rows: int = 997, longest: int = 40) -> np.ndarray:
    generator = np.random.default_rng(7)
    source = generator.integers(1, longest + 1, num_rows)
    return np.stack([source, np.clip(source + generator.integers(-3, 4, num_rows), 1, longest)], axis=1)


def padded_tokens(lengths: np.ndarray, batch: list[int]) -> int:
    return len(batch) * int(lengths[batch].max(axis=0).sum())


@pytest.mark.parametrize("num_processes", [1, 2, 3, 8])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_within_the_budget_and_the_same_number_of_batches_each_epoch(num_processes, shuffle):
    lengths = random_lengths()
    sampler = LengthBucketBatchSampler(lengths, 300, batches_per_step=num_processes, shuffle=shuffle)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert len(batches) % num_processes == 0
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert max(padded_tokens(lengths, batch) for batch in batches) <= 300


def test_max_rows_limits_rows():
    sampler = LengthBucketBatchSampler([1] * 100, 50, max_rows=8)
    assert sorted(len(batch) for batch in sampler) == [4] + [8] * 12


def test_single_lengths_count_once():
    batches = list(LengthBucketBatchSampler([4, 4, 2, 2, 2, 2], 8, shuffle=False))
    assert batches == [[2, 3, 4, 5], [0, 1]]


def test_padding_share_is_that_of_the_batches():
    lengths = random_lengths()
    sampler = LengthBucketBatchSampler(lengths, 300)
    padded = sum(padded_tokens(lengths, batch) for batch in sampler)
    assert sampler.padding_share == pytest.approx(1 - lengths.sum() / padded)
    sampler.set_epoch(3)
    assert sum(padded_tokens(lengths, batch) for batch in sampler) == padded


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = LengthBucketBatchSampler(random_lengths(), 300, batches_per_step=2, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_rows_of_a_batch_change_between_epochs():
    sampler = LengthBucketBatchSampler([(5, 5)] * 64, 160)
    first = {frozenset(batch) for batch in sampler}
    sampler.set_epoch(1)
    assert not first & {frozenset(batch) for batch in sampler}


def test_batches_of_a_step_have_like_lengths():
    lengths = random_lengths(4000)
    batches = list(LengthBucketBatchSampler(lengths, 1000, batches_per_step=4))
    for step in range(0, len(batches), 4):
        longest = [lengths[batch].max() for batch in batches[step : step + 4]]
        assert max(longest) - min(longest) <= 5


def test_drop_last_leaves_out_whole_batches_drawn_anew():
    lengths = [(5, 5)] * 50
    sampler = LengthBucketBatchSampler(lengths, 100, batches_per_step=2, drop_last=True)
    assert len(sampler) == 4
    left_out = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [10] * 4
        left_out.append(set(range(50)) - {row for batch in batches for row in batch})
    assert left_out[0] != left_out[1]


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_accelerate_deals_out_every_row_once_and_resumes(num_processes):
    """Also the first epoch after a resume, in which neither accelerate nor Trainer reaches the sampler."""
    lengths = random_lengths()
    seen = []
    for process_index in range(num_processes):

        def prepared(process_index: int = process_index) -> tuple[LengthBucketBatchSampler, DataLoader]:
            sampler = LengthBucketBatchSampler(lengths, 300, batches_per_step=num_processes)
            loader = DataLoader(range(len(lengths)), batch_sampler=sampler, collate_fn=list)
            loader = prepare_data_loader(
                loader, num_processes=num_processes, process_index=process_index, put_on_device=False
            )
            return sampler, loader

        sampler, loader = prepared()
        assert len(loader) == len(sampler) // num_processes
        epochs = []
        for epoch in range(3):
            loader.set_epoch(epoch)
            epochs.append(list(loader))
        assert epochs[0] != epochs[2]
        assert all(len(batches) == len(loader) for batches in epochs)
        seen += [row for batch in epochs[2] for row in batch]

        sampler, loader = prepared()
        BatchEpochCallback(sampler).on_epoch_begin(None, SimpleNamespace(epoch=2.13), None)
        resumed = skip_first_batches(loader, 5)
        resumed.set_epoch(2)
        assert list(resumed) == epochs[2][5:]
    assert sorted(seen) == list(range(len(lengths)))


def test_accelerator_prepare_takes_it():
    sampler = LengthBucketBatchSampler(random_lengths(), 300)
    loader = Accelerator(cpu=True).prepare(DataLoader(range(997), batch_sampler=sampler))
    assert sum(len(batch) for batch in loader) == 997


def test_callback_starts_at_epoch_0():
    sampler = LengthBucketBatchSampler([1], 1)
    BatchEpochCallback(sampler).on_epoch_begin(None, SimpleNamespace(epoch=None), None)
    assert sampler.epoch == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"lengths": [(3, 4), (90, 20)], "tokens_per_batch": 100},
            "`tokens_per_batch` must hold the longest row, got 100, but row 1 has 90 + 20 = 110 tokens: raise it, or "
            "cut rows with `max_source_length` and `max_target_length`",
        ),
        ({"lengths": [], "tokens_per_batch": 9}, "`lengths` must hold at least one row, got none"),
        ({"lengths": [(1, 2, 3)], "tokens_per_batch": 9}, "one number or two a row, got an array of shape (1, 3)"),
        ({"lengths": [(1, 2), (0, 3)], "tokens_per_batch": 9}, "must be at least 1, got [0, 3] for row 1"),
        ({"lengths": [1], "tokens_per_batch": 0}, "`tokens_per_batch` must be at least 1, got 0"),
        ({"lengths": [1], "tokens_per_batch": 9, "max_rows": 0}, "`max_rows` must be at least 1, got 0"),
        (
            {"lengths": [1], "tokens_per_batch": 9, "batches_per_step": 2},
            "`lengths` must have at least one row for each of the 2 batches of a step, got 1",
        ),
        (
            {"lengths": [5] * 3, "tokens_per_batch": 5, "batches_per_step": 2},
            "`tokens_per_batch` = 5 leaves 3 batches of one row, which do not make up steps of 2: raise it, or "
            "set `drop_last=True`",
        ),
        (
            {"lengths": [1] * 3, "tokens_per_batch": 9, "batches_per_step": 2, "drop_last": True},
            "`drop_last=True` leaves no batch: there are 1 for steps of 2",
        ),
    ],
)
def test_values_it_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LengthBucketBatchSampler(**arguments)


def test_lengths_that_are_not_whole_numbers():
    with pytest.raises(TypeError, match="`lengths` must be whole numbers, got float64"):
        LengthBucketBatchSampler([1.5], 9)


@pytest.mark.parametrize(
    ("corpus", "most"),
    [("multi30k_en_de", 0.05), pytest.param("tatoeba_en_de", 0.05, marks=pytest.mark.slow)],
)
def test_padding_on_real_sentence_pairs(data_dir, corpus, most):
    train_file = data_dir / "translation" / corpus / "train.jsonl.gz"
    tokenizer = train_tokenizer(iterate_texts([train_file]), 8000)
    train = load_splits(train_file=train_file)["train"]
    train = train.map(translation_preprocessor(tokenizer, "en", "de", 128, 128), batched=True)
    for num_processes in (1, 8):
        sampler = LengthBucketBatchSampler(source_target_lengths(train), 4096, batches_per_step=num_processes)
        assert sampler.padding_share < most
