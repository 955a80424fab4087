"""The statistics of a comparison: known answers, and what never may happen."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.acceptance.compare import noise
from roofprobe.acceptance.compare.statistics import (
    PRIOR_DEGREES,
    BetweenRuns,
    adjusted,
    median_interval,
    moderated_test,
    prior_variance,
    rank_test,
    ratio_interval,
)


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_benjamini_and_hochberg_give_the_textbook_figures() -> None:
    # p·n/rank, then the least from the largest p on
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjusted([]) == []
    assert adjusted([0.3]) == [0.3]


@given(st.lists(st.floats(0, 1), max_size=40))
def test_a_corrected_p_is_no_smaller_and_keeps_the_order(ps: list[float]) -> None:
    found = adjusted(ps)
    assert all(p <= q <= 1 or p == pytest.approx(q) for p, q in zip(ps, found, strict=True))
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert all(found[i] <= found[j] + 1e-15 for i, j in pairwise(order))


def test_ranks_that_do_not_overlap_have_the_exact_p() -> None:
    # both tails of 2 of C(8, 4) = 70 orders
    assert rank_test(array(1, 2, 3, 4), array(5, 6, 7, 8)) == pytest.approx(2 / 70)


def test_ties_and_single_samples_prove_nothing() -> None:
    assert rank_test(array(1, 1, 1, 1), array(1, 1, 1, 1)) == 1.0
    assert rank_test(array(1.0), array(2, 3)) is None


def test_a_ratio_of_constants_is_exact_with_its_interval() -> None:
    found = ratio_interval(np.full(9, 4.0), np.full(9, 5.0))
    assert (found.value, found.low, found.high) == (1.25, 1.25, 1.25)


def test_a_ratio_s_interval_covers_both_sides_scatter_and_is_repeatable() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(100, 5, 40), generator.normal(100, 5, 40)
    first, again = ratio_interval(a, b), ratio_interval(a, b)
    assert first == again
    alone = median_interval(a)
    assert first.high - first.low > (alone.high - alone.low) / alone.value


def test_the_moderated_test_draws_a_row_s_variance_to_that_of_the_others() -> None:
    quiet = BetweenRuns(array(0.0, 0.0), array(0.1, 0.1))
    assert (quiet.degrees, quiet.variance) == (2, 0.0)
    test = moderated_test(quiet, 0.1, prior=0.04)
    # s² = 2 · 0.04 / (2 + 2), the error √(s² · (1/2 + 1/2))
    assert test.error == pytest.approx(math.sqrt(PRIOR_DEGREES * 0.04 / (PRIOR_DEGREES + 2)))
    # t with 4 degrees of freedom at 0.1 / 0.1414
    assert test.p == pytest.approx(0.5185185, abs=1e-6)


def test_no_spread_at_all_leaves_no_doubt() -> None:
    row = BetweenRuns(array(1.0, 1.0), array(1.1, 1.1))
    assert moderated_test(row, 0.1, prior=0.0).p == 0.0
    assert moderated_test(row, 0.0, prior=0.0).p == 1.0


def test_the_prior_is_the_mean_variance_weighted_by_degrees() -> None:
    two = BetweenRuns(array(0.0, 0.2), array(0.0))
    four = BetweenRuns(array(0.0, 0.0), array(0.0, 0.0))
    assert prior_variance([two, four]) == pytest.approx(0.02 / 3)
    assert prior_variance([BetweenRuns(array(0.0), array(1.0))]) is None


def movements(*effects: float, label: str = "") -> list[noise.Movement]:
    return [noise.Movement(0, "compute", label or f"row{i}", e) for i, e in enumerate(effects)]


def test_a_row_s_own_kind_is_left_out_of_its_noise() -> None:
    quiet = movements(*[0.001, -0.001] * 10)
    loud = [noise.Movement(0, "compute", "broken", 0.3) for _ in range(20)]
    found = noise.backgrounds([*quiet, *loud], ["cuda"])
    assert found[-1].centre == 0.0
    assert found[-1].sigma == pytest.approx(0.001 / 0.6745)
    assert found[-1].n == 20


def test_few_rows_of_a_family_fall_back_to_the_device_and_fewer_to_nothing() -> None:
    rows = [noise.Movement(0, "latency", "chase", 0.0), *movements(*[0.01, -0.01] * 5)]
    assert noise.backgrounds(rows, ["cuda"])[0].n == 10
    assert noise.backgrounds(rows[:3], ["cuda"])[0] == noise.Background()


def test_the_clock_explains_only_its_own_direction_and_a_usual_wander() -> None:
    slower = math.log(1.1)
    assert noise.clock_allowance("cpu", slower, math.log(0.97)) == -math.log(0.97)
    assert noise.clock_allowance("cpu", slower, math.log(1.03)) == 0.0
    assert noise.clock_allowance("cpu", slower, math.log(0.5)) == math.log1p(0.06)
    assert noise.clock_allowance("cuda", slower, math.log(0.5)) == math.log1p(0.02)
    assert noise.clock_allowance("cuda", slower, None) == 0.0


def test_drift_is_half_of_what_parts_the_halves_beyond_chance() -> None:
    samples = array(*[100.0] * 10, *[120.0] * 10)
    assert noise.drift(samples, 0.0) == pytest.approx(math.log(1.2) / 2)
    assert noise.drift(samples, 0.2) == 0.0
    assert noise.drift(samples[8:12], 0.0) == 0.0
