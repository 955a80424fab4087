"""Which shapes a device gets, how many buffer sets go round, and what is refused."""

from __future__ import annotations

import pytest

from roofprobe.kernels import matmul
from roofprobe.kernels.work import Unsupported
from roofprobe.probes import compute
from roofprobe.records.schema import Case, Device, Options

GIB = 1 << 30
CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def gpu(units: int | None, memory_gib: float | None) -> Device:
    return Device(
        device_id="GPU-example",
        torch_device="cuda:0",
        backend="cuda",
        name="Example GPU",
        unit_count=units,
        memory_bytes=int(memory_gib * GIB) if memory_gib else None,
    )


def case_of(precision: str, route: str, shape: tuple[int, int, int] = (32, 32, 32)) -> Case:
    m, n, k = shape
    return Case(
        case_id="gemm/example",
        family="compute",
        op="gemm",
        precision=precision,
        route=route,
        shape={"m": m, "n": n, "k": k},
    )


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


@pytest.mark.parametrize("device", [CPU, gpu(132, 80), gpu(60, 16), gpu(20, 8)])
@pytest.mark.parametrize("precision", compute.PRECISIONS)
def test_every_shape_suits_every_route_of_its_precision(device: Device, precision: str) -> None:
    shapes = compute.shapes_for(device, precision)
    assert shapes
    for route in matmul.routes_for(precision):
        assert [matmul.shape_problem(route, *shape) for shape in shapes] == [None] * len(shapes)


@pytest.mark.parametrize(("feature", "precision"), [("amx_bf16", "bf16"), ("i8mm", "int8")])
def test_a_cpu_with_the_instructions_gets_larger_shapes(feature: str, precision: str) -> None:
    fast = CPU.model_copy(update={"features": (feature,)})
    assert min(compute.shapes_for(fast, precision)) > max(compute.shapes_for(CPU, precision))


@pytest.mark.parametrize(
    ("set_bytes", "cache_bytes", "free_bytes", "expected"),
    [
        (100, None, None, 2),  # never fewer than two
        (100, 1000, None, 20),  # twice the cache
        (100, 1001, None, 21),  # rounded up
        (100, 1000, 3000, 10),  # within a third of the memory
        (100, 10_000, 10**9, 64),  # never more than 64
        (100, 1000, 400, 1),  # one set fits, two do not fit into a third
        (100, None, 167, 1),
        (100, None, 166, 0),  # not even one fits into 60 %
    ],
)
def test_buffer_sets_outgrow_the_cache_within_the_memory(
    set_bytes: int, cache_bytes: int | None, free_bytes: int | None, expected: int
) -> None:
    assert compute.buffer_sets(set_bytes, cache_bytes, free_bytes) == expected


def test_prepare_makes_the_buffer_sets_that_the_cache_asks_for() -> None:
    one_set = 3 * 32 * 32 * 4
    device = CPU.model_copy(update={"last_level_cache_bytes": 2 * one_set})
    work = compute.prepare(case_of("fp32", "torch.mm"), device, 10**9, seed=0)
    assert len(work.launches) == 4


def test_a_precision_without_a_route_is_refused_with_what_it_would_need() -> None:
    with pytest.raises(Unsupported, match="NVFP4") as refused:
        compute.prepare(case_of("nvfp4", "none"), CPU, None, seed=0)
    assert refused.value.code == "no-route"


def test_a_product_that_does_not_fit_is_refused_with_both_sizes() -> None:
    case = case_of("fp32", "torch.mm", (16384, 16384, 16384))
    with pytest.raises(Unsupported, match=r"needs 3\.0 GiB and 2\.0 GiB are free") as refused:
        compute.prepare(case, CPU, 2 * GIB, seed=0)
    assert refused.value.code == "memory"
    assert refused.value.remedy is not None


def test_both_ways_to_accumulate_fp8_are_cases_of_their_own() -> None:
    options = Options(families=("compute",), tier="quick", precisions=("fp8",))
    cases = [c for c in compute.cases(gpu(132, 80), options) if c.route == "torch._scaled_mm"]
    assert {case.fast_accum for case in cases} == {True, False}
    assert {case.case_id.split("/")[3] for case in cases} == {"fast-accum", "full-accum"}
    assert all((case.layout, case.accumulator, case.pipe) == ("TN", "fp32", "tensor")
               for case in cases)  # fmt: skip


def test_the_quick_tier_measures_at_most_two_shapes() -> None:
    options = Options(families=("compute",), tier="quick")
    for precision in compute.PRECISIONS:
        shapes = {tuple(case.shape.values()) for case in compute.cases(gpu(132, 80), options)
                  if case.precision == precision}  # fmt: skip
        assert 1 <= len(shapes) <= 2
