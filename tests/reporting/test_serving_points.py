"""For which model, which cases, and what of it is less sure."""

from __future__ import annotations

import pytest

from roofprobe.costmodel.calibration import Calibration, calibration_from
from roofprobe.costmodel.model_presets import preset_names
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.planner import plan
from roofprobe.costmodel.weight_memory import weight_bytes
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.serving_points import (
    INPUT_LEN,
    MODELS,
    OUTPUT_LEN,
    TARGETS,
    Loaded,
    Serving,
    Span,
    Target,
    most_within,
    serving_of,
)


@pytest.fixture(scope="module")
def calibration(served: tuple[Run, Beside]) -> Calibration:
    run, beside = served
    assert beside.calibration is not None
    return calibration_from(beside.calibration, device=run.devices[0].device_id)


@pytest.fixture(scope="module")
def found(calibration: Calibration) -> Serving:
    return serving_of(calibration)


def with_memory(calibration: Calibration, gib: int) -> Calibration:
    device = calibration.device.model_copy(update={"memory_bytes": gib << 30})
    return Calibration(device, calibration.provenance)


def test_the_models_are_presets_from_big_to_small() -> None:
    assert set(MODELS) <= set(preset_names())
    sizes = [weight_bytes(load_model(name), "bf16") for name in MODELS]
    assert sizes == sorted(sizes, reverse=True)


def test_every_point_is_what_a_plan_of_it_says(found: Serving, calibration: Calibration) -> None:
    at = next(at for at in found.load if at.in_flight == 8)
    told = plan(
        found.model, calibration=calibration, precision=found.precision,
        kv_precision=found.precision, concurrency=8, input_len=INPUT_LEN, output_len=OUTPUT_LEN,
    )  # fmt: skip
    assert at.ttft == Span(**told["ttft_ms"])
    assert at.tpot == Span(**told["tpot_ms"])
    assert at.tokens_per_second == told["tokens_per_second_per_gpu"]
    (curve,) = [c for c in found.tpot if c.parameter == 4096]
    decode = plan(
        found.model, calibration=calibration, precision=found.precision,
        kv_precision=found.precision, batch=16, input_len=4096, output_len=2,
    )  # fmt: skip
    assert next(a.time for a in curve.points if a.size == 16) == Span(**decode["tpot_ms"])


def test_the_greatest_model_that_fits_with_room_is_taken(calibration: Calibration) -> None:
    chosen = [serving_of(with_memory(calibration, gib)).model for gib in (12, 24, 40, 60)]
    assert chosen == ["qwen3-0.6b", "qwen3-4b", "llama-3.1-8b", "qwen3-14b"]


def test_of_models_that_fit_the_one_with_fewer_doubts_is_taken(calibration: Calibration) -> None:
    # without the layers of the large ones their weights are far from all that was measured
    small = tuple(
        fit if fit.op != "gemm" else fit.model_copy(
            update={"sites": tuple(site for site in fit.sites if site.key["k"] < 4096)}
        )
        for fit in calibration.device.ops
    )  # fmt: skip
    device = calibration.device.model_copy(update={"ops": small, "memory_bytes": 60 << 30})
    chosen = serving_of(Calibration(device, calibration.provenance)).model
    assert chosen == "qwen3-0.6b"


def test_a_device_too_slow_for_every_target_serves_the_smallest(calibration: Calibration) -> None:
    slow = tuple(
        fit.model_copy(update={"memory_efficiency": fit.memory_efficiency / 1000})
        for fit in calibration.device.ops
    )
    device = calibration.device.model_copy(update={"ops": slow})
    assert serving_of(Calibration(device, calibration.provenance)).model == MODELS[-1]


def test_where_nothing_can_be_timed_the_reason_is_told(calibration: Calibration) -> None:
    layers = tuple(fit for fit in calibration.device.ops if fit.op != "attention_prefill")
    device = calibration.device.model_copy(update={"ops": layers})
    with pytest.raises(RoofprobeError, match=r"attention_prefill in bf16.* was never measured"):
        serving_of(Calibration(device))


def test_where_nothing_fits_the_reason_is_told(calibration: Calibration) -> None:
    with pytest.raises(RoofprobeError, match="does not fit"):
        serving_of(with_memory(calibration, 2))
    with pytest.raises(RoofprobeError, match="leaves no room"):
        serving_of(with_memory(calibration, 6))


def test_curves_end_where_memory_is_full(found: Serving) -> None:
    ends = {curve.parameter: curve.points[-1].size for curve in found.tpot}
    assert ends[1024] > ends[4096] > ends[16384]
    assert found.load[-1].in_flight <= found.most_requests


def test_points_beyond_what_was_measured_are_kept_and_not_sure(found: Serving) -> None:
    (alone,) = [curve for curve in found.ttft if curve.parameter == 1]
    sure = {at.size: at.sure for at in alone.points}
    assert sure[1024]
    assert sure[2048]
    assert not sure[8192]  # products of at most 4096 tokens were measured
    assert any("outside the measured range" in why for why in found.doubts)
    assert not any("few measured sites" in why for why in found.doubts)


def test_medians_lie_in_their_intervals_and_more_in_flight_is_never_faster(found: Serving) -> None:
    times = [at.time for curve in (*found.ttft, *found.tpot) for at in curve.points]
    times += [time for at in found.load for time in (at.ttft, at.tpot)]
    assert all(time.p10 <= time.median <= time.p90 for time in times)
    tpot = [at.tpot.median for at in found.load]
    assert tpot == sorted(tpot)


def loaded(in_flight: int, ttft: float, tpot: float) -> Loaded:
    first, each = (Span(value, value / 2, value * 2) for value in (ttft, tpot))
    return Loaded(in_flight, first, each, tokens_per_second=1.0, sure=True)


def test_a_target_is_kept_by_both_medians_or_surely_by_both_upper_ends() -> None:
    load = [loaded(1, 100, 10), loaded(2, 240, 14), loaded(4, 300, 20), loaded(8, 300, 40)]
    target = Target("t", 500.0, 30.0)
    best, sure = most_within(load, target), most_within(load, target, surely=True)
    assert best is not None
    assert sure is not None
    assert (best.in_flight, sure.in_flight) == (4, 2)
    assert most_within(load, Target("t", 50.0, 30.0)) is None
    assert load[0].per_user == 100.0


def test_targets_go_from_tight_to_slack() -> None:
    bounds = [(target.ttft_ms, target.tpot_ms) for target in TARGETS]
    assert bounds == sorted(bounds)
    assert len({target.name for target in TARGETS}) == len(TARGETS)
