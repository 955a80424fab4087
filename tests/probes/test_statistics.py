"""The statistics are exact on small samples and honest on simulated ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.probes.statistics import rates, relative_ci_halfwidth, summarise

SAMPLES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)
MANY = st.lists(st.floats(0.001, 1e6), min_size=6, max_size=60)


def test_median_percentiles_and_best_of_eleven_are_exact() -> None:
    samples = [7.0, 1.0, 11.0, 5.0, 3.0, 9.0, 2.0, 4.0, 8.0, 6.0, 10.0]
    found = summarise(samples, "us", lower_is_better=True)
    assert (found.median, found.p10, found.p90, found.best) == (6.0, 2.0, 10.0, 1.0)
    assert (found.n, found.unit, found.ci_level) == (11, "us", 0.95)


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    assert summarise([4.0, 1.0, 2.0, 10.0], "us", lower_is_better=True).median == 3.0


def test_the_best_of_a_rate_is_the_highest() -> None:
    assert summarise([1.0, 3.0, 2.0], "GB/s", lower_is_better=False).best == 3.0


def test_one_sample_is_its_own_interval() -> None:
    found = summarise([5.0], "us", lower_is_better=True)
    assert (found.ci_low, found.median, found.ci_high, found.n) == (5.0, 5.0, 5.0, 1)


def test_no_samples_are_refused() -> None:
    with pytest.raises(AssertionError, match="no samples"):
        summarise([], "us", lower_is_better=True)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = np.random.default_rng(3).exponential(size=80).tolist()
    first = summarise(samples, "us", lower_is_better=True)
    assert summarise(samples, "us", lower_is_better=True) == first
    assert first.ci_low < first.median < first.ci_high


@settings(deadline=None, max_examples=60)
@given(SAMPLES)
def test_the_figures_are_in_order(samples: list[float]) -> None:
    found = summarise(samples, "us", lower_is_better=True)
    assert found.best <= found.p10 <= found.median <= found.p90 <= max(samples)
    assert found.best <= found.ci_low <= found.median <= found.ci_high <= max(samples)


@settings(deadline=None, max_examples=60)
@given(SAMPLES, st.sampled_from([0.25, 2.0, 1024.0]))
def test_scaling_the_samples_scales_every_figure(samples: list[float], factor: float) -> None:
    one = summarise(samples, "us", lower_is_better=True)
    scaled = summarise([factor * value for value in samples], "us", lower_is_better=True)
    for name in ("median", "ci_low", "ci_high", "p10", "p90", "best"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(one, name), rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(MANY, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_relative_halfwidth_does_not_depend_on_the_unit(
    samples: list[float], factor: float
) -> None:
    scaled = relative_ci_halfwidth([factor * value for value in sorted(samples)])
    assert scaled == pytest.approx(relative_ci_halfwidth(sorted(samples)), rel=1e-12)


@pytest.mark.parametrize("count", range(6))
def test_the_halfwidth_is_infinite_below_six_samples(count: int) -> None:
    assert relative_ci_halfwidth([1.0] * count) == math.inf


def test_the_halfwidth_of_six_samples_spans_all_of_them() -> None:
    assert relative_ci_halfwidth([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2.5 / 3.5


def test_the_halfwidth_of_a_hundred_samples_spans_the_40th_to_the_61st() -> None:
    assert relative_ci_halfwidth([float(rank) for rank in range(1, 101)]) == 10.5 / 50.5


def test_equal_samples_are_known_exactly_and_zeros_never() -> None:
    assert relative_ci_halfwidth([3.0] * 6) == 0.0
    assert relative_ci_halfwidth([0.0] * 6) == math.inf


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 200))
def test_four_times_the_samples_of_a_grid_never_widen_the_halfwidth(count: int) -> None:
    def grid(n: int) -> list[float]:
        return [1.0 + (index + 0.5) / n for index in range(n)]

    assert relative_ci_halfwidth(grid(4 * count)) < relative_ci_halfwidth(grid(count))


def test_the_halfwidth_covers_the_true_median_of_skewed_samples() -> None:
    generator = np.random.default_rng(20)
    covered = 0
    for samples in generator.exponential(size=(2000, 50)):
        median = float(np.median(samples))
        covered += (
            abs(median - math.log(2)) <= relative_ci_halfwidth(np.sort(samples).tolist()) * median
        )
    assert 0.94 <= covered / 2000 <= 0.985  # ranks 18 to 33 of 50 hold it in 96.7 %


def test_the_reported_interval_covers_the_true_median_of_skewed_samples() -> None:
    generator = np.random.default_rng(21)
    covered = 0
    for samples in generator.exponential(size=(500, 50)):
        found = summarise(samples.tolist(), "us", lower_is_better=True)
        covered += found.ci_low <= math.log(2) <= found.ci_high
    assert 0.92 <= covered / 500 <= 0.99


def test_the_median_rate_is_the_amount_over_the_median_time() -> None:
    found = rates([2.0, 1.0, 4.0], 8e6, "TFLOPS")
    assert found.median == pytest.approx(4.0, rel=1e-15)
    assert found.best == pytest.approx(8.0, rel=1e-15)
    assert (found.n, found.unit) == (3, "TFLOPS")


@pytest.mark.parametrize(
    ("unit", "amount", "expected"),
    [("TFLOPS", 1e12, 1.0), ("TOPS", 3e12, 3.0), ("GB/s", 5e9, 5.0)],
)
def test_a_second_delivers_the_decimal_unit(unit: str, amount: float, expected: float) -> None:
    assert rates([1e6], amount, unit).median == expected


def test_an_unknown_unit_of_rate_is_refused() -> None:
    with pytest.raises(KeyError):
        rates([1.0], 1.0, "GiB/s")


@settings(deadline=None, max_examples=60)
@given(SAMPLES)
def test_rates_turn_the_order_of_the_times_round(samples: list[float]) -> None:
    latency = summarise(samples, "us", lower_is_better=True)
    found = rates(samples, 1e9, "GB/s")
    assert found.ci_low <= found.median <= found.ci_high <= found.best
    assert found.p10 <= found.median <= found.p90 <= found.best
    assert found.median == 1e9 / (latency.median * 1e-6) / 1e9
    assert found.ci_low == 1e9 / (latency.ci_high * 1e-6) / 1e9
