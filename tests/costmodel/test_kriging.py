"""Kriging passes through what it knows, shares what sites have in common, and fades far away."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.calibration_file import Kriging, Site, Surface
from roofprobe.costmodel.kriging import (
    coordinates,
    interpolate,
    known_points,
    mean,
    nearest_site,
    weights,
)
from roofprobe.costmodel.kriging_fit import fit_law, trimmed

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


def test_a_lone_outlier_is_pulled_to_its_neighbours() -> None:
    residuals = np.array([0.0, 0.01, -0.01, 0.0, 1.0])
    assert trimmed(residuals, np.zeros((5, 1)))[4] == pytest.approx(0.15)
    shared = np.full(5, 0.9)
    assert trimmed(shared, np.zeros((5, 1))) == pytest.approx(shared)


def test_a_surface_is_linear_between_knots_and_flat_outside() -> None:
    surface = Surface(knots=((0.0, 2.0), (0.0, 1.0)), values=(0.0, 1.0, 2.0, 3.0))
    at = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 1.0], [9.0, -5.0]])
    assert interpolate(surface, at).tolist() == [0.0, 1.5, 3.0, 2.0]
