"""A plan is a pure function: complete, ordered in rounds, the same after a resume."""

from __future__ import annotations

import pytest

from roofprobe.probes import compute, memory
from roofprobe.probes.plan import expected_s, plan_cases, policy_for
from roofprobe.records.schema import Case, Device, Options

GIB = 1 << 30
BOTH = Options(families=("compute", "memory"))


def gpu(units: int, memory_gib: int, backend: str = "cuda") -> Device:
    return Device(
        device_id="GPU-example",
        torch_device="cuda:0",
        backend=backend,
        name="Example GPU",
        architecture="sm_90",
        unit_count=units,
        memory_bytes=memory_gib * GIB,
        memory_free_bytes=memory_gib * GIB,
        last_level_cache_bytes=40 << 20,
    )


DEVICES = {
    "cpu": Device(
        device_id="cpu",
        torch_device="cpu",
        backend="cpu",
        name="Example CPU",
        unit_count=8,
        memory_bytes=16 * GIB,
        memory_free_bytes=12 * GIB,
        last_level_cache_bytes=32 << 20,
        features=("avx2",),
    ),
    "large": gpu(132, 80),
    "medium": gpu(60, 16),
    "small": gpu(20, 8),
    "rocm": gpu(304, 192, "rocm"),
    "npu": Device(device_id="npu:0", torch_device="npu:0", backend="npu", name="Example NPU"),
}
TIERS = ("quick", "standard", "soak")
every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
every_tier = pytest.mark.parametrize("tier", TIERS)


def at(tier: str) -> Options:
    return Options.model_validate({"families": ("compute", "memory"), "tier": tier})


@every_tier
@every_device
def test_every_public_precision_and_memory_kernel_has_a_case(device: Device, tier: str) -> None:
    cases = plan_cases(device, at(tier))
    assert {c.precision for c in cases if c.family == "compute"} == set(compute.PRECISIONS)
    assert {c.op for c in cases if c.family == "memory"} == {
        "read", "write", "copy", "scale", "add", "triad", "dot",
    }  # fmt: skip


@every_tier
@every_device
def test_case_ids_are_unique(device: Device, tier: str) -> None:
    ids = [case.case_id for case in plan_cases(device, at(tier))]
    assert len(set(ids)) == len(ids)


@every_device
def test_a_resumed_run_plans_the_same(device: Device) -> None:
    again = Device.model_validate_json(device.model_dump_json())
    options = Options.model_validate_json(BOTH.model_dump_json())
    assert plan_cases(again, options) == plan_cases(device, BOTH)


def rounds(cases: tuple[Case, ...]) -> list[int]:
    """Return for each case how many shapes of its operation and precision came before."""
    seen: dict[tuple[str, str], list[str]] = {}
    levels = []
    for case in cases:
        shapes = seen.setdefault((case.op, case.precision), [])
        shape = str(sorted(case.shape.items()))
        if shape not in shapes:
            shapes.append(shape)
        levels.append(shapes.index(shape))
    return levels


@every_device
def test_the_first_shapes_of_everything_come_before_any_second(device: Device) -> None:
    levels = rounds(plan_cases(device, BOTH))
    assert levels == sorted(levels)
    assert max(levels) > 0


@every_device
def test_settled_is_asked_of_the_first_shape_on_accelerators_only(device: Device) -> None:
    cases = plan_cases(device, BOTH)
    settled = [case for case in cases if case.regime == "settled"]
    if device.backend == "cpu":
        assert settled == []
        return
    levels = dict(zip((case.case_id for case in cases), rounds(cases), strict=True))
    assert {case.precision for case in settled} == {
        "fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8", "int8",
    }  # fmt: skip
    assert {levels[case.case_id] for case in settled} == {0}
    assert {case.family for case in settled} == {"compute"}


@every_tier
@every_device
def test_every_case_is_expected_to_take_time_within_its_limit(device: Device, tier: str) -> None:
    options = at(tier)
    for case in plan_cases(device, options):
        policy = policy_for(case, device, options)
        assert 0 < expected_s(case, device, options) < policy.timeout_s
        assert policy.min_time_s <= policy.max_time_s
        assert policy.warmup_s + policy.max_time_s < policy.timeout_s


def test_settled_cases_work_for_three_seconds_before_the_first_sample() -> None:
    device = DEVICES["large"]
    settled = next(c for c in plan_cases(device, BOTH) if c.regime == "settled")
    burst = settled.model_copy(update={"regime": "burst"})
    assert policy_for(settled, device, BOTH).warmup_s == 3.0
    assert policy_for(burst, device, BOTH).warmup_s == 0.1


@every_device
def test_a_slower_tier_plans_no_fewer_cases_and_takes_longer(device: Device) -> None:
    counts, times = [], []
    for tier in TIERS:
        cases = plan_cases(device, at(tier))
        counts.append(len(cases))
        times.append(sum(expected_s(case, device, at(tier)) for case in cases))
    assert counts == sorted(counts)
    assert times == sorted(times)


def test_only_the_families_and_precisions_asked_for_are_planned() -> None:
    device = DEVICES["large"]
    only_memory = plan_cases(device, Options(families=("memory",)))
    assert {case.family for case in only_memory} == {"memory"}
    asked = Options(families=("compute",), precisions=("bf16", "int4"))
    assert {case.precision for case in plan_cases(device, asked)} == {"bf16", "int4"}


@every_device
def test_every_memory_case_fits_where_the_device_tells_its_memory(device: Device) -> None:
    free = device.memory_free_bytes
    for case in memory.cases(device, BOTH):
        arrays = 3 * case.shape["elements"] * {"fp32": 4, "fp64": 8, "bf16": 2}[case.precision]
        assert free is None or arrays <= 0.6 * free
