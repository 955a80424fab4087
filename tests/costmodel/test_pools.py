"""Separate pools, encoders and tides by hand on simple times."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.costmodel.model_shape import EncoderShape
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.plan_layout import Planned, Planner
from roofprobe.costmodel.pools import encoder_time, separate_pools
from roofprobe.costmodel.tides import tide
from roofprobe.records.errors import RoofprobeError


def planned(**said: Any) -> Planned:
    return Planner(80 << 30).plan(PlanCase("llama-3.1-8b", **said))


@pytest.fixture
def calibration(plain_calibration: Any) -> Any:
    """A decode step takes 10 ms, a prompt token 0.1 ms, spread over 32 layers."""
    return plain_calibration(
        {
            "attention_decode": lambda batch, **_: 0.010 / 32,
            "attention_prefill": lambda batch, query_len, **_: 1e-4 / 32 * batch * query_len,
        }
    )


def test_pools_are_as_large_as_their_share_of_the_load(calibration: Any) -> None:
    found = separate_pools(
        planned(tp=2, input_len=1000, output_len=101),
        planned(tp=1, batch=20, input_len=1000, output_len=101),
        calibration, requests_per_second=25.0,
    )  # fmt: skip
    # 25/s of 0.1 s each are 2.5 copies; 25/s of 100 tokens of 10 ms in batches of 20 are 1.25.
    assert (found.prefill_copies, found.decode_copies) == (3, 2)
    assert (found.prefill_gpus, found.decode_gpus) == (6, 2)
    assert found.ttft_s == pytest.approx(0.1)
    assert found.tpot_s == pytest.approx(0.010)
    assert found.transfer_s == pytest.approx(1000 * 131072 / 2 / 1e11)
    assert found.e2e_s == pytest.approx(0.1 + found.transfer_s + 1.0)
    assert found.tokens_per_second_per_gpu == pytest.approx(25 * 101 / 8)


def test_a_slower_link_between_pools_is_the_users_to_say(calibration: Any) -> None:
    case = planned(batch=1)
    fast, slow = (
        separate_pools(case, case, calibration, requests_per_second=1.0, transfer_gbps=gbps)
        for gbps in (50.0, 5.0)
    )
    assert slow.transfer_s == pytest.approx(10 * fast.transfer_s)


def test_a_pool_that_does_not_fit_is_named(calibration: Any) -> None:
    with pytest.raises(RoofprobeError, match="decode pool"):
        separate_pools(
            planned(), planned(batch=4096, input_len=8192), calibration, requests_per_second=1.0
        )


def test_an_encoder_is_a_prefill_only_model(calibration: Any) -> None:
    vision = EncoderShape("vision", 1024, 32, 16, 4096, False, 588, 576)
    found = encoder_time(vision, calibration, inputs=2, tp=2)
    assert found.median_s == pytest.approx(2 * 576 * 1e-4)
    assert found.inputs_per_second_per_gpu == pytest.approx(1 / 576 / 1e-4 / 2)
    with pytest.raises(RoofprobeError, match="say tokens"):
        encoder_time(EncoderShape("audio", 64, 1, 1, 64, False, 80, None), calibration)


def test_a_day_needs_whole_copies_slot_by_slot() -> None:
    found = tide([1, 5, 9, 1], copy_requests_per_second=2.0, gpus_per_copy=8, cold_start_s=3600.0)
    assert found.copies == (1, 3, 5, 1)
    assert found.fixed_gpu_hours == 5 * 24 * 8
    assert found.following_gpu_hours == (1 + 3 + 5 + 1) * 6 * 8 + 4 * 8
    assert found.saved_share == pytest.approx(1 - 512 / 960)


def test_a_quiet_night_keeps_a_copy() -> None:
    assert tide([0, 0], copy_requests_per_second=2.0, gpus_per_copy=1).copies == (1, 1)


@pytest.mark.parametrize("profile", [[], [1, float("nan")], [-1.0]])
def test_a_profile_that_is_none_is_refused(profile: list[float]) -> None:
    with pytest.raises(RoofprobeError) as error:
        tide(profile, copy_requests_per_second=1.0, gpus_per_copy=1)
    assert error.value.code == "bad-profile"
