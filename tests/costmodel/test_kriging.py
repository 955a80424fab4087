"""Kriging passes through what it knows, shares what sites have in common, and fades far away."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.calibration_file import Kriging, Site, Surface
from roofprobe.costmodel.kriging import (
    Coordinates,
    coordinates,
    interpolate,
    known_points,
    mean,
    nearest_site,
    predict,
    weights,
    without_own_size,
)
from roofprobe.costmodel.kriging_fit import cost_of, fit_law, trimmed

LAW = Kriging(
    common_sd=0.1, common_range=1, site_sd=0.1, site_range=1, local_sd=0.1, local_size_range=1,
    local_site_range=1, joint_sd=0.0, joint_range=1, noise_sd=1e-4,
)  # fmt: skip


def products(m: list[float], n: list[float], k: list[float]) -> dict[str, np.ndarray]:
    return {"m": np.array(m), "n": np.array(n), "k": np.array(k)}


def test_known_points_are_reproduced_and_far_ones_fade() -> None:
    known = coordinates("gemm", products([1, 64, 1024], [4096, 4096, 8192], [4096, 4096, 8192]))
    residuals = np.array([0.1, -0.2, 0.05])
    solved = weights(known, residuals, LAW)
    assert mean(known, known, LAW, solved) == pytest.approx(residuals, abs=1e-4)
    far = coordinates("gemm", products([2.0**40], [2.0**40], [2.0**40]))
    assert mean(far, known, LAW, solved) == pytest.approx([0], abs=1e-6)


def test_a_new_site_takes_what_others_have_in_common_at_its_size() -> None:
    m = [1.0, 1, 1, 1, 4096, 4096, 4096, 4096]
    n = [1024.0, 2048, 8192, 32768] * 2
    known = coordinates("gemm", products(m, n, [4096.0] * 8))
    residuals = np.array([0.2] * 4 + [-0.1] * 4)
    law = fit_law(known, residuals)
    new = coordinates("gemm", products([1, 4096], [4096, 4096], [4096, 4096]))
    assert mean(new, known, law, weights(known, residuals, law)) == pytest.approx(
        [0.2, -0.1], abs=0.05
    )


def test_points_come_back_from_sites() -> None:
    site = Site(key={"n": 8.0, "k": 4.0}, sizes={"m": (1.0, 2.0)}, residuals=(0.1, 0.2))
    points, residuals = known_points("gemm", (site,))
    assert points.size.tolist() == [[0.0], [1.0]]
    assert points.site.tolist() == [[3.0, 2.0], [3.0, 2.0]]
    assert residuals.tolist() == [0.1, 0.2]
    assert nearest_site(points, np.array([[3.0, 1.0]])).tolist() == [1.0, 1.0]


def test_leaving_a_size_out_is_kriging_anew_without_it() -> None:
    m, sites = [1.0, 8, 64, 512], [(1024.0, 4096.0), (2048.0, 2048.0), (8192.0, 1024.0)]
    rows = [(size, n, k) for n, k in sites for size in m]
    known = coordinates("gemm", products(*(list(axis) for axis in zip(*rows, strict=True))))
    residuals = np.random.default_rng(0).normal(0, 0.1, len(rows))
    law = LAW.model_copy(update={"noise_sd": 0.03, "joint_sd": 0.02})
    left = without_own_size(known, residuals, law)
    for number in range(4):
        own = left.size == number
        rest, there = known.take(~own), known.take(own)
        solved = weights(rest, residuals[~own], law)
        expected, sigma = predict(there, rest, law, solved)
        assert left.error[own] == pytest.approx(residuals[own] - expected)
        assert left.sigma[own] == pytest.approx(sigma)


def test_the_deviation_grows_with_the_distance_from_noise_to_the_prior() -> None:
    known = coordinates("gemm", products([64.0], [4096.0], [4096.0]))
    law = LAW.model_copy(update={"noise_sd": 0.02})
    at = coordinates("gemm", products([64, 128, 1024, 2.0**40], [4096.0] * 3 + [2.0**40],
                                      [4096.0] * 3 + [2.0**40]))  # fmt: skip
    sigma = predict(at, known, law, np.zeros(1))[1]
    assert (np.diff(sigma) > 0).all()
    assert sigma[0] < 0.03
    assert sigma[-1] == pytest.approx(np.sqrt(3 * 0.1**2 + 0.02**2))


def test_slopes_of_the_likelihood_agree_with_differences() -> None:
    rng = np.random.default_rng(1)
    for joint in (2, 0):
        points = Coordinates(
            rng.uniform(0, 10, (40, 1)),
            rng.uniform(8, 14, (40, 2)),
            rng.uniform(8, 14, (40, joint)),
        )
        cost = cost_of(points, rng.normal(0, 0.1, 40))
        at = np.log(0.1) + rng.normal(0, 0.3, 10)
        slope = cost(at)[1]
        for i in range(10):
            step = np.zeros(10)
            step[i] = 1e-5
            assert slope[i] == pytest.approx((cost(at + step)[0] - cost(at - step)[0]) / 2e-5, 1e-3)


def test_a_lone_outlier_is_pulled_to_its_neighbours() -> None:
    residuals = np.array([0.0, 0.01, -0.01, 0.0, 1.0])
    assert trimmed(residuals, np.zeros((5, 1)))[4] == pytest.approx(0.15)
    shared = np.full(5, 0.9)
    assert trimmed(shared, np.zeros((5, 1))) == pytest.approx(shared)


def test_a_surface_is_linear_between_knots_and_flat_outside() -> None:
    surface = Surface(knots=((0.0, 2.0), (0.0, 1.0)), values=(0.0, 1.0, 2.0, 3.0))
    at = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 1.0], [9.0, -5.0]])
    assert interpolate(surface, at).tolist() == [0.0, 1.5, 3.0, 2.0]
