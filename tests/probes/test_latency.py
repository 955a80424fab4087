"""Latency by footprint: what is planned, how long it is walked before, what a load comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.kernels import chase
from roofprobe.kernels.work import Check, Target, Work
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


def test_loads_from_two_partitions_of_a_cache_are_two_populations() -> None:
    near = np.arange(200, 220).repeat(30)  # 600 loads
    far = np.arange(390, 410).repeat(20)  # 400
    interrupted = np.array([90_000, 120_000])
    found = latency.populations(np.concatenate((far, interrupted, near)).astype(np.int32))
    assert [round(each.share, 2) for each in found] == [0.6, 0.4]
    assert [each.cycles_median for each in found] == pytest.approx([209.5, 399.5], abs=1)
    assert found[0].cycles_p10 < found[0].cycles_median < found[0].cycles_p90


@pytest.mark.parametrize(
    "cycles",
    [
        pytest.param([280] * 1000, id="all alike"),
        pytest.param(list(range(260, 300)) * 25, id="one broad group"),
        pytest.param([280] * 960 + [500] * 40, id="too few slow ones"),
        pytest.param([280] * 500 + [300] * 500, id="hardly slower"),
        pytest.param([300], id="a single load"),
    ],
)
def test_one_population_is_not_cut_in_two(cycles: list[int]) -> None:
    (found,) = latency.populations(np.array(cycles, dtype=np.int32))
    assert found.share == 1.0
    assert min(cycles) <= found.cycles_p10 <= found.cycles_p90 <= max(cycles)


@given(st.lists(st.integers(0, 1 << 30), max_size=300))
def test_any_cycles_fall_into_at_most_two_groups_that_are_all_of_them(cycles: list[int]) -> None:
    found = latency.populations(np.array(cycles, dtype=np.int32))
    assert len(found) <= min(2, len(cycles))
    assert sum(each.share for each in found) == pytest.approx(1.0 if cycles else 0.0, abs=1e-3)
    medians = [each.cycles_median for each in found]
    assert medians == sorted(medians)


def test_single_loads_of_a_gpu_are_timed_by_its_counter() -> None:
    script = Path(__file__).with_name("interpreted_latency.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {"share": 1.0, "cycles_p10": 1.0, "cycles_median": 1.0, "cycles_p90": 1.0}
    ]
    processor = chase.prepare(Target("cpu", "cpu"), footprint_bytes=16 << 10, seed=1)
    assert latency.single_loads(processor, Target("cpu", "cpu")) == ()
