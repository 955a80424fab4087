"""On a lattice kriging gives what it gives everywhere, whatever was asked before."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel import kriging
from roofprobe.costmodel.calibration_file import Kriging
from roofprobe.costmodel.lattice import Lattice, distinct_rows

LAW = Kriging(
    common_sd=0.08, common_range=2, site_sd=0.05, site_range=1.5, local_sd=0.07,
    local_size_range=2, local_site_range=1.2, joint_sd=0.03, joint_range=0.5, noise_sd=0.02,
)  # fmt: skip


def sites_of(op: str, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    if op == "gemm":
        return {name: rng.choice([2048.0, 4096.0, 14336.0], count) for name in ("n", "k")}
    heads = rng.choice([8.0, 32.0, 40.0], count)
    return {"heads": heads, "kv_heads": heads / 4, "head_dim": np.full(count, 128.0)}


def shapes_of(op: str, seed: int, count: int, *, powers: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def size(low: float, high: float) -> np.ndarray:
        octaves = rng.uniform(low, high, count)
        return np.asarray(2.0 ** (np.round(octaves) if powers else octaves))

    if op == "gemm":
        return {"m": size(0, 13), **sites_of(op, rng, count)}
    if op == "attention_decode":
        return {"batch": size(0, 8), "kv_len": size(4, 15), **sites_of(op, rng, count)}
    query = size(4, 13)
    return {"batch": size(0, 4), "query_len": query, "kv_len": query.copy(),
            **sites_of(op, rng, count)}  # fmt: skip


@pytest.fixture(params=["gemm", "attention_decode", "attention_prefill"])
def case(request: pytest.FixtureRequest) -> tuple[str, kriging.Coordinates, np.ndarray]:
    op = str(request.param)
    known = kriging.coordinates(op, shapes_of(op, 0, 150, powers=True))
    residuals = np.random.default_rng(1).normal(0, 0.1, 150)
    return op, known, kriging.weights(known, residuals, LAW)


def test_powers_of_two_are_as_they_are_without_a_lattice(
    case: tuple[str, kriging.Coordinates, np.ndarray],
) -> None:
    op, known, solved = case
    shape = shapes_of(op, 2, 300, powers=True)
    exact = kriging.predict(kriging.coordinates(op, shape), known, LAW, solved)
    found = Lattice(op, known, LAW, solved).at(shape)
    assert found[0] == pytest.approx(exact[0], abs=1e-9)
    assert found[1] == pytest.approx(exact[1], abs=1e-9)


def test_sizes_in_between_are_close(
    case: tuple[str, kriging.Coordinates, np.ndarray],
) -> None:
    op, known, solved = case
    shape = shapes_of(op, 3, 500, powers=False)
    mean, sigma = kriging.predict(kriging.coordinates(op, shape), known, LAW, solved)
    found = Lattice(op, known, LAW, solved).at(shape)
    assert np.quantile(np.abs(found[0] - mean), 0.95) < 0.005
    assert np.quantile(np.abs(found[1] / sigma - 1), 0.95) < 0.05


def test_what_was_asked_before_does_not_matter(
    case: tuple[str, kriging.Coordinates, np.ndarray],
) -> None:
    op, known, solved = case
    one, other = (shapes_of(op, seed, 50, powers=False) for seed in (4, 5))
    used = Lattice(op, known, LAW, solved)
    used.at(other)
    for found, fresh in zip(used.at(one), Lattice(op, known, LAW, solved).at(one), strict=True):
        assert found == pytest.approx(fresh, abs=1e-12)


def test_sizes_beyond_all_bounds_are_finite() -> None:
    known = kriging.coordinates("gemm", shapes_of("gemm", 0, 20, powers=True))
    solved = kriging.weights(known, np.ones(20), LAW)
    shape = {"m": np.array([0.0, 1e-30, 1e30, 1e300]), "n": np.ones(4), "k": np.ones(4)}
    mean, sigma = Lattice("gemm", known, LAW, solved).at(shape)
    assert np.isfinite(mean).all()
    assert (sigma > 0).all()


def test_rows_are_told_apart_exactly() -> None:
    columns = {"a": np.array([1.0, 2, 1, 1]), "b": np.array([5.0, 5, 5, 6])}
    found, number = distinct_rows(columns)
    assert len(found["a"]) == 3
    assert number[0] == number[2]
    for name, values in columns.items():
        assert found[name][number].tolist() == values.tolist()
