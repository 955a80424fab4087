"""The minimum of a soft-L1 loss is found within bounds, for all sets at once."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.robust_fit import minimise

X = np.linspace(0, 1, 21)


def line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes = np.stack([np.ones_like(X), X])
    return values @ slopes, np.broadcast_to(slopes[:, None], (2, len(values), len(X)))


def fitted(target: np.ndarray, rows: np.ndarray, high: float = 9.0) -> np.ndarray:
    low, top = np.array([-9.0, -9.0]), np.array([9.0, high])
    begin = np.zeros((len(rows), 2))
    found, cost = minimise(line, target, rows, begin, low, top, np.ones(2), 0.1)
    assert (cost >= 0).all()
    return found


def test_each_set_finds_the_constants_of_its_rows() -> None:
    target = np.where(X < 0.5, 1 + 2 * X, 5 - X)
    rows = np.stack([X < 0.5, X >= 0.5])
    assert fitted(target, rows) == pytest.approx(np.array([[1, 2], [5, -1]]), abs=1e-3)


def test_an_outlier_hardly_pulls() -> None:
    target = 1 + 2 * X
    target[10] += 100
    (found,) = fitted(target, np.ones((1, 21), dtype=bool))
    assert found == pytest.approx([1, 2], abs=0.05)


def test_a_constant_rests_at_its_bound_and_the_others_make_do() -> None:
    (found,) = fitted(1 + 2 * X, np.ones((1, 21), dtype=bool), high=1.0)
    assert found[1] == 1.0
    assert found[0] == pytest.approx(1.5, abs=0.01)
