# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Rows, the files they are kept in, and the tables of the document."""

import pytest

from measuring import MIB, Sample
from recording import (
    DOCUMENT,
    Row,
    command_line,
    compare,
    environment,
    read_rows,
    results_file,
    table,
    write_rows,
    write_tables,
)


MACHINE = {"device": "A chip (2 GHz)", "cores": 2, "busy": 0.25, "date": "2026-01-02", "versions": {"torch": "2.0"}}


def row(case: str, measured: float = 2.0, **fields) -> Row:
    return Row(case, "ours", "theirs", measured, "python benchmarks/x.py", environment=MACHINE, **fields)


def test_a_comparison_is_by_wall_time_with_cpu_time_beside():
    ours = [Sample(3000, 1.0, 2.0), Sample(3000, 2.0, 2.0), Sample(3000, 1.5, 2.0)]
    peer = [Sample(1000, 1.0, 1.0)] * 3
    made = compare("case", ("ours", ours), ("theirs", peer), "tokens", command="x", goal=2.0, memory=(MIB, 2 * MIB))
    assert (made.measured, made.lowest, made.highest, made.cpu) == (2.0, 1.5, 3.0, 1.5)
    assert (made.ours, made.peer) == ("ours: 2,000 tokens/s", "theirs: 1,000 tokens/s")
    assert made.is_met
    assert [sample["wall"] for sample in made.details["ours"]] == [1.0, 2.0, 1.5]
    without_cpu = compare("case", ("ours", ours), ("theirs", [Sample(1, 1.0, 0.0)] * 3), "tokens", command="x")
    assert without_cpu.cpu is None


def test_goals_bound_from_below_or_above():
    assert row("a", 2.0, goal=2.0).is_met
    assert not row("a", 1.9, goal=2.0).is_met
    assert row("a", 1.9, goal=2.0, is_limit=True).is_met
    assert not row("a", 2.1, goal=2.0, is_limit=True).is_met
    assert row("a").is_met


def test_a_table_leaves_out_empty_columns():
    rows = [
        row("first", 4.6, lowest=4.5, highest=4.7, goal=4.5, memory=(MIB, 1500 * MIB)),
        row("second", 1.2, unit="s", goal=0.3, is_limit=True),
    ]
    assert table(rows).splitlines() == [
        "| what | ours | against | measured | goal | peak memory, MiB | command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| first | ours | theirs | 4.60× (4.50 to 4.70) | ≥ 4.5×: met | 1 / 1,500 | `python benchmarks/x.py` |",
        "| second | ours | theirs | 1.20 s | ≤ 0.3 s: **missed** |  | `python benchmarks/x.py` |",
    ]


def test_commands_name_only_what_is_set():
    line = command_line("/somewhere/bench_x.py", size=["tiny", "base"], quick=True, threads=None, full=False, rounds=3)
    assert line == "python benchmarks/bench_x.py --size tiny base --quick --rounds 3"
    assert command_line("bench_x.py", models=(), mixers="gru, both ways") == (
        "python benchmarks/bench_x.py --models --mixers 'gru, both ways'"
    )


def test_a_row_measured_again_takes_the_place_of_the_earlier_one(tmp_path, capsys):
    file = write_rows("x", [row("first", 1.0, memory=(1, 2)), row("second", 2.0)], tmp_path)
    assert file == tmp_path / "a-chip-2-ghz" / "x.json" == results_file("x", MACHINE["device"], tmp_path)
    assert "first" in capsys.readouterr().out
    write_rows("x", [row("first", 3.0, memory=(3, 4)), row("third", 4.0)], tmp_path)
    assert [(one.case, one.measured) for one in read_rows(file)] == [("first", 3.0), ("second", 2.0), ("third", 4.0)]
    assert read_rows(file)[0] == row("first", 3.0, memory=(3, 4))
    assert write_rows("x", [], tmp_path) is None


def test_tables_are_written_between_their_marks(tmp_path):
    document = tmp_path / "README.md"
    document.write_text(
        "before\n<!-- table x -->\nold\n<!-- end -->\nafter\n<!-- table y -->\n<!-- end -->\n", "utf-8"
    )
    write_rows("x", [row("first")], tmp_path)
    expected = (
        "before\n<!-- table x -->\n**A chip (2 GHz)**, 2 cores, of which other processes took 25% at the start; "
        "torch 2.0; 2026-01-02.\n\n"
        f"{table([row('first')])}\n<!-- end -->\nafter\n<!-- table y -->\nNot measured yet.\n<!-- end -->\n"
    )
    assert write_tables(document, tmp_path) == expected
    assert write_tables(document, tmp_path) == expected
    assert document.read_text("utf-8") == expected


def test_the_tables_of_the_document_are_those_of_the_results(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_bytes(DOCUMENT.read_bytes())
    assert write_tables(copy) == DOCUMENT.read_text("utf-8"), "run `python benchmarks/tables.py`"


@pytest.mark.parametrize("name", ["device", "processor", "cores", "threads", "versions", "date"])
def test_the_environment_is_recorded(name):
    assert environment()[name]
    assert 0 <= environment()["busy"] <= 1
