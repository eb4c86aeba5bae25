# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Lexical shortlists, binary and in text."""

import gzip
import struct

import numpy as np
import pytest

from hf_attn.interop.marian.shortlist import (
    build_shortlist,
    from_lists,
    parse_shortlist,
    read_shortlist,
    read_table,
    write_shortlist,
    write_table,
)


LISTS = [[], [3, 9], [1, 2, 30], [7], [30, 31]]


def test_a_shortlist_comes_back(tmp_path):
    shortlist = from_lists(LISTS, num_frequent=2, num_best=3)
    write_shortlist(tmp_path / "lex.bin", shortlist)
    content = (tmp_path / "lex.bin").read_bytes()
    (tmp_path / "lex.bin.gz").write_bytes(gzip.compress(content))
    for name in ("lex.bin", "lex.bin.gz"):
        read = read_shortlist(tmp_path / name)
        assert (read.num_frequent, read.num_best, read.num_source_words) == (2, 3, 5)
        assert [read.targets_of(source_id).tolist() for source_id in range(5)] == LISTS
    assert len(content) == 48 + 8 * 6 + 4 * 8
    assert struct.unpack("<6Q", content[:48])[0] == 0xF11A48D5013417F5
    # Computed by hand: the hash starts at 0, and a word w makes s ^= w + 0x9E3779B9 + (s << 6) + (s >> 2).
    write_shortlist(tmp_path / "one.bin", from_lists([[0]], 0, 0))
    expected = 0
    for word in (0, 0, 2, 1, 0, 1):
        expected ^= (word + 0x9E3779B9 + (expected << 6) + (expected >> 2)) & (2**64 - 1)
    assert struct.unpack("<2Q", (tmp_path / "one.bin").read_bytes()[:16])[1] == expected


def test_candidates_are_those_of_the_engine():
    shortlist = from_lists(LISTS, num_frequent=2, num_best=3)
    assert shortlist.candidates([1, 2], 64, shares_vocabulary=False).tolist() == [0, 1, 2, 3, 4, 5, 9, 30]
    assert shortlist.candidates([1, 2, 2], 64, shares_vocabulary=True).tolist() == [0, 1, 2, 3, 4, 5, 9, 30]
    assert shortlist.candidates([4], 32, shares_vocabulary=True).tolist() == [0, 1, 2, 3, 4, 5, 30, 31]
    shortlist = from_lists([[5], [6]], num_frequent=8, num_best=1)
    assert shortlist.candidates([0, 1], 16, shares_vocabulary=False).tolist() == list(range(8))


def test_new_words_have_themselves_as_targets():
    extended = from_lists(LISTS, 2, 3).extended(3)
    assert [extended.targets_of(source_id).tolist() for source_id in range(8)] == [*LISTS, [5], [6], [7]]
    extended.check_vocabularies(8, 32)


def test_a_shortlist_of_other_vocabularies_is_refused():
    shortlist = from_lists(LISTS, 2, 3)
    shortlist.check_vocabularies(5, 32)
    for sizes in ((6, 32), (5, 31)):
        with pytest.raises(
            ValueError, match=r"is for 5 source words and targets up to 31, .* belongs to another model"
        ):
            shortlist.check_vocabularies(*sizes)


def test_a_table_becomes_a_shortlist_of_the_likeliest(tmp_path):
    lines = [
        ("a", "x", 0.5),
        ("b", "x", 0.25),
        ("c", "x", 0.25),
        ("a", "NULL", 0.9),
        ("NULL", "x", 0.9),
        ("c", "nothing", 0.125),
        ("b", "nowhere", 0.75),
        ("b", "x", 0.0625),
    ]
    for name in ("lex.s2t", "lex.s2t.gz"):
        write_table(tmp_path / name, lines)
        assert list(read_table(tmp_path / name)) == lines
    assert gzip.decompress((tmp_path / "lex.s2t.gz").read_bytes()) == (tmp_path / "lex.s2t").read_bytes()
    ids = {"</s>": 0, "<unk>": 1, "x": 2}, {"</s>": 0, "<unk>": 1, "a": 2, "b": 3, "c": 4}
    shortlist = build_shortlist(lines, *ids, num_frequent=1, num_best=2)
    # Of two as likely the later word stays; words without an id count as the unknown one.
    assert [shortlist.targets_of(source_id).tolist() for source_id in range(3)] == [[], [3, 4], [2, 4]]
    shortlist = build_shortlist(lines, *ids, num_frequent=1, num_best=5, threshold=0.5)
    assert [shortlist.targets_of(source_id).tolist() for source_id in range(3)] == [[], [3], [2]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a x", "line 2 must hold two words and a probability, got 'a x"),
        ("a x y", "could not convert string to float: 'y'"),
        ("a x nan", "line 2 must end in a probability, got 'nan'"),
        ("a x -1", "line 2 must end in a probability, got '-1'"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, line, message):
    (tmp_path / "lex.s2t").write_text(f"a x 1.0\n{line}\n")
    with pytest.raises(ValueError, match=message):
        list(read_table(tmp_path / "lex.s2t"))


def test_damaged_shortlists_are_refused(tmp_path):
    write_shortlist(tmp_path / "lex.bin", from_lists(LISTS, 2, 3))
    content = (tmp_path / "lex.bin").read_bytes()
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"cut short|should have|no binary shortlist"):
            parse_shortlist(content[:length])
    with pytest.raises(ValueError, match="no binary shortlist"):
        parse_shortlist(bytes(100))
    for place in range(16, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match=r"should have|its checksum is not that of its content"):
            parse_shortlist(damaged)
    huge = content[:32] + struct.pack("<2Q", 2**61, 2**62)
    with pytest.raises(ValueError, match="should have 36893488147419103280 bytes, and has 48"):
        parse_shortlist(huge)
    lists = from_lists(LISTS, 2, 3)
    for offsets in ([1, 2, 3, 4, 5, 8], [0, 5, 3, 4, 5, 8], [0, 2, 3, 4, 5, 7]):
        write_shortlist(tmp_path / "lex.bin", type(lists)(2, 3, np.array(offsets, np.uint64), lists.targets))
        with pytest.raises(ValueError, match=r"shortlist '.*lex.bin' cannot be read: its offsets do not lead through"):
            read_shortlist(tmp_path / "lex.bin")
    with pytest.raises(ValueError, match="No such file"):
        read_shortlist(tmp_path / "none.bin")
