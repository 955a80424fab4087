"""The clock from counters: exact arithmetic on made-up readings, and what the kernel reads."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from roofprobe.kernels import triton_clock

MAX = 2**63 - 1


def readings(*rows: tuple[int, int, int]) -> np.ndarray:
    """One sample's readings."""
    return np.array(rows, dtype=np.int64).reshape(1, -1, 3)


def clock(before: np.ndarray, after: np.ndarray) -> float | None:
    (mhz,) = triton_clock.clocks_mhz(before, after).tolist()
    return None if math.isnan(mhz) else mhz


def test_the_clock_is_cycles_per_microsecond() -> None:
    before = readings((0, 1_000, 5_000))
    after = readings((0, 1_000 + 1_755_000, 5_000 + 1_000_000))
    assert clock(before, after) == 1755.0


def test_the_median_over_multiprocessors_is_taken_whatever_their_order() -> None:
    before = readings((2, 0, 0), (0, 0, 0), (1, 0, 0))
    after = readings((0, 1_000, 1_000), (1, 2_000, 1_000), (2, 9_000, 1_000))
    assert clock(before, after) == 2000.0
    assert clock(before[:, :2], after) == 5000.0, "of two, their mean"


def test_units_seen_only_once_are_left_out() -> None:
    before = readings((0, 0, 0), (7, 0, 0))
    after = readings((0, 1_500, 1_000), (9, 1, 1))
    assert clock(before, after) == 1500.0


def test_the_first_program_of_a_unit_counts() -> None:
    before = readings((3, 100, 100), (3, 999, 200))
    after = readings((3, 400, 400), (3, 5_000, 500))
    assert clock(before, after) == 1000.0


def test_counters_may_wrap() -> None:
    before = readings((0, MAX - 499, MAX - 99))
    after = readings((0, -(2**63) + 1_500, -(2**63) + 900))
    assert clock(before, after) == 2000.0
    before = readings((0, -500, -100))
    after = readings((0, 1_500, 900))
    assert clock(before, after) == 2000.0


def test_a_timer_that_stood_still_or_ran_backwards_gives_no_clock() -> None:
    before = readings((0, 0, 50), (1, 0, 50), (2, 0, 50))
    after = readings((0, 100, 50), (1, 100, 40), (2, 100, 100))
    assert clock(before, after) == 2000.0
    assert clock(before[:, :2], after[:, :2]) is None


def test_rows_that_no_program_wrote_are_ignored() -> None:
    unwritten = triton_clock.make_readings((1, 2), "cpu").numpy()
    assert unwritten.tolist() == [[[-1, -1, -1]] * 2]
    assert clock(unwritten, unwritten) is None


def test_samples_are_told_apart_and_keep_their_order() -> None:
    before = np.concatenate(
        [
            readings((5, 0, 0), (1, 0, 0)),
            readings((1, 7, 7), (2, 0, 0)),
            readings((-1, 0, 0), (1, 0, 0)),
        ]
    )
    after = np.concatenate(
        [
            readings((1, 1_000, 1_000), (5, 2_000, 1_000)),
            readings((5, 9, 9), (7, 9, 9)),
            readings((1, 1_300, 1_000), (1, 9_999, 1_000)),
        ]
    )
    found = triton_clock.clocks_mhz(before, after)
    assert found[[0, 2]].tolist() == [1500.0, 1300.0]
    assert math.isnan(found[1]), "no unit of the second was seen twice"


def test_many_samples_agree_with_one_at_a_time() -> None:
    generator = np.random.default_rng(0)
    before, after = (generator.integers(-1, 12, size=(40, 24, 3)) for _ in range(2))
    after[..., 1:] += 10_000 * generator.integers(1, 9, size=(40, 24, 2))
    found = triton_clock.clocks_mhz(before, after)
    for index in range(40):
        first, last = (
            {int(row[0]): row[1:] for row in part[index][::-1] if row[0] >= 0}
            for part in (before, after)
        )
        deltas = [last[unit] - first[unit] for unit in first.keys() & last.keys()]
        assert found[index] == np.median([1000.0 * int(c) / int(ns) for c, ns in deltas])


def test_no_samples_have_no_clocks() -> None:
    none = triton_clock.make_readings((0, 4), "cpu").numpy()
    assert triton_clock.clocks_mhz(none, none).tolist() == []


def test_a_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(samples, programs, 3\), not \(1, 2, 2\)"):
        triton_clock.clocks_mhz(np.zeros((1, 2, 2), np.int64), readings())


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def test_an_nvidia_program_reads_unit_cycles_and_timer_once_in_this_order(arch: str) -> None:
    assembly = triton_clock.source(arch).compile(arch).assembly
    found = re.findall(r"mov\.u(?:32|64)\s+%\w+, %(smid|clock64|globaltimer);", assembly)
    assert found == ["smid", "clock64", "globaltimer"]


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_an_amd_program_reads_unit_cycles_and_timer(arch: str) -> None:
    assembly = triton_clock.source(arch).compile(arch).assembly
    for instruction in ("HW_REG_HW_ID", "HW_REG_XCC_ID", "s_memtime", "s_memrealtime"):
        assert assembly.count(instruction) == 1
