"""Costs of steps: linear within a family, root of squares between them, and what binds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofprobe.costmodel.correction import bit
from roofprobe.costmodel.ops import BOUNDS, FAMILIES, Op, Step, price, roofline


def gemm(count: Any, m: Any = 1.0, name: str = "product") -> Op:
    return Op(name, "gemm", "bf16", {"m": m, "n": 10_000, "k": 10_000}, count)


def norm(count: Any) -> Op:
    return Op("norm", "rmsnorm", "bf16", {"rows": 1.0, "width": 1.0}, count)


def test_a_step_is_the_sum_of_its_executions(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m, "rmsnorm": lambda **_: 0.5})
    (cost,), refused = price(calibration, [Step((gemm(3, 2.0), gemm(1, 5.0), norm(4)), 1)])
    assert refused == []
    assert cost.total_s.tolist() == [3 * 2 + 5 + 4 * 0.5]
    assert cost.median_s[FAMILIES.index("gemm")].tolist() == [11]


def test_each_case_and_each_step_gets_its_own(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m})
    steps = [
        Step((gemm(np.array([1, 0, 2]), np.array([1.0, 2.0, 3.0])), gemm(1, 10.0)), 3),
        Step((gemm(np.array([0, 1]), np.array([7.0, 8.0])),), 2),
    ]
    first, second = price(calibration, steps)[0]
    assert first.total_s.tolist() == [11, 10, 16]
    assert second.total_s.tolist() == [0, 8]


def test_errors_of_repeated_layers_do_not_average_out(plain_calibration: Any) -> None:
    width = 0.1
    calibration = plain_calibration({"gemm": lambda m, **_: m}, log_spread=width)
    (cost,), _ = price(calibration, [Step((gemm(32, 1.0), gemm(32, 2.0)), 1)])
    low, high = cost.interval_s(0.0)
    assert high[0] == pytest.approx(96 * math.exp(width))
    assert low[0] == pytest.approx(96 * math.exp(-width))


def test_what_shapes_do_not_share_cancels_within_a_step(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m}, log_spread=math.log(2), shared=0.25)
    (cost,), _ = price(calibration, [Step((gemm(1, 3.0), gemm(1, 4.0)), 1)])
    half = math.sqrt(0.25 * 7**2 + 0.75 * (3**2 + 4**2))
    assert cost.interval_s(0.0)[1].tolist() == [pytest.approx(7 + half)]
    twice = cost + cost  # the same weights once more
    assert twice.interval_s(0.0)[1].tolist() == [pytest.approx(14 + 2 * half)]


def test_one_shape_under_two_names_errs_once(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m}, log_spread=math.log(2), shared=0.0)
    ops = (gemm(2, 3.0, "one"), gemm(1, 3.0, "other"))
    (cost,), _ = price(calibration, [Step(ops, 1)])
    assert cost.interval_s(0.0)[1].tolist() == [pytest.approx(9 + 9)]


def test_errors_of_different_families_add_as_squares(plain_calibration: Any) -> None:
    calibration = plain_calibration(
        {"gemm": lambda **_: 3.0, "rmsnorm": lambda **_: 4.0}, log_spread=math.log(2)
    )
    (cost,), _ = price(calibration, [Step((gemm(1), norm(1)), 1)])
    assert cost.interval_s(0.0)[1].tolist() == [pytest.approx(7 + 5)]
    assert cost.interval_s(0.1)[1].tolist() == [pytest.approx(7 + math.hypot(5, 0.7))]


def test_costs_add_and_scale(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m}, log_spread=0.1)
    (cost,), _ = price(calibration, [Step((gemm(1, 2.0),), 1)])
    twice = cost + cost.times(3)
    assert twice.total_s.tolist() == [8]
    assert twice.interval_s(0.0)[1][0] == pytest.approx(8 * math.exp(0.1))
    assert cost.times(0).flags.tolist() == [0]


def test_a_reason_to_doubt_counts_where_it_is_about_a_fiftieth_of_the_time(
    plain_calibration: Any,
) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m, "rmsnorm": lambda **_: 1.0})
    doubted = bit("size-range")
    time = calibration.time

    def doubting(op: str, *args: Any, **sizes: Any) -> Any:
        found = time(op, *args, **sizes)
        return replace(found, flags=found.flags | (doubted if op == "rmsnorm" else 0))

    calibration.time = doubting
    (cost,), _ = price(calibration, [Step((gemm(1, np.array([45.0, 55.0])), norm(1)), 2)])
    assert cost.flags.tolist() == [doubted, 0]  # 1 of 46 is more than a fiftieth, 1 of 56 is less
    assert (cost + cost).flags.tolist() == [doubted, 0]
    assert cost.times(np.array([0, 3])).flags.tolist() == [0, 0]


def test_what_cannot_be_timed_is_refused_for_the_cases_that_run_it(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: m}, refuse=frozenset({"rmsnorm"}))
    (cost,), (refusal,) = price(calibration, [Step((gemm(1), norm(np.array([0, 1]))), 2)])
    assert np.isnan(cost.total_s).tolist() == [False, True]
    assert refusal.cases.tolist() == [1]
    assert refusal.reason.code == "not-measured"


@pytest.mark.parametrize(
    ("seconds", "m", "bound"),
    [
        (0.3, 1e6, "compute"),  # 2e14 FLOP at 1e15 FLOP/s are 0.2 s: more than a quarter
        (3e-4, 1.0, "memory"),  # 200 MB at 1e12 B/s are 200 µs
        (1e-3, 1.0, "latency"),  # neither explains a quarter of 1 ms
    ],
)
def test_an_operation_is_bound_by_what_explains_a_quarter_of_it(
    plain_calibration: Any, seconds: float, m: float, bound: str
) -> None:
    calibration = plain_calibration({"gemm": lambda **_: seconds})
    (cost,), _ = price(calibration, [Step((gemm(1, m),), 1)])
    assert BOUNDS[int(cost.bound()[0])] == bound


def test_the_roofline_of_a_step_is_its_work_over_the_peaks(plain_calibration: Any) -> None:
    link = Op("reduce", "all_reduce", "bf16", {"bytes": 1e9, "ranks": 2}, 1)
    least = roofline(plain_calibration(), [gemm(2, 1.0), link], 1)
    assert least.compute_s.tolist() == [2 * 2e8 / 1e15]
    assert least.memory_s.tolist() == [2 * (2e8 + 2e4 + 2e4) / 1e12]
