"""Sizing: the fewest GPUs, copies for a load, and what suits which user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roofprobe.costmodel.calibration import Calibration, default_calibration
from roofprobe.costmodel.evaluate import evaluate
from roofprobe.costmodel.memory import weight_bytes
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.plan_layout import Planned, Planner
from roofprobe.costmodel.sizing import (
    candidates,
    cold_start_s,
    copies_for_load,
    fewest_gpus,
    high_throughput,
    low_latency,
    meets_targets,
    rank_gpus,
)
from roofprobe.records.errors import RoofprobeError


@pytest.fixture(scope="module")
def h100() -> Calibration:
    return default_calibration("H100 SXM")


def case_of(calibration: Calibration, **said: Any) -> Planned:
    assert calibration.hardware.memory_bytes is not None
    return Planner(calibration.hardware.memory_bytes).plan(PlanCase(**said))


def test_candidates_divide_the_heads_within_a_server_and_then_take_stages() -> None:
    found = candidates(load_model("qwen2.5-7b"))  # 28 heads
    assert [(one.tp, one.pp) for one in found] == [(1, 1), (2, 1), (4, 1), (4, 2), (4, 4), (4, 8),
                                                   (4, 16)]  # fmt: skip


def test_the_fewest_gpus_that_meet_a_target_do_and_one_copy_less_does_not(
    h100: Calibration,
) -> None:
    case = case_of(h100, model="llama-3.1-8b", concurrency=512, input_len=1000, output_len=200,
                   tpot_ms=20.0)  # fmt: skip
    (gpus,) = fewest_gpus([case], h100)
    assert gpus is not None
    assert gpus > 1

    def meets(copies: int) -> bool:
        spread = [replace(case, degrees=replace(case.degrees, dp=copies))]
        return bool(meets_targets(spread, evaluate(spread, h100))[0])

    assert not any(meets(copies) for copies in range(1, gpus))
    # Other layouts may need as few; with tp 1 that many copies are enough or tp > 1 was chosen.
    assert meets(gpus) or gpus % 2 == 0


def test_many_cases_are_answered_like_each_alone(h100: Calibration) -> None:
    cases = [
        case_of(h100, model="llama-3.1-8b", concurrency=64, tpot_ms=9.0),
        case_of(h100, model="llama-3.1-70b", tp=4),
        case_of(h100, model="llama-3.1-8b", concurrency=64, tpot_ms=9.0),
        case_of(h100, model="llama-3.1-8b", ttft_ms=0.001),
    ]
    together = fewest_gpus(cases, h100)
    assert together == [fewest_gpus([case], h100)[0] for case in cases]
    assert together[3] is None


@pytest.mark.parametrize(
    ("wanted", "copies"),
    [
        ({"wanted_requests_per_second": 10.0}, 5),
        ({"wanted_requests_per_second": 10.1}, 6),
        ({"wanted_tokens_per_minute": 2 * 100 * 60.0}, 1),
        ({"wanted_tokens_per_minute": 7 * 100 * 60.0, "wanted_requests_per_second": 3.0}, 4),
        ({}, 1),
    ],
)
def test_a_load_needs_whole_copies(wanted: dict[str, float], copies: int) -> None:
    assert copies_for_load(2.0, 100, **wanted) == copies


def test_the_two_users_get_different_systems(h100: Calibration) -> None:
    case = case_of(h100, model="llama-3.1-8b", input_len=1000, output_len=200)
    soon, much = low_latency(case, h100), high_throughput(case, h100)
    assert soon is not None
    assert much is not None
    assert soon.degrees.tp > much.degrees.tp
    assert soon.tpot_s < much.tpot_s
    assert soon.tokens_per_second_per_gpu < much.tokens_per_second_per_gpu
    assert much.concurrency > 16


def test_a_target_bounds_the_throughput_that_is_chosen(h100: Calibration) -> None:
    free = case_of(h100, model="llama-3.1-8b", input_len=1000, output_len=200)
    bound = case_of(h100, model="llama-3.1-8b", input_len=1000, output_len=200, tpot_ms=10.0)
    most, within = high_throughput(free, h100), high_throughput(bound, h100)
    assert most is not None
    assert within is not None
    assert within.tpot_s <= 0.010 < most.tpot_s
    never = replace(bound, case=replace(bound.case, tpot_ms=0.01))
    assert high_throughput(never, h100) is None
    assert low_latency(never, h100) is None


def test_ranking_is_by_price_where_there_is_one(h100: Calibration) -> None:
    h200 = default_calibration("H200 SXM")
    case = case_of(h100, model="llama-3.1-8b", input_len=1000, output_len=200)
    by_speed = rank_gpus(case, [h100, h200])
    assert [one.gpu for one in by_speed] == [h200.hardware.name, h100.hardware.name]
    priced = rank_gpus(
        case, [h100, h200], price_per_hour={h100.hardware.name: 1.0, h200.hardware.name: 100.0}
    )
    assert [one.gpu for one in priced] == [h100.hardware.name, h200.hardware.name]
    assert priced[0].price_per_million_tokens == pytest.approx(
        1e6 / 3600 / priced[0].tokens_per_second_per_gpu
    )


def test_a_cold_start_reads_every_share_once() -> None:
    model = load_model("llama-3.1-8b")
    expected = weight_bytes(model, "bf16") / 2e9
    assert cold_start_s(model, "bf16", source_gbps=2.0) == pytest.approx(expected)
    assert cold_start_s(model, "bf16", source_gbps=2.0, tp=4) == pytest.approx(expected, rel=0.01)
    with pytest.raises(RoofprobeError, match="above 0"):
        cold_start_s(model, "bf16", source_gbps=0.0)
