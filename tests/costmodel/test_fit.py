"""A fit finds the constants that made the timings, and is judged by sites that it did not see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration import coefficients_of
from roofprobe.costmodel.fit import Settings, calibrate_points, splits
from roofprobe.costmodel.forms import Coefficients, Rates
from roofprobe.costmodel.points import Points

RATES = Rates(flops=1e15, bandwidth=3e12, units=132, l2_bytes=5e7)
TRUTH = Coefficients(compute_efficiency=0.75, memory_efficiency=0.85, t0_s=4e-6, exponent=3)
QUICK = Settings(splits=4)


def points_from(
    seconds: Callable[[forms.Work], np.ndarray], sites: list[tuple[int, int]], ms: list[int]
) -> Points:
    rows = np.array([(m, n, k) for n, k in sites for m in ms], dtype=float)
    shape = {"m": rows[:, 0], "n": rows[:, 1], "k": rows[:, 2]}
    work = forms.count("gemm", "bf16", shape, RATES)
    return Points("gemm", "bf16", None, "gpu", None, None, "a test", shape, seconds(work))


SITES = [(2048, 2048), (4096, 4096), (8192, 8192), (4096, 14336), (28672, 4096), (6144, 4096)]
MS = [1, 8, 64, 256, 1024, 4096, 8192]


def test_the_constants_that_made_the_timings_are_found() -> None:
    points = points_from(lambda work: forms.seconds(work, TRUTH, RATES), SITES, MS)
    fit = calibrate_points(points, RATES, "test", QUICK)
    assert fit.compute_efficiency == pytest.approx(0.75, rel=0.02)
    assert fit.memory_efficiency == pytest.approx(0.85, rel=0.02)
    assert fit.t0_us == pytest.approx(4, rel=0.05)
    assert fit.held_out is not None
    assert fit.held_out.p90 < 0.01
    assert fit.domain["m"].low == 1
    assert fit.domain["m"].high == 8192


def test_an_error_that_neighbours_share_is_corrected_at_sites_not_seen() -> None:
    def slower(work: forms.Work) -> np.ndarray:
        m = np.tile(MS, len(SITES))
        return np.asarray(forms.seconds(work, TRUTH, RATES) * np.where(m == 64, 1.3, 1.0))

    fit = calibrate_points(points_from(slower, SITES, MS), RATES, "test", QUICK)
    assert fit.held_out is not None
    assert fit.held_out.p90 < 0.7 * fit.held_out.form_p90


def test_the_same_points_give_the_same_fit() -> None:
    points = points_from(lambda work: forms.seconds(work, TRUTH, RATES), SITES[:4], MS[:4])
    assert calibrate_points(points, RATES, "t", QUICK) == calibrate_points(
        points, RATES, "t", QUICK
    )


def test_whole_sites_are_held_out_each_about_as_often() -> None:
    points = points_from(lambda work: forms.seconds(work, TRUTH, RATES), SITES, MS)
    masks, words = splits(points, Settings(splits=6, share=1 / 3))
    _, number = points.sites()
    seen = np.zeros(6, dtype=int)
    for mask in masks:
        held = np.unique(number[mask])
        assert len(held) == 2
        assert not set(number[~mask]) & set(held)
        seen[held] += 1
    assert seen.tolist() == [2] * 6
    assert "2 of 6 sites held out" in words


def test_one_site_is_told_to_be_too_few() -> None:
    points = points_from(lambda work: forms.seconds(work, TRUTH, RATES), SITES[:1], MS)
    fit = calibrate_points(points, RATES, "test", QUICK)
    assert fit.held_out is not None
    assert "one site only" in fit.held_out.protocol
    assert not any(band.enough for band in fit.intervals.bands)
    assert coefficients_of(fit).compute_efficiency > 0
