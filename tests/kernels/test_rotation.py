"""Enough sets to leave the caches, never more than a sample launches, never more than fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.kernels.rotation import CACHE_MULTIPLE, MOST_SETS, sets_for, sets_within
from roofprobe.kernels.work import Unsupported

MIB = 1 << 20


@given(st.integers(1, 1 << 34), st.integers(0, 1 << 30))
def test_sets_exceed_four_times_the_cache_or_are_as_many_as_a_sample_launches(
    size: int, cache: int
) -> None:
    sets = sets_for(size, cache)
    assert 1 <= sets <= MOST_SETS
    assert sets == MOST_SETS or sets * size >= CACHE_MULTIPLE * cache
    assert sets == 1 or (sets - 1) * size < CACHE_MULTIPLE * cache


def test_what_is_larger_than_four_caches_needs_no_second_set() -> None:
    assert sets_for(200 * MIB, 50 * MIB) == 1
    assert sets_for(199 * MIB, 50 * MIB) == 2
    assert sets_for(1, None) == 1


def test_memory_bounds_the_sets_and_too_little_of_it_is_a_reason() -> None:
    assert sets_within(10 * MIB, 50 * MIB, 70 * MIB) == 7
    assert sets_within(10 * MIB, 50 * MIB, None) == 20
    with pytest.raises(Unsupported) as refused:
        sets_within(10 * MIB, 50 * MIB, 9 * MIB)
    assert refused.value.code == "memory"
