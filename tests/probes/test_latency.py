"""Latency by footprint: what is planned, how long it is walked before, what a load comes to."""

from __future__ import annotations

import pytest

from roofprobe.kernels.work import Check, Work
from roofprobe.probes import latency, plan
from roofprobe.probes.figures import figures_of
from roofprobe.probes.measure import Sampled
from roofprobe.probes.timers import WallTimer
from roofprobe.records.schema import Case, Device, Distribution, Options

MIB = 1 << 20
CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
GPU = Device(
    device_id="GPU-example", torch_device="cuda:0", backend="cuda", name="Example GPU",
    architecture="sm_90",
)  # fmt: skip


def cases(device: Device, tier: str = "standard") -> list[Case]:
    options = Options.model_validate({"families": ("latency",), "tier": tier})
    return list(latency.cases(device, options))


def test_footprints_rise_from_the_first_cache_to_beyond_the_last() -> None:
    for device in (CPU, GPU):
        sizes = [case.shape["footprint_bytes"] for case in cases(device)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 16 << 10
        assert sizes[-1] >= 256 * MIB
        assert [c.shape["footprint_bytes"] for c in cases(device, "quick")] == [
            sizes[0], sizes[-1],
        ]  # fmt: skip


def test_a_gpu_skips_its_first_cache_where_the_footprint_does_not_fit_it() -> None:
    caches = {c.shape["footprint_bytes"]: (c.config or "").split(",")[0] for c in cases(GPU)}
    assert caches[16 << 10] == "l1"
    assert caches[4 * MIB] == "l2"
    assert {(c.config or "").split(",")[0] for c in cases(CPU)} == {"l1"}


def test_huge_pages_are_for_a_processor_at_tier_soak() -> None:
    def huge(device: Device, tier: str) -> int:
        return sum("huge" in (case.config or "") for case in cases(device, tier))

    assert huge(CPU, "soak") == len(cases(CPU))
    assert huge(CPU, "standard") == huge(GPU, "soak") == 0


def test_a_footprint_is_walked_round_before_anything_is_timed() -> None:
    options = Options(families=("latency",))
    for case in cases(CPU):
        lines = case.shape["footprint_bytes"] / 64
        policy = plan.policy_for(case, CPU, options)
        assert policy.warmup_s >= min(2.0, lines * 150e-9)
        assert policy.timeout_s > policy.warmup_s + policy.max_time_s


def test_a_load_is_the_launch_over_its_accesses_and_has_no_rate() -> None:
    work = Work(
        launches=(lambda: None,), flops=0, bytes_read=64_000, bytes_written=0, array_bytes=1,
        check=lambda: Check(0, 0, "", 1), kernel="chase", accesses=1000,
    )  # fmt: skip
    sampled = Sampled((80.0, 100.0, 120.0), 1, 2, "time limit", 0.1)
    (case,) = cases(CPU)[:1]
    found = figures_of(case, CPU, work, sampled, WallTimer(), None)
    assert found["rate"] is None
    access = found["access_ns"]
    assert isinstance(access, Distribution)
    assert (access.unit, access.best) == ("ns", 80.0)
    assert access.median == pytest.approx(100.0, rel=1e-12)
