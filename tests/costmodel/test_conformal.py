"""Intervals count sites, not rows, and say when there are not enough of them."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.conformal import Scores, bands, coverage, halfwidth


def scores_of(error: np.ndarray, site: np.ndarray, size: np.ndarray) -> Scores:
    return Scores(error, error, site, size, np.zeros_like(error))


def test_the_halfwidth_is_the_raised_quantile_over_sites() -> None:
    off = np.arange(1, 11) / 10
    width, enough = halfwidth(off, np.arange(10))
    assert (width, enough) == (0.9, True)  # 0.8 · 11/10 = 0.88 of ten sites: the ninth


def test_a_site_with_many_rows_counts_once() -> None:
    off = np.concatenate([np.full(1000, 0.01), np.full(9, 0.5)])
    sites = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 10)])
    assert halfwidth(off, sites) == (0.5, True)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_sites_are_told(count: int) -> None:
    width, enough = halfwidth(np.full(count, 0.1), np.arange(count))
    assert not enough
    assert width >= 0.5


def test_ranges_have_their_own_halfwidth() -> None:
    site = np.repeat(np.arange(10), 2)
    size = np.tile([1.0, 1000.0], 10)
    error = np.where(size > 100, 0.3, 0.05)
    small, large = bands(scores_of(error, site, size), (0, 100))
    assert (small.low, small.high, small.log_halfwidth, small.enough) == (0, 100, 0.05, True)
    assert (large.low, large.high, large.log_halfwidth) == (100, None, 0.3)


def test_intervals_hold_about_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(20):
        site = np.repeat(np.arange(20), 10)
        error = rng.normal(0, 0.1, 20)[site] + rng.normal(0, 0.05, 200)
        found = coverage(scores_of(error, site, np.ones(200)), (0,))
        assert found is not None
        held.append(found)
    assert 0.78 < float(np.mean(held)) < 0.90
