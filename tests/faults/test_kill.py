# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Runs that are killed 30 times make what an unbroken one makes."""

import pytest

from tests.faults.kill import survive


KILLS = 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_runs_make_what_an_unbroken_one_makes(tmp_path):
    survival = survive(KILLS, tmp_path)
    assert survival.kills == KILLS
    # A checkpoint of this size takes a fraction of a second: not each kill that aims at one meets it.
    assert survival.kills_while_writing >= KILLS // 6
    assert survival.differing == ()
    assert survival.are_logs_equal
