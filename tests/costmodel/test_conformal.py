"""Intervals count sites, not rows, hold what they promise, and say when sites are too few."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.calibration_file import Band
from roofprobe.costmodel.conformal import Scores, bands, coverage, quantiles, shared, widths


def scores_of(
    error: np.ndarray,
    site: np.ndarray,
    size: np.ndarray | None = None,
    sigma: np.ndarray | None = None,
    moment: np.ndarray | None = None,
) -> Scores:
    ones = np.ones(len(error))
    return Scores(
        error, error, site, ones if size is None else size, np.zeros_like(error),
        ones if sigma is None else sigma,
        np.arange(len(error)) if moment is None else moment,
    )  # fmt: skip


def test_a_site_with_many_rows_counts_once() -> None:
    off = np.concatenate([np.full(1000, 0.01), np.full(9, 0.5)])
    sites = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 10)])
    assert quantiles(off, sites, np.array([0.1, 0.11, 1.0])).tolist() == [0.01, 0.5, 0.5]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_sites_are_told(count: int) -> None:
    (band,) = bands(scores_of(np.full(count, 0.1), np.arange(count)), (0,))
    assert not band.enough
    assert band.log_halfwidth >= 0.5
    assert band.sigma is None


def test_ranges_have_their_own_halfwidth() -> None:
    site = np.repeat(np.arange(10), 2)
    size = np.tile([1.0, 1000.0], 10)
    error = np.where(size > 100, 0.3, 0.05)
    small, large = bands(scores_of(error, site, size), (0, 100))
    assert (small.low, small.high, small.log_halfwidth, small.enough) == (0, 100, 0.05, True)
    assert (large.low, large.high, large.log_halfwidth) == (100, None, 0.3)


def test_a_halfwidth_grows_with_the_deviation_that_kriging_expects() -> None:
    found = (
        Band(low=0, high=10, log_halfwidth=0.1, sigma=0.05, sites=9, enough=True),
        Band(low=10, log_halfwidth=0.3, sites=9, enough=True),
    )
    size, sigma = np.array([1.0, 1.0, 20.0]), np.array([0.05, 0.1, 0.1])
    assert widths(found, size, sigma).tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("sites", [5, 14, 30])
@pytest.mark.parametrize("common", [0.0, 0.05, 0.1])
def test_new_sites_lie_inside_as_often_as_promised(sites: int, common: float) -> None:
    """Errors of a known law: what a site has in common at all sizes, and noise of each row."""
    rng = np.random.default_rng(7)
    held, told = [], []
    for _ in range(80):
        site = np.repeat(np.arange(sites), 20)
        sigma = rng.uniform(0.5, 2, len(site))
        error = sigma * (rng.normal(0, common, sites)[site] + rng.normal(0, 0.05, len(site)))
        scores = scores_of(error, site, sigma=sigma)
        found = bands(scores, (0,))
        fresh = rng.normal(0, common, (200, 1)) + rng.normal(0, 0.05, (200, 20))
        at = rng.uniform(0.5, 2, 4000)
        inside = np.abs(fresh.ravel() * at) <= widths(found, np.ones(4000), at)
        held.append(inside.mean())
        told.append(coverage(scores, (0,)))
    assert float(np.mean(held)) == pytest.approx(0.8, abs=0.035)
    assert float(np.mean([t for t in told if t is not None])) == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize("common", [0.0, 0.3, 0.7, 1.0])
def test_the_part_that_shapes_share_is_found(common: float) -> None:
    rng = np.random.default_rng(1)
    moments, each = 600, 4
    moment = np.repeat(np.arange(moments), each)
    error = np.sqrt(common) * rng.normal(0, 0.1, moments)[moment]
    error += np.sqrt(1 - common) * rng.normal(0, 0.1, moments * each)
    site = np.tile(np.arange(each), moments)
    found = shared(scores_of(error, site, moment=moment))
    assert found == pytest.approx(common, abs=0.08)


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_sums_of_shapes_lie_inside_as_often_as_promised(common: float) -> None:
    """Heavy-tailed errors, whose sums are closer to normal than they are."""
    rng = np.random.default_rng(2)

    def errors(moments: int) -> np.ndarray:
        own = rng.laplace(0, 0.05, (moments, 4))
        return np.asarray(own + common * rng.laplace(0, 0.1, (moments, 1)))

    seen = errors(400)
    site, moment = np.tile(np.arange(4), 400), np.repeat(np.arange(400), 4)
    scores = scores_of(seen.ravel(), site, moment=moment)
    width = bands(scores, (0,))[0].log_halfwidth
    c = shared(scores)
    sums = np.abs(errors(4000).sum(axis=1))
    assert np.mean(sums <= width * np.sqrt(16 * c + 4 * (1 - c))) == pytest.approx(0.8, abs=0.03)


def test_without_several_shapes_at_a_moment_all_is_shared() -> None:
    assert shared(scores_of(np.full(50, 0.1), np.arange(50))) == 1.0
    assert shared(scores_of(np.zeros(0), np.zeros(0, dtype=int))) == 1.0
