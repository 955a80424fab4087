"""Robust statistics: exact on small sets, unmoved by what lies apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.acceptance.fleet.robust import (
    MAD_TO_SIGMA,
    MEAN_DEVIATION_TO_SIGMA,
    centre_of,
    median_interval,
    theil_sen,
    two_modes,
    z_of,
)


def test_median_and_mad_of_a_small_set_are_the_textbook_s() -> None:
    found = centre_of(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
    assert (found.n, found.n_apart, found.median, found.mad) == (7, 0, 4.0, 2.0)
    assert found.scale == pytest.approx(2 * MAD_TO_SIGMA)
    assert found.scale_from == "mad"


def test_what_lies_apart_is_set_aside_before_the_median_is_taken() -> None:
    clean = np.array([8.0, 9.0, 9.5, 10.0, 10.5, 11.0, 12.0])
    found = centre_of(np.concatenate([clean, [1.0, 1.5]]))
    alone = centre_of(clean)
    assert (found.n, found.n_apart) == (9, 2)
    assert (found.median, found.mad) == (alone.median, alone.mad) == (10.0, 1.0)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_one_sided_faults_do_not_move_the_criterion(share: float) -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(0, 0.007, 2000)
    values[: int(share * 2000)] -= 0.05
    found = centre_of(values)
    # the median's own standard error is 0.0002
    assert found.median == pytest.approx(0, abs=0.0007)
    assert found.scale == pytest.approx(0.007, rel=0.06)


def test_a_normal_s_spread_is_its_standard_deviation() -> None:
    values = np.random.default_rng(1).normal(3, 2, 200_000)
    found = centre_of(values)
    assert found.scale == pytest.approx(2, rel=0.01)
    beyond = np.mean(z_of(values - found.median, found.scale) < -3.5)
    assert beyond == pytest.approx(2.33e-4, abs=1e-4)  # the normal's tail beyond 3.5


def test_without_a_mad_the_spread_is_what_the_intervals_say() -> None:
    found = centre_of(np.array([1.0] * 9 + [0.9]), interval=0.01)
    assert (found.median, found.mad, found.scale, found.scale_from) == (1.0, 0.0, 0.01, "interval")


def test_without_intervals_it_is_the_mean_absolute_deviation() -> None:
    found = centre_of(np.array([1.0] * 9 + [0.9]))
    assert found.scale == pytest.approx(MEAN_DEVIATION_TO_SIGMA * 0.01)
    assert found.scale_from == "mean-deviation"


def test_equal_values_have_no_spread_and_any_other_is_infinitely_far() -> None:
    found = centre_of(np.full(12, 7.0))
    assert (found.scale, found.scale_from) == (0.0, "none")
    assert z_of(np.array([-0.1, 0.0, 0.1]), 0.0).tolist() == [-np.inf, 0.0, np.inf]


@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=60),
    st.floats(-50, 50),
)
def test_a_shift_of_all_values_shifts_the_median_alone(values: list[float], by: float) -> None:
    x = np.round(np.array(values), 6)
    here, there = centre_of(x), centre_of(x + by)
    assert x.min() <= here.median <= x.max()
    assert here.scale >= 0
    assert there.n == here.n


def test_two_kinds_are_two_modes_with_their_shares() -> None:
    values = np.concatenate([np.linspace(-0.005, 0.005, 700), np.linspace(-0.045, -0.035, 300)])
    found = two_modes(values, least_gap=0.02, least_share=0.2)
    assert found is not None
    assert found.low == pytest.approx(-0.04)
    assert found.high == pytest.approx(0, abs=1e-9)
    assert found.low_share == 0.3
    assert found.split == pytest.approx(-0.02)


def test_a_tenth_of_bad_devices_is_no_mode() -> None:
    values = np.concatenate([np.linspace(-0.005, 0.005, 900), np.linspace(-0.055, -0.045, 100)])
    assert two_modes(values, least_gap=0.02, least_share=0.2) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["normal", "uniform", "student", "skewed"])
def test_one_broad_kind_has_one_mode(kind: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    draws = {
        "normal": lambda: generator.normal(0, 1, 1000),
        "uniform": lambda: generator.uniform(-2, 2, 1000),
        "student": lambda: generator.standard_t(4, 1000),
        "skewed": lambda: generator.gamma(4, 1, 1000),
    }
    assert two_modes(draws[kind](), least_gap=0.02, least_share=0.2) is None


def test_a_line_with_one_wild_point_has_the_line_s_slope() -> None:
    times = np.arange(7.0)[None]
    values = 3 + 0.5 * times
    values[0, 3] = 100
    found = theil_sen(times, values)
    assert found.slope[0] == 0.5
    assert found.low[0] <= 0.5 <= found.high[0]


def test_points_that_are_absent_change_nothing() -> None:
    times = np.array([[0.0, 1, 2, 3, 4, np.nan]])
    values = np.array([[0.0, -1, -2, -3, -4, np.nan]])
    found = theil_sen(times, values)
    assert (found.slope[0], found.low[0], found.high[0]) == (-1, -1, -1)


def test_sen_s_interval_covers_the_slope_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    times = np.tile(np.arange(12.0), (2000, 1))
    found = theil_sen(times, 0.3 * times + generator.normal(0, 1, times.shape))
    covered = np.mean((found.low <= 0.3) & (found.high >= 0.3))
    assert 0.93 <= covered <= 0.98


def test_the_interval_of_a_median_is_that_of_signs() -> None:
    values = np.arange(1.0, 11.0)
    # n = 10: two-sided 95 % lies between the 2nd and the 9th (Conover 1999, table A3)
    assert median_interval(values, level=0.95) == (5.5, 2.0, 9.0)


def test_too_few_values_have_no_interval() -> None:
    assert median_interval(np.array([1.0, 2.0]), level=0.95) == (1.5, -np.inf, np.inf)
