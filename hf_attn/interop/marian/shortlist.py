# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Lexical shortlists: the target words that are worth a logit, by source word.

The binary file (`lex.*.bin`) is little endian: six `uint64`, which are a signature, a checksum, the number of first
words of the vocabulary that are always in, the most words that a source word has, the number of offsets and the number
of targets; then the offsets, `uint64`, and the targets, `uint32`: those of source word i, ascending, lie between
offsets i and i + 1. The text (`lex.s2t`, `lex.gz`) has a target word, a source word and a probability a
line, in this order.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import read_bytes


_SIGNATURE = 0xF11A48D5013417F5
_HEAD_BYTES = 48
_HASHED_FROM = 16
_WORD_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Shortlist:
    """
    A shortlist.

    Attributes:
        num_frequent: First words of the vocabulary that are always in.
        num_best: The most targets that a source word has.
        offsets: uint64 (source words + 1,).
        targets: uint32 (entries,).
    """

    num_frequent: int
    num_best: int
    offsets: np.ndarray
    targets: np.ndarray

    @property
    def num_source_words(self) -> int:
        return len(self.offsets) - 1

    def targets_of(self, source_id: int) -> np.ndarray:
        """The target ids of a source word, ascending, uint32."""
        return self.targets[int(self.offsets[source_id]) : int(self.offsets[source_id + 1])]

    def candidates(self, source_ids: Iterable[int], vocab_size: int, *, shares_vocabulary: bool) -> np.ndarray:
        """
        The target ids that Bergamot computes logits for.

        Args:
            source_ids: Of all sentences of a batch.
            vocab_size: Of the target, a multiple of 8.
            shares_vocabulary: The source's words are candidates too.

        Returns:
            int64, ascending; the next ones of the vocabulary fill them up to a multiple of 8.
        """
        is_in = np.zeros(vocab_size, bool)
        is_in[: self.num_frequent] = True
        for source_id in set(source_ids):
            is_in[self.targets_of(source_id)] = True
            if shares_vocabulary:
                is_in[source_id] = True
        others = np.flatnonzero(~is_in[self.num_frequent :]) + self.num_frequent
        is_in[others[: -int(is_in.sum()) % 8]] = True
        return np.flatnonzero(is_in)

    def check_vocabularies(self, source_size: int, target_size: int) -> None:
        """
        Refuses a shortlist of other vocabularies.

        Raises:
            ValueError: It has fewer source words than theirs, or targets beyond theirs.
        """
        largest = int(self.targets.max(initial=0))
        if self.num_source_words != source_size or largest >= target_size:
            raise ValueError(
                f"The shortlist is for {self.num_source_words} source words and targets up to {largest}, and the "
                f"vocabularies have {source_size} and {target_size}: it belongs to another model."
            )

    def extended(self, num_words: int) -> Shortlist:
        """The shortlist for a shared vocabulary with `num_words` more words, each with itself as its only target."""
        first, end = self.num_source_words, len(self.targets)
        return Shortlist(
            self.num_frequent,
            self.num_best,
            np.append(self.offsets, np.arange(end + 1, end + num_words + 1, dtype=np.uint64)),
            np.append(self.targets, np.arange(first, first + num_words, dtype=np.uint32)),
        )


def read_shortlist(path: str | Path) -> Shortlist:
    """
    Reads a binary shortlist, in gzip or not.

    Raises:
        ValueError: The file cannot be read, is of another kind, damaged or cut short.
    """
    path = Path(path)
    try:
        return parse_shortlist(read_bytes(path))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"The shortlist {str(path)!r} cannot be read: {error}.") from error


def parse_shortlist(content: bytes | memoryview) -> Shortlist:
    """
    The shortlist in the bytes of a binary file.

    Raises:
        ValueError: They are of another kind, damaged or cut short.
    """
    if len(content) < _HEAD_BYTES:
        raise ValueError(f"it is cut short: {len(content)} bytes hold no header")
    signature, checksum, num_frequent, num_best, num_offsets, num_targets = (
        int(number) for number in np.frombuffer(content, "<u8", 6)
    )
    if signature != _SIGNATURE:
        raise ValueError("it is no binary shortlist")
    expected = _HEAD_BYTES + 8 * num_offsets + 4 * num_targets
    if expected != len(content) or num_offsets < 2:
        raise ValueError(f"it should have {expected} bytes, and has {len(content)}")
    if _checksum(content) != checksum:
        raise ValueError("it is damaged: its checksum is not that of its content")
    offsets = np.frombuffer(content, "<u8", num_offsets, _HEAD_BYTES)
    targets = np.frombuffer(content, "<u4", num_targets, _HEAD_BYTES + 8 * num_offsets)
    if offsets[0] != 0 or offsets[-1] != num_targets or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("its offsets do not lead through its targets")
    return Shortlist(num_frequent, num_best, offsets, targets)


def write_shortlist(path: str | Path, shortlist: Shortlist) -> None:
    """Writes a binary shortlist."""
    head = [shortlist.num_frequent, shortlist.num_best, len(shortlist.offsets), len(shortlist.targets)]
    hashed = np.array(head, "<u8").tobytes()
    hashed += shortlist.offsets.astype("<u8").tobytes() + shortlist.targets.astype("<u4").tobytes()
    start = np.array([_SIGNATURE, _checksum(bytes(_HASHED_FROM) + hashed)], "<u8").tobytes()
    Path(path).write_bytes(start + hashed)


def read_table(path: str | Path) -> Iterator[tuple[str, str, float]]:
    """
    The lines of a lexical table in text, in gzip or not: target word, source word, probability of the target.

    Raises:
        ValueError: A line holds anything else, or the file cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            is_compressed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if is_compressed else open)(path, "rt", encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                words = line.split()
                if len(words) != 3:
                    raise ValueError(f"line {number} must hold two words and a probability, got {line[:80]!r}")
                target, source, probability = words[0], words[1], float(words[2])
                if not 0 <= probability < math.inf:
                    raise ValueError(f"line {number} must end in a probability, got {words[2]!r}")
                yield target, source, probability
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"The lexical table {str(path)!r} cannot be read: {error}.") from error


def write_table(path: str | Path, lines: Iterable[tuple[str, str, float]]) -> None:
    """Writes a lexical table in text, in gzip where the name ends in `.gz`; lines as `read_table` gives them."""
    with (gzip.open if str(path).endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="\n") as file:
        for target, source, probability in lines:
            file.write(f"{target} {source} {probability:.8f}\n")


def build_shortlist(
    table: Iterable[tuple[str, str, float]],
    source_ids: Mapping[str, int],
    target_ids: Mapping[str, int],
    unk_ids: tuple[int, int] = (1, 1),
    num_frequent: int = 50,
    num_best: int = 50,
    threshold: float = 0.0,
) -> Shortlist:
    """
    A shortlist of the likeliest targets of each source word, as `marian-conv --shortlist` makes it.

    Args:
        table: Lines of a lexical table.
        source_ids, target_ids: Ids of words, from 0 on without gaps.
        unk_ids: Of source and target words that have no id.
        num_frequent, num_best: As in `Shortlist`.
        threshold: The smallest probability that counts.
    """
    probabilities: list[dict[int, float]] = [{} for _ in range(max(source_ids.values()) + 1)]
    for target, source, probability in table:
        if "NULL" not in (source, target):
            targets = probabilities[source_ids.get(source, unk_ids[0])]
            target_id = target_ids.get(target, unk_ids[1])
            targets[target_id] = max(targets.get(target_id, 0.0), probability)
    return from_lists(
        [
            sorted(sorted(targets, key=lambda target_id: (-targets[target_id], -target_id))[:num_best])
            for targets in (
                {target_id: value for target_id, value in row.items() if value >= threshold} for row in probabilities
            )
        ],
        num_frequent,
        num_best,
    )


def from_lists(targets: Sequence[Sequence[int]], num_frequent: int, num_best: int) -> Shortlist:
    """The shortlist whose source words have these ascending lists of target ids."""
    offsets = np.zeros(len(targets) + 1, np.uint64)
    np.cumsum([len(row) for row in targets], out=offsets[1:])
    flat = np.fromiter((target_id for row in targets for target_id in row), np.uint32)
    return Shortlist(num_frequent, num_best, offsets, flat)


def _checksum(content: bytes | memoryview) -> int:
    """Boost's `hash_combine` over the words of 64 bits behind the checksum; 4 bytes left over do not count."""
    seed = 0
    words = np.frombuffer(content, "<u8", (len(content) - _HASHED_FROM) // 8, _HASHED_FROM)
    for word in words.tolist():
        seed ^= (word + 0x9E3779B9 + (seed << 6) + (seed >> 2)) & _WORD_MASK
    return seed
