"""Tables whose errors are known: intervals of a calibration hold 80 % of new times, give or take.

Times are the closed form's times errors drawn from a known law: what all weights share along m,
what a weight has at all m, and noise. Of twenty weights fourteen are measured, at powers of two of
m; the intervals are then asked for the six others, and for sizes in between.
"""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel import forms, kriging
from roofprobe.costmodel.calibration import Calibration, Estimate
from roofprobe.costmodel.calibration_file import Ceilings, DeviceCalibration, Kriging, Peak
from roofprobe.costmodel.fit import Settings, calibrate_points
from roofprobe.costmodel.forms import Coefficients, Rates
from roofprobe.costmodel.points import Points

RATES = Rates(flops=1e15, bandwidth=3e12, units=132, l2_bytes=5e7)
TRUTH = Coefficients(compute_efficiency=0.75, memory_efficiency=0.85, t0_s=4e-6, exponent=3)
LAW = Kriging(
    common_sd=0.06, common_range=1.5, site_sd=0.05, site_range=1.0, local_sd=0.05,
    local_size_range=2, local_site_range=1, joint_sd=0.0, joint_range=1, noise_sd=0.03,
)  # fmt: skip
MEASURED, SITES = 14, 20
POWERS, BETWEEN = 2.0 ** np.arange(15), 2.0 ** (np.arange(1, 14) + 0.5)
SETTINGS = Settings(splits=7)


def device() -> DeviceCalibration:
    def peak(value: float, unit: str) -> Peak:
        return Peak.model_validate(
            {"value": value, "unit": unit, "kind": "assumed", "source": "a test"}
        )

    ceilings = Ceilings(compute={"bf16": peak(1000, "TFLOPS")}, memory=peak(3000, "GB/s"))
    return DeviceCalibration(name="gpu", units=132, l2_bytes=int(5e7), ceilings=ceilings)


def table(rng: np.random.Generator) -> tuple[Points, np.ndarray]:
    """Return all rows with their times, and each row's weight."""
    sites = 2.0 ** rng.uniform(10, 15, (SITES, 2))
    sizes = np.concatenate([POWERS, BETWEEN])
    site = np.repeat(np.arange(SITES), len(sizes))
    shape = {"m": np.tile(sizes, SITES), "n": sites[site, 0], "k": sites[site, 1]}
    at = kriging.coordinates("gemm", shape)
    k = kriging.covariance(at, at, LAW)
    k[np.diag_indices_from(k)] += LAW.noise_sd**2
    error = np.linalg.cholesky(k) @ rng.normal(size=len(site))
    seconds = forms.seconds(forms.count("gemm", "bf16", shape, RATES), TRUTH, RATES)
    points = Points("gemm", "bf16", None, "gpu", None, None, "t", shape, seconds * np.exp(error))
    return points, site


def times(calibration: Calibration, points: Points) -> Estimate:
    m, n, k = (points.shape[name] for name in ("m", "n", "k"))
    return calibration.time("gemm", "bf16", m=m, n=n, k=k)


@pytest.fixture(scope="module")
def covered() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"new weights": [], "measured weights": [], "sums": []}
    for seed in range(12):
        points, site = table(np.random.default_rng(seed))
        power = np.isin(points.shape["m"], POWERS)
        fit = calibrate_points(points.take(power & (site < MEASURED)), RATES, "t", SETTINGS)
        calibration = Calibration(device().model_copy(update={"ops": (fit,)}))
        told = times(calibration, points)
        off = np.log(points.latency_s / told.median_s)
        inside = np.abs(off) <= told.log_spread
        new = site >= MEASURED
        found["new weights"].append(float(inside[new & power].mean()))
        found["measured weights"].append(float(inside[~new & ~power].mean()))
        # Four new weights of one step, times and half-widths weighed alike.
        rows = np.flatnonzero(new & power).reshape(SITES - MEASURED, -1)[:4]
        c = told.shared[rows]
        w = told.log_spread[rows]
        half = np.sqrt((np.sqrt(c) * w).sum(0) ** 2 + ((1 - c) * w**2).sum(0))
        found["sums"].append(float((np.abs(off[rows].sum(0)) <= half).mean()))
    return found


@pytest.mark.parametrize("what", ["new weights", "measured weights"])
def test_intervals_hold_what_they_promise(covered: dict[str, list[float]], what: str) -> None:
    assert float(np.mean(covered[what])) == pytest.approx(0.8, abs=0.06)


def test_sums_of_shapes_hold_no_less_than_promised(covered: dict[str, list[float]]) -> None:
    """A little more: in a split fewer weights are known than in the end, so more is shared."""
    assert 0.77 < float(np.mean(covered["sums"])) < 0.93


def test_an_interval_at_a_measured_weight_is_narrower_than_at_a_new_one() -> None:
    points, site = table(np.random.default_rng(0))
    fit = calibrate_points(points.take(site < MEASURED), RATES, "t", SETTINGS)
    calibration = Calibration(device().model_copy(update={"ops": (fit,)}))
    spread = times(calibration, points).log_spread
    assert np.median(spread[site < MEASURED]) < 0.8 * np.median(spread[site >= MEASURED])
