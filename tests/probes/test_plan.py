"""A plan is a pure function: complete, ordered in stages and rounds, the same after a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roofprobe.kernels import routes, stream
from roofprobe.kernels.rows import BY_NAME, ROWS
from roofprobe.kernels.triton_configs import configs_for
from roofprobe.probes import compute, memory
from roofprobe.probes.measure import Policy
from roofprobe.probes.plan import expected_s, follow_ups, plan_cases, policy_for
from roofprobe.records.schema import Case, Device, Distribution, Measurement, Options, Search

GIB = 1 << 30
BOTH = Options(families=("compute", "memory"))


def gpu(units: int, memory_gib: int, backend: str = "cuda", architecture: str = "sm_90") -> Device:
    return Device(
        device_id="GPU-example",
        torch_device="cuda:0",
        backend=backend,
        name="Example GPU",
        architecture=architecture,
        unit_count=units,
        memory_bytes=memory_gib * GIB,
        memory_free_bytes=memory_gib * GIB,
        last_level_cache_bytes=40 << 20,
    )


def cpu(*features: str) -> Device:
    return Device(
        device_id="cpu",
        torch_device="cpu",
        backend="cpu",
        name="Example CPU",
        architecture="x86_64",
        unit_count=8,
        memory_bytes=16 * GIB,
        memory_free_bytes=12 * GIB,
        last_level_cache_bytes=32 << 20,
        features=features,
    )


DEVICES = {
    "cpu": cpu("avx2", "fma"),
    "large": gpu(132, 80),
    "medium": gpu(60, 16, architecture="sm_89"),
    "small": gpu(20, 8, architecture="sm_75"),
    "rocm": gpu(304, 192, "rocm", "gfx942"),
    "npu": Device(device_id="npu:0", torch_device="npu:0", backend="npu", name="Example NPU"),
}
TIERS = ("quick", "standard", "soak")
every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
every_tier = pytest.mark.parametrize("tier", TIERS)


def at(tier: str, **more: Any) -> Options:
    return Options.model_validate({"families": ("compute", "memory"), "tier": tier, **more})


def searched(case: Case, device: Device, status: str = "ok", **more: Any) -> Measurement:
    """Return a search that found the row's first anchor by the route that it was asked for."""
    assert case.row is not None
    fields = {
        "method": "successive halving",
        "route": case.route,
        "seed": 0,
        "sentence": "made up",
        "elapsed_s": 1.0,
        "candidates": 1,
        "pruned": 0,
        "best": compute.anchors_for(device, BY_NAME[case.row])[0],
        **more,
    }
    return Measurement.model_validate(
        {
            "case": case,
            "device_id": device.device_id,
            "status": status,
            "search": Search.model_validate(fields),
        }
    )


def done(case: Case, device: Device, options: Options, tflops: float = 1.0) -> Measurement:
    """Return a case that was measured at a rate; a search found the row's first anchor."""
    if case.role == "search":
        return searched(case, device)
    rate = Distribution(unit="TFLOPS", median=tflops, ci_low=tflops, ci_high=tflops, p10=tflops,
                        p90=tflops, best=tflops, n=10)  # fmt: skip
    return Measurement(case=case, device_id=device.device_id, status="ok", rate=rate)


def expanded(
    device: Device, options: Options, tflops: Callable[[Case], float] = lambda case: 1.0
) -> Iterator[Case]:
    """Yield the plan as it runs when everything can be measured, at the rates told."""
    waiting = list(plan_cases(device, options))
    earlier: list[Measurement] = []
    while waiting:
        case = waiting.pop(0)
        yield case
        found = done(case, device, options, tflops(case))
        waiting[:0] = follow_ups(found, earlier, device, options)
        earlier.append(found)


@every_tier
@every_device
def test_every_row_and_memory_kernel_has_a_case(device: Device, tier: str) -> None:
    cases = plan_cases(device, at(tier))
    assert {c.row for c in cases if c.family == "compute"} == set(BY_NAME)
    streams = {c.op for c in cases if c.family == "memory"}
    assert {kernel.name for kernel in stream.KERNELS if kernel.group == "stream"} <= streams
    assert ({"gather-16", "strided-2"} <= streams) == (tier != "quick")


@every_tier
@every_device
def test_every_row_of_products_is_searched_or_has_its_anchors_and_every_row_its_pipe(
    device: Device, tier: str
) -> None:
    roles: dict[str, set[str]] = {}
    for case in plan_cases(device, at(tier)):
        if case.row is not None:
            roles.setdefault(case.row, set()).add(case.role)
    for row in ROWS:
        assert "pipe" in roles[row.name]
        assert ({"anchor", "search"} <= roles[row.name]) == row.gemm


@pytest.mark.parametrize("search", ["halving", "exhaustive", "none"])
@every_tier
@every_device
def test_case_ids_are_unique_with_all_that_follows(device: Device, tier: str, search: str) -> None:
    options = at(tier, search=search, sweeps=("layouts", "alignment"), compile_routes=True)
    ids = [case.case_id for case in expanded(device, options)]
    assert len(set(ids)) == len(ids)


@every_device
def test_a_resumed_run_plans_the_same_with_all_that_follows(device: Device) -> None:
    again = Device.model_validate_json(device.model_dump_json())
    options = Options.model_validate_json(BOTH.model_dump_json())
    assert tuple(expanded(again, options)) == tuple(expanded(device, BOTH))
    for case in plan_cases(device, BOTH):
        if case.role == "search":
            found = searched(case, device)
            kept = Measurement.model_validate_json(found.model_dump_json())
            assert follow_ups(kept, (), again, options) == follow_ups(found, (), device, BOTH)


# Order


def stage(case: Case) -> int:
    last = {"surface": 3, "curve": 3}
    return {"anchor": 0, "pipe": 1, "stability": 1, **last}.get(case.role, 2)


@every_tier
@every_device
def test_fixed_shapes_come_first_then_pipes_searches_and_the_surface(
    device: Device, tier: str
) -> None:
    stages = [stage(case) for case in plan_cases(device, at(tier))]
    assert stages == sorted(stages)


def rounds(cases: tuple[Case, ...]) -> list[int]:
    """Return for each case how many shapes of its operation and row came before."""
    seen: dict[tuple[str, str], list[str]] = {}
    levels = []
    for case in cases:
        shapes = seen.setdefault((case.op, case.row or case.precision), [])
        shape = str(sorted(case.shape.items()))
        if shape not in shapes:
            shapes.append(shape)
        levels.append(shapes.index(shape))
    return levels


@every_device
def test_the_first_shapes_of_everything_come_before_any_second(device: Device) -> None:
    fixed = tuple(case for case in plan_cases(device, at("soak")) if stage(case) == 0)
    levels = rounds(fixed)
    assert levels == sorted(levels)
    assert max(levels) > 0


@every_device
def test_a_row_s_cases_of_one_shape_follow_each_other_so_that_operands_are_filled_once(
    device: Device,
) -> None:
    anchors = [c for c in plan_cases(device, BOTH) if c.role == "anchor" and c.row]
    blocks = [(c.row, tuple(c.shape.values())) for c in anchors]
    changes = [block for block, last in zip(blocks, [None, *blocks], strict=False) if block != last]
    assert len(changes) == len(set(blocks))


# What follows a search


def followed(
    device: Device,
    options: Options,
    row: str,
    fastest: Callable[[Case], bool] = lambda case: False,
    **more: Any,
) -> tuple[Case, ...]:
    """Return all that follows from a row's search, where one case is ten times as fast."""
    case = next(c for c in plan_cases(device, options) if (c.role, c.row) == ("search", row))
    earlier: list[Measurement] = []
    cases: list[Case] = []
    waiting = list(follow_ups(found := searched(case, device, **more), earlier, device, options))
    earlier.append(found)
    while waiting:
        case = waiting.pop(0)
        cases.append(case)
        found = done(case, device, options, 10.0 if fastest(case) else 1.0)
        waiting[:0] = follow_ups(found, earlier, device, options)
        earlier.append(found)
    return tuple(cases)


def test_every_route_runs_at_the_shape_that_was_found() -> None:
    best = (384, 512, 640)
    for device in DEVICES.values():
        cases = followed(device, BOTH, "bf16", best=best)
        routed = [c for c in cases if c.role == "route"]
        assert [c.route for c in routed] == [r.name for r in routes.routes_for("bf16")]
        assert {tuple(c.shape.values()) for c in cases} == {best}
        assert {c.row for c in cases} == {"bf16"}


def test_torch_compile_is_a_route_when_it_is_asked_for() -> None:
    device = DEVICES["large"]
    for asked in (False, True):
        options = at("standard", compile_routes=asked)
        for cases in (followed(device, options, "bf16"), plan_cases(device, options)):
            assert ("torch.compile" in {c.route for c in cases}) == asked


@pytest.mark.parametrize(
    ("device", "tier", "row", "expected"),
    [
        ("large", "quick", "bf16", {"route", "settled"}),
        ("large", "quick", "fp64", {"route"}),
        ("large", "standard", "fp64", {"route", "settled", "pattern", "tune"}),
        ("cpu", "quick", "fp32", {"route", "settled"}),
        ("cpu", "quick", "bf16", {"route"}),
        ("cpu", "standard", "bf16", {"route", "settled", "pattern"}),
        ("cpu", "standard", "fp16", {"route", "pattern"}),
        ("cpu", "soak", "fp16", {"route", "settled", "pattern"}),
        ("npu", "standard", "bf16", {"route", "settled", "pattern"}),
    ],
)
def test_a_tier_decides_what_else_is_done_at_the_best_shape(
    device: str, tier: str, row: str, expected: set[str]
) -> None:
    assert {c.role for c in followed(DEVICES[device], at(tier), row)} == expected


@pytest.mark.parametrize(("tier", "most"), [("quick", 0), ("standard", 2), ("soak", 99)])
def test_the_next_best_configurations_of_our_kernel_are_tried_and_not_the_first_again(
    tier: str, most: int
) -> None:
    tuned = [c for c in followed(DEVICES["large"], at(tier), "bf16") if c.role == "tune"]
    known = [config.name for config in configs_for("bf16", "sm_90")]
    assert len(known) > 2
    assert [c.config for c in tuned] == known[1:][:most]
    assert {c.route for c in tuned} <= {"triton"}


def test_settled_and_patterns_are_of_the_fastest_whatever_its_route_and_configuration() -> None:
    device = DEVICES["large"]
    second = configs_for("bf16", "sm_90")[1].name
    for fastest, route, config in (
        (lambda c: (c.role, c.route) == ("route", "torch.mm/lt"), "torch.mm/lt", None),
        (lambda c: c.config == second, "triton", second),
    ):
        cases = followed(device, BOTH, "bf16", fastest)
        told = [c for c in cases if c.role in ("settled", "pattern")]
        assert len(told) == 6
        assert {(c.route, c.config) for c in told} == {(route, config)}


def test_an_anchor_that_is_faster_than_the_shape_found_is_the_one_that_settles() -> None:
    device, options = DEVICES["cpu"], BOTH
    anchor = compute.anchors_for(device, BY_NAME["fp32"])[0]
    quick = ("anchor", "numpy.matmul")
    cases = expanded(device, options, lambda c: 9.0 if (c.role, c.route) == quick else 1.0)
    (settled,) = [c for c in cases if (c.row, c.role) == ("fp32", "settled")]
    assert settled.route == "numpy.matmul"
    assert tuple(settled.shape.values()) == anchor


def test_nothing_settles_where_nothing_worked() -> None:
    device = DEVICES["large"]
    case = next(c for c in plan_cases(device, BOTH) if (c.role, c.row) == ("search", "bf16"))
    earlier = [searched(case, device)]
    for each in follow_ups(earlier[0], (), device, BOTH):
        found = Measurement(case=each, device_id=device.device_id, status="failed")
        assert follow_ups(found, earlier, device, BOTH) == ()
        earlier.append(found)


def test_patterns_bring_uniform_data_measured_in_the_same_way() -> None:
    for name, regime in (("large", "settled"), ("cpu", "burst")):
        device = DEVICES[name]
        cases = [c for c in followed(device, BOTH, "bf16") if c.role == "pattern"]
        assert [c.pattern for c in cases] == [
            "uniform", "normal", "small-integers", "constant", "zeros",
        ]  # fmt: skip
        assert {c.regime for c in cases} == {regime}
        assert len({policy_for(c, device, BOTH) for c in cases}) == 1


def test_a_gpu_tries_patterns_on_one_row_of_each_format() -> None:
    device = DEVICES["large"]
    assert [c for c in followed(device, BOTH, "fp8-fast") if c.role == "pattern"]
    assert not [c for c in followed(device, BOTH, "fp8-rowwise") if c.role == "pattern"]


def test_sweeps_come_when_asked_for_only() -> None:
    device = DEVICES["large"]
    best = (1024, 2048, 4096)
    none = followed(device, BOTH, "bf16", best=best)
    assert not {c.role for c in none} & {"layout", "alignment"}
    options = at("standard", sweeps=("layouts", "alignment"))
    cases = followed(device, options, "bf16", best=best)
    assert [c.layout for c in cases if c.role == "layout"] == ["TN", "NN", "NT", "TT"]
    odd = [c.shape for c in cases if c.role == "alignment"]
    assert [shape["n"] - 2048 for shape in odd] == [0, 64, 32, 16, 8, 4, 2, 1]
    assert {(shape["m"], shape["k"]) for shape in odd} == {(1024, 4096)}


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_search_that_found_nothing_calls_for_nothing(status: str) -> None:
    device = DEVICES["large"]
    case = next(c for c in plan_cases(device, BOTH) if c.role == "search")
    assert follow_ups(searched(case, device, status), (), device, BOTH) == ()
    assert follow_ups(searched(case, device, best=None), (), device, BOTH) == ()
    bare = Measurement(case=case, device_id="GPU-example", status="ok")
    assert follow_ups(bare, (), device, BOTH) == ()


def test_where_the_search_failed_the_fastest_anchor_settles() -> None:
    device = DEVICES["large"]
    cases = plan_cases(device, BOTH)
    search = next(c for c in cases if (c.role, c.row) == ("search", "bf16"))
    anchors = [done(c, device, BOTH) for c in cases if (c.role, c.row) == ("anchor", "bf16")]
    more = follow_ups(searched(search, device, "failed"), anchors, device, BOTH)
    assert {c.role for c in more} == {"settled", "pattern"}


def test_only_a_search_calls_for_more_at_once() -> None:
    device = DEVICES["cpu"]
    for case in plan_cases(device, BOTH):
        if case.role != "search":
            assert follow_ups(done(case, device, BOTH), (), device, BOTH) == ()


@every_device
def test_without_a_search_the_first_anchor_takes_its_place(device: Device) -> None:
    cases = tuple(expanded(device, at("standard", search="none")))
    assert not [c for c in cases if c.role in ("search", "route")]
    settled = [c for c in cases if c.role == "settled"]
    assert settled
    for case in settled:
        assert case.row is not None
        anchor = compute.anchors_for(device, BY_NAME[case.row])[0]
        assert tuple(case.shape.values()) == anchor


def test_no_follow_up_of_a_follow_up_goes_on_for_ever() -> None:
    for case in followed(DEVICES["large"], BOTH, "bf16"):
        assert case.role != "search"


# How long


@every_tier
@every_device
def test_every_case_is_expected_to_take_time_within_its_limit(device: Device, tier: str) -> None:
    options = at(tier)
    for case in expanded(device, options):
        policy = policy_for(case, device, options)
        assert 0 < expected_s(case, device, options) < policy.timeout_s
        assert policy.min_time_s <= policy.max_time_s
        assert policy.warmup_s + policy.max_time_s < policy.timeout_s


def total_s(device: Device, options: Options) -> float:
    return sum(expected_s(case, device, options) for case in expanded(device, options))


@pytest.mark.parametrize(
    ("device", "tier", "most_s"),
    [
        (cpu("avx2", "fma"), "quick", 120),
        (cpu("avx2", "fma"), "standard", 180),
        (cpu("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "fma"), "standard", 180),
        (gpu(132, 80), "quick", 120),
        (gpu(132, 80), "standard", 600),
    ],
)
def test_a_tier_keeps_its_promise_of_time_with_all_that_follows(
    device: Device, tier: str, most_s: float
) -> None:
    everything = ("compute", "memory", "latency", "launch", "interconnect", "llm")
    options = Options.model_validate({"families": everything, "tier": tier})
    assert total_s(device, options) < most_s


@every_device
def test_a_slower_tier_plans_no_fewer_cases_and_takes_longer(device: Device) -> None:
    counts = [len(list(expanded(device, at(tier)))) for tier in TIERS]
    times = [total_s(device, at(tier)) for tier in TIERS]
    assert counts == sorted(counts)
    assert times == sorted(times)


def test_what_the_device_alone_rules_out_is_expected_to_take_no_time() -> None:
    options = at("standard")
    for device, rows in (
        (DEVICES["cpu"], {"tf32", "fp16-acc16", "fp8-fast", "mxfp8", "nvfp4", "bf16-sparse"}),
        (DEVICES["large"], {"mxfp8", "nvfp4"}),
        (DEVICES["small"], {"tf32", "bf16", "fp8", "fp8-fast", "mxfp8", "int8-sparse"}),
    ):
        for case in expanded(device, options):
            if case.row in rows and case.role in ("anchor", "settled") and case.route != "triton":
                assert expected_s(case, device, options) == 0.01, case.case_id
    for case in expanded(DEVICES["cpu"], options):
        if case.route in ("triton", "torch.mm/lt", "torch.mm/tuned", "cuSPARSELt"):
            assert expected_s(case, DEVICES["cpu"], options) == 0.01, case.case_id
        if (case.row, case.route) == ("fp32", "torch.mm"):
            assert expected_s(case, DEVICES["cpu"], options) > 0.05, case.case_id


def policy_of(device: str, role: str, tier: str = "standard", **more: Any) -> Policy:
    options = at(tier, **more)
    case = next(c for c in expanded(DEVICES[device], options) if (c.role, c.row) == (role, "bf16"))
    return policy_for(case, DEVICES[device], options)


def test_settled_cases_work_for_three_seconds_without_a_rest_or_pause() -> None:
    settled, burst = policy_of("large", "settled"), policy_of("large", "anchor")
    assert (settled.warmup_s, settled.rest_s, settled.pause_s) == (3.0, 0.0, 0.0)
    assert settled.batch_s == 0.02
    assert burst.warmup_s < 0.1


def test_a_gpu_rests_and_pauses_in_a_burst_and_a_processor_does_not() -> None:
    for role in ("anchor", "route", "pipe", "search"):
        on_gpu, on_cpu = policy_of("large", role), policy_of("cpu", role)
        assert on_gpu.rest_s > 0
        assert on_gpu.pause_s > 0
        assert (on_cpu.rest_s, on_cpu.pause_s) == (0.0, 0.0)
    memory_case = next(c for c in plan_cases(DEVICES["large"], BOTH) if c.family == "memory")
    assert policy_for(memory_case, DEVICES["large"], BOTH).rest_s == 0


@pytest.mark.parametrize("device", ["large", "cpu"])
def test_maps_and_comparisons_are_brief(device: str) -> None:
    anchor = policy_of(device, "anchor")
    brief = policy_of(device, "surface")
    assert brief.max_time_s < anchor.max_time_s / 2
    assert brief.target_ci > anchor.target_ci
    for sweep, role in (("layouts", "layout"), ("alignment", "alignment")):
        assert policy_of(device, role, sweeps=(sweep,)) == brief


@pytest.mark.parametrize(
    ("device", "tier", "search_s"),
    [("cpu", "quick", 1.0), ("cpu", "standard", 2.5), ("large", "quick", 1.0),
     ("large", "standard", 5.0), ("large", "soak", 60.0)],
)  # fmt: skip
def test_a_search_has_its_seconds_by_tier_and_time_to_end_in(
    device: str, tier: str, search_s: float
) -> None:
    policy = policy_of(device, "search", tier)
    assert (policy.search_s, policy.search_method) == (search_s, "halving")
    assert policy.timeout_s > 4 * search_s


def test_an_exhaustive_search_gives_each_shape_its_time_and_is_expected_to_take_all_of_it() -> None:
    device, options = DEVICES["cpu"], at("standard", search="exhaustive")
    policy = policy_of("cpu", "search", search="exhaustive")
    assert policy.search_method == "exhaustive"
    case = next(c for c in plan_cases(device, options) if (c.role, c.row) == ("search", "fp32"))
    assert 64 * policy.search_s < expected_s(case, device, options) < policy.timeout_s


# What was asked for


def test_only_the_families_and_rows_asked_for_are_planned() -> None:
    device = DEVICES["large"]
    only_memory = plan_cases(device, Options(families=("memory",)))
    assert {case.family for case in only_memory} == {"memory"}
    asked = Options(families=("compute",), precisions=("bf16", "int4", "fp8-rowwise", "4bit"))
    assert {case.row for case in plan_cases(device, asked)} == {
        "bf16", "bf16-vector", "int4", "fp8-rowwise", "nvfp4",
    }  # fmt: skip


@every_device
def test_every_memory_case_fits_where_the_device_tells_its_memory(device: Device) -> None:
    free = device.memory_free_bytes
    for case in memory.cases(device, BOTH):
        arrays = 3 * case.shape["elements"] * {"fp32": 4, "fp64": 8, "bf16": 2}[case.precision]
        assert free is None or arrays <= 0.6 * free
