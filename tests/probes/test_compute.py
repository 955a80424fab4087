"""Which shapes a device gets for each row, and what a case says of its product."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.kernels import matmul, routes
from roofprobe.kernels.operands import Arena
from roofprobe.kernels.rows import BY_NAME, ROWS, ComputeRow
from roofprobe.kernels.work import Unsupported
from roofprobe.probes import compute, gemm
from roofprobe.probes.backends import CpuBackend, target_of
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.refusals import refusal
from roofprobe.probes.session import Session
from roofprobe.probes.timers import WallTimer
from roofprobe.records.schema import Case, Device, Measurement, Options, Role, Search

GIB = 1 << 30
CPU = Device(
    device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU", architecture="x86_64"
)
PRODUCTS = [row for row in ROWS if row.gemm]
every_product = pytest.mark.parametrize("row", PRODUCTS, ids=lambda row: row.name)


def gpu(units: int | None, memory_gib: float | None, architecture: str | None = None) -> Device:
    return Device(
        device_id="GPU-example",
        torch_device="cuda:0",
        backend="cuda",
        name="Example GPU",
        architecture=architecture,
        unit_count=units,
        memory_bytes=int(memory_gib * GIB) if memory_gib else None,
    )


CLASSES = {"large": gpu(132, 80), "medium": gpu(60, 16), "small": gpu(20, 8)}
DEVICES = {"cpu": CPU, **CLASSES}
every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))


def options(**more: Any) -> Options:
    return Options.model_validate({"families": ("compute",), **more})


@pytest.mark.parametrize(
    ("units", "memory_gib", "expected"),
    [
        (132, 80, "large"),
        (80, 30, "large"),
        (80, 24, "medium"),
        (60, 16, "medium"),
        (36, 14, "medium"),
        (36, 8, "small"),
        (20, 8, "small"),
        (None, 80, "small"),
        (132, None, "small"),
    ],
)
def test_a_device_is_classed_by_units_and_memory(
    units: int | None, memory_gib: float | None, expected: str
) -> None:
    assert compute.device_class(gpu(units, memory_gib)) == expected


@every_device
@every_product
def test_every_anchor_suits_every_route_of_its_row(device: Device, row: ComputeRow) -> None:
    anchors = compute.anchors_for(device, row)
    assert len(set(anchors)) == 2
    for route in routes.routes_for(row.name, optional=True):
        assert [routes.shape_problem(route, *shape) for shape in anchors] == [None, None]


@pytest.mark.parametrize("name", CLASSES)
@every_product
def test_a_set_of_the_largest_anchor_fits_a_tenth_of_the_memory_of_its_class(
    name: str, row: ComputeRow
) -> None:
    from roofprobe.kernels.operands import set_bytes

    least_gib = {"large": 30, "medium": 14, "small": 4}[name]
    largest = max(set_bytes(row, *shape) for shape in compute.anchors_for(CLASSES[name], row))
    assert largest < least_gib * GIB / 10


@pytest.mark.parametrize(
    ("feature", "row"), [("amx_bf16", "bf16"), ("i8mm", "int8"), ("avx512_fp16", "fp16")]
)
def test_a_cpu_with_the_instructions_gets_larger_shapes_and_launches(
    feature: str, row: str
) -> None:
    fast = CPU.model_copy(update={"features": (feature,)})
    compute_row = BY_NAME[row]
    assert compute.cpu_has(fast, compute_row)
    assert not compute.cpu_has(CPU, compute_row)
    assert min(compute.anchors_for(fast, compute_row)) > max(compute.anchors_for(CPU, compute_row))
    assert compute.cpu_flops(fast, compute_row) > compute.cpu_flops(CPU, compute_row)


def test_the_quick_tier_measures_one_anchor_and_no_surface() -> None:
    for device in DEVICES.values():
        cases = list(compute.cases(device, options(tier="quick")))
        for row in PRODUCTS:
            anchors = {tuple(c.shape.values()) for c in cases
                       if (c.row, c.role) == (row.name, "anchor")}  # fmt: skip
            assert anchors == {compute.anchors_for(device, row)[0]}
        assert not [c for c in cases if c.role == "surface"]


# The surface


@every_device
def test_the_surface_takes_the_largest_m_of_each_layer_first_and_suits_its_route(
    device: Device,
) -> None:
    cases = [c for c in compute.cases(device, options(tier="soak")) if c.role == "surface"]
    layers: dict[tuple[str | None, int, int], list[int]] = {}
    for case in cases:
        assert case.row is not None
        m, n, k = (case.shape[axis] for axis in "mnk")
        layers.setdefault((case.row, n, k), []).append(m)
        assert case.route == routes.routes_for(case.row)[0].name
        assert routes.shape_problem(routes.routes_for(case.row)[0], m, n, k) is None
    assert all(ms == sorted(set(ms), reverse=True) for ms in layers.values())
    assert all(m & (m - 1) == 0 for ms in layers.values() for m in ms)
    expected = (
        {"fp32", "bf16", "int8"}
        if device.backend == "cpu"
        else {"bf16", "fp8-fast", "fp8", "int8", "mxfp8", "nvfp4"}
    )
    assert {row for row, *_ in layers} == expected


def test_a_gpu_s_surface_goes_from_one_token_to_16384_over_all_layers() -> None:
    cases = [c for c in compute.cases(gpu(132, 80), options()) if c.role == "surface"]
    bf16 = [c.shape for c in cases if c.row == "bf16"]
    assert {shape["m"] for shape in bf16} == {1 << power for power in range(15)}
    assert len({(shape["n"], shape["k"]) for shape in bf16}) == 12
    assert len(bf16) == 15 * 12
    int8 = {c.shape["m"] for c in cases if c.row == "int8"}
    assert int8 == {64, 256, 1024, 4096, 16384}, "above 16, and every other power of two"


def test_no_launch_of_a_processor_s_surface_takes_longer_than_it_may() -> None:
    for case in compute.cases(CPU, options(tier="soak")):
        if case.role == "surface":
            assert case.row is not None
            m, n, k = (case.shape[axis] for axis in "mnk")
            assert 2 * m * n * k <= compute.cpu_flops(CPU, BY_NAME[case.row])


# What a case says


ROLES: dict[str, Role] = {"search": "search", "pipe": "pipe", "stability": "stability"}


@every_device
def test_a_case_carries_the_conditions_of_its_row(device: Device) -> None:
    for case in compute.cases(device, options(tier="soak")):
        assert case.row is not None
        row = BY_NAME[case.row]
        pipe = None if device is CPU and row.pipe == "tensor" else row.pipe
        assert (case.precision, case.scaling, case.accumulator, case.pipe) == (
            row.precision, row.scaling, row.accumulator, pipe,
        )  # fmt: skip
        assert (case.fast_accum, case.sparsity) == (row.fast_accum, row.sparsity)
        assert case.op == ("gemm" if case.role not in ROLES else case.role)
        assert case.case_id.startswith(f"{case.role}/{case.row}/")
        assert (case.shape == {}) == (case.op in ("pipe", "search") or case.route == "none")
        assert case.family == "compute"


def test_a_processor_s_products_have_no_tensor_pipe_and_a_gpu_s_have() -> None:
    for device, pipes in (
        (CPU, {None, "vector"}),
        (gpu(132, 80, "sm_90"), {None, "vector", "tensor"}),
    ):
        known = list(compute.cases(device, options()))
        search = next(case for case in known if (case.role, case.row) == ("search", "bf16"))
        found = Measurement(
            case=search, device_id="d", status="ok",
            search=Search(method="m", route="torch.mm", seed=0, sentence="", elapsed_s=1,
                          candidates=1, pruned=0, best=(256, 256, 256)),
        )  # fmt: skip
        more = compute.follow_ups(found, (), device, options())
        assert more
        assert {case.pipe for case in (*known, *more)} == pipes


def test_the_id_of_a_case_tells_everything_that_makes_it_another() -> None:
    route = routes.route_named("bf16", "torch.mm")
    plain = compute.gemm(route, (1, 2, 3), "anchor")
    assert plain.case_id == "anchor/bf16/torch.mm/TN/1x2x3/burst/uniform"
    others = [
        compute.gemm(route, (1, 2, 4), "anchor"),
        compute.gemm(route, (1, 2, 3), "route"),
        compute.gemm(route, (1, 2, 3), "anchor", regime="settled"),
        compute.gemm(route, (1, 2, 3), "anchor", pattern="zeros"),
        compute.gemm(route, (1, 2, 3), "anchor", layout="NT"),
        compute.gemm(route, (1, 2, 3), "anchor", config="128x128x64"),
        compute.gemm(routes.route_named("bf16", "triton"), (1, 2, 3), "anchor"),
        compute.gemm(routes.route_named("fp16", "torch.mm"), (1, 2, 3), "anchor"),
    ]
    assert len({plain.case_id, *(other.case_id for other in others)}) == 9


def test_every_form_of_fp8_is_a_row_of_its_own_with_its_scales_and_sums() -> None:
    cases = [
        case
        for case in compute.cases(gpu(132, 80), options(tier="quick", precisions=("fp8",)))
        if case.role == "anchor" and case.route != "triton"
    ]
    assert [(case.row, case.scaling, case.fast_accum) for case in cases] == [
        ("fp8-fast", "tensorwise", True),
        ("fp8", "tensorwise", False),
        ("fp8-rowwise-fast", "rowwise", True),
        ("fp8-rowwise", "rowwise", False),
        ("fp8-blockwise", "blockwise", False),
    ]
    assert {(case.layout, case.accumulator, case.pipe) for case in cases} == {
        ("TN", "fp32", "tensor")
    }


def test_bits_are_watched_on_five_rows_at_the_first_anchor() -> None:
    cases = [c for c in compute.cases(gpu(132, 80), options()) if c.role == "stability"]
    assert [c.row for c in cases] == ["fp64", "fp32", "bf16", "fp8", "int8"]
    for case in cases:
        assert case.row is not None
        assert tuple(case.shape.values()) == compute.anchors_for(gpu(132, 80), BY_NAME[case.row])[0]


# What may run


@pytest.mark.parametrize(
    ("row", "role", "expected"),
    [
        ("fp32", "pipe", True),
        ("bf16", "pipe", False),
        ("nvfp4", "pipe", False),
        ("fp32", "search", True),
        ("bf16", "search", True),
        ("tf32", "search", False),
        ("nvfp4", "search", False),
        ("bf16-sparse", "search", False),
    ],
)
def test_what_a_processor_may_run_follows_from_the_device_alone(
    row: str, role: str, expected: bool
) -> None:
    case = next(c for c in compute.cases(CPU, options()) if (c.row, c.role) == (row, role))
    assert compute.may_run(case, CPU) is expected


def test_a_processor_with_the_instructions_may_run_the_pipe_too() -> None:
    fast = CPU.model_copy(update={"features": ("avx512_bf16",)})
    case = next(c for c in compute.cases(fast, options()) if (c.row, c.role) == ("bf16", "pipe"))
    assert compute.may_run(case, fast)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_100"])
def test_whatever_may_not_run_is_refused_when_it_is_tried(architecture: str) -> None:
    device = gpu(132, 80, architecture)
    refused = 0
    for case in compute.cases(device, options(tier="quick")):
        if case.op != "gemm" or compute.may_run(case, device):
            continue
        assert case.row is not None
        if case.route == "none":
            assert case.row in routes.WITHOUT_ROUTE
            continue
        route = routes.route_named(case.row, case.route)
        assert routes.unavailable(route, target_of(device)) is not None
        refused += 1
    assert refused > 0


def test_a_refusal_by_the_device_is_the_reason_that_the_case_itself_ends_with() -> None:
    told = 0
    for case in compute.cases(CPU, options()):
        reason = refusal(case, CPU)
        if reason is None or case.op == "search":
            continue
        with pytest.raises(Unsupported) as raised:
            gemm.prepare(case, session_on())
        found = raised.value
        assert (reason.code, reason.sentence) == (found.code, found.sentence)
        assert reason.remedy == found.remedy
        told += 1
    assert told > 20


def test_a_search_is_refused_only_where_no_route_of_its_row_may_run() -> None:
    refused = {
        case.row: refusal(case, CPU)
        for case in compute.cases(CPU, options())
        if case.role == "search"
    }
    assert refused["fp32"] is None
    assert refused["nvfp4"] is not None
    assert refused["nvfp4"].code == "architecture"


# Making the work


def session_on(device: Device = CPU) -> Session:
    class Quiet:
        def watch(self) -> Any:
            raise AssertionError("preparing measures nothing")

        def summary(self) -> None:
            return None

    return Session.on(device, CpuBackend(), Quiet(), NoClock(), timer=WallTimer(), seed=4)


def product(row: str = "fp32", shape: tuple[int, int, int] = (32, 48, 64), **more: Any) -> Case:
    return compute.gemm(routes.routes_for(row)[0], shape, "anchor", **more)


def test_the_work_of_a_case_is_that_of_its_route_shape_and_cache() -> None:
    one_set = 4 * (32 * 64 + 48 * 64 + 32 * 48)
    device = CPU.model_copy(update={"last_level_cache_bytes": 2 * one_set})
    work = gemm.prepare(product(), session_on(device))
    assert (work.flops, len(work.launches), work.kernel) == (2 * 32 * 48 * 64, 4, "torch.mm")
    with work.settings():
        assert work.check().problem is None


def test_the_session_s_seed_and_the_case_s_pattern_fill_the_operands() -> None:
    session = session_on()
    gemm.prepare(product(pattern="normal"), session)
    kept = session.arenas._arena
    assert kept is not None
    same = Arena(
        BY_NAME["fp32"], session.target, ((32, 48, 64),), cache_bytes=None, limit_bytes=None,
        pattern="normal", seed=4,
    )  # fmt: skip
    assert kept._a.equal(same._a)
    assert kept._b.equal(same._b)


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        (product("tf32"), "architecture", "TF32"),
        (product("int8", (16, 32, 32)), "shape", "needs m > 16"),
        (product("int8", layout="NN"), "shape", "takes TN"),
        (product().model_copy(update={"route": "none", "row": "int4"}), "no-route", "4-bit"),
        (product().model_copy(update={"route": "cuBLAS"}), "unknown-route", "no route 'cuBLAS'"),
        (product(pattern="stripes"), "unknown-pattern", "stripes"),
        (product().model_copy(update={"op": "attention"}), "unknown-work", "attention"),
        (product("bf16-sparse"), "backend", "cuSPARSELt"),
    ],
    ids=["row", "shape", "layout", "no-route", "route", "pattern", "op", "sparse"],
)
def test_what_cannot_be_done_is_refused_before_any_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch, case: Case, code: str, words: str
) -> None:
    def asked(*_: object, **__: object) -> Any:
        raise AssertionError("memory was asked for")

    session = session_on()
    monkeypatch.setattr(type(session.arenas), "get", asked)
    with pytest.raises(Unsupported, match=words) as refused:
        gemm.prepare(case, session)
    assert refused.value.code == code


def test_a_product_that_does_not_fit_is_refused_with_both_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CpuBackend, "free_memory_bytes", lambda self, index=0: 6 * GIB)
    with pytest.raises(Unsupported, match=r"needs 3\.0 GiB and 2\.0 GiB may be used") as refused:
        gemm.prepare(product(shape=(16384, 16384, 16384)), session_on())
    assert refused.value.code == "memory"
    assert refused.value.remedy is not None


def test_a_session_knows_what_kernels_need_of_its_device() -> None:
    device = CPU.model_copy(update={"unit_count": 6, "features": ("avx2",)})
    session = session_on(device)
    assert session.target == target_of(device)
    assert (session.target.kind, session.target.unit_count) == ("cpu", 6)
    with pytest.raises(Unsupported):
        matmul.require(routes.route_named("tf32", "torch.mm"), session.target, (32, 32, 32))
