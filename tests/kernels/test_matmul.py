"""Matrix products on the CPU through every route, and what each device is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from roofprobe.kernels import matmul
from roofprobe.kernels.matmul import MatmulRoute
from roofprobe.kernels.work import Target, Unsupported

CPU = Target("cpu", "cpu", "x86_64", 2)
NPU = Target("npu", "cpu")


def route_of(precision: str, *, fast: bool | None = None) -> MatmulRoute:
    return next(r for r in matmul.routes_for(precision) if r.fast_accum == fast)


def cuda(architecture: str) -> Target:
    """Name a CUDA architecture whose tensors lie on the CPU: torch's switches exist there too."""
    return Target("cuda", "cpu", architecture, 100)


ON_CPU = [route for route in matmul.ROUTES if matmul.unavailable(route, CPU) is None]
LIBRARY = [route for route in matmul.ROUTES if route.name != "triton"]


def test_the_cpu_has_a_library_route_for_each_precision_that_is_not_a_gpu_mode() -> None:
    assert [route.precision for route in ON_CPU] == ["fp64", "fp32", "bf16", "fp16", "fp8", "int8"]


@pytest.mark.parametrize("shape", [(33, 48, 64), (17, 16, 16), (130, 80, 208)])
@pytest.mark.parametrize("route", ON_CPU, ids=lambda route: route.precision)
def test_every_cpu_route_is_right_on_every_buffer_set(
    route: MatmulRoute, shape: tuple[int, int, int]
) -> None:
    m, n, k = shape
    work = matmul.prepare(route, CPU, m=m, n=n, k=k, buffer_sets=2, seed=3)
    with work.settings():
        check = work.check()
        for launch in work.launches:
            launch()
    assert check.problem is None
    assert check.checked_elements == m * n
    assert len(work.launches) == 2


@pytest.mark.parametrize("route", ON_CPU, ids=lambda route: route.precision)
def test_operations_bytes_and_footprint_are_those_of_the_tensors(route: MatmulRoute) -> None:
    m, n, k = 33, 48, 64
    work = matmul.prepare(route, CPU, m=m, n=n, k=k, buffer_sets=1, seed=3)
    operand = torch.empty(0, dtype=getattr(torch, route.operand)).element_size()
    output = torch.empty(0, dtype=getattr(torch, route.output)).element_size()
    assert work.flops == 2 * m * n * k
    assert work.bytes_read == (m * k + n * k) * operand
    assert work.bytes_written == m * n * output
    assert work.array_bytes == work.bytes_read + work.bytes_written
    assert work.array_bytes == matmul.footprint_bytes(route, m, n, k)


def test_footprint_of_an_fp8_product_counts_one_byte_in_and_two_out() -> None:
    assert matmul.footprint_bytes(route_of("fp8", fast=False), 2, 3, 5) == 2 * 5 + 3 * 5 + 2 * 3 * 2


def test_the_same_seed_gives_the_same_operands_and_another_seed_others() -> None:
    route = route_of("bf16")
    errors = []
    for seed in (1, 1, 2):
        work = matmul.prepare(route, CPU, m=33, n=48, k=64, buffer_sets=1, seed=seed)
        errors.append(work.check().error)
    assert errors[0] == errors[1]
    assert errors[0] != errors[2]


@pytest.mark.parametrize(
    ("route", "shape", "words"),
    [
        (route_of("fp8", fast=False), (32, 32, 40), "k divisible by 16, got k = 40"),
        (route_of("fp8", fast=False), (32, 40, 32), "n divisible by 16, got n = 40"),
        (route_of("int8"), (16, 32, 32), "m > 16, got m = 16"),
        (route_of("int8"), (32, 36, 32), "n divisible by 8, got n = 36"),
        (route_of("int8"), (32, 32, 36), "k divisible by 8, got k = 36"),
    ],
)
def test_a_shape_that_a_gpu_would_reject_is_refused_on_the_cpu_too(
    route: MatmulRoute, shape: tuple[int, int, int], words: str
) -> None:
    m, n, k = shape
    with pytest.raises(Unsupported, match=words) as refused:
        matmul.prepare(route, CPU, m=m, n=n, k=k, buffer_sets=1, seed=0)
    assert refused.value.code == "shape"


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_torch_mm_takes_any_shape(precision: str) -> None:
    assert matmul.shape_problem(route_of(precision), 1, 3, 7) is None


def test_shapes_that_suit_are_accepted_by_every_route() -> None:
    assert [matmul.shape_problem(route, 32, 32, 32) for route in matmul.ROUTES] == (
        [None] * len(matmul.ROUTES)
    )


def test_fp32_stays_ieee_when_the_host_allows_bf16_inside() -> None:
    onednn = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = onednn.fp32_precision
    onednn.fp32_precision = "bf16"
    try:
        work = matmul.prepare(route_of("fp32"), CPU, m=128, n=128, k=256, buffer_sets=1, seed=0)
        with work.settings():
            assert onednn.fp32_precision == "ieee"
            assert work.check().error < 5e-6
        assert onednn.fp32_precision == "bf16"
    finally:
        onednn.fp32_precision = before


def switches() -> dict[str, object]:
    settings = torch.backends.cuda.matmul
    names = (
        "fp32_precision",
        "allow_fp16_accumulation",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_reduced_precision_reduction",
    )
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


@pytest.mark.parametrize(
    ("precision", "name", "value"),
    [
        ("fp32", "fp32_precision", "ieee"),
        ("tf32", "fp32_precision", "tf32"),
        ("bf16", "allow_bf16_reduced_precision_reduction", False),
        ("fp16", "allow_fp16_reduced_precision_reduction", False),
        ("fp16-acc16", "allow_fp16_accumulation", True),
    ],
)
def test_library_switches_hold_during_the_work_and_are_put_back_after_an_error(
    precision: str, name: str, value: object
) -> None:
    before = switches()
    if name not in before:
        pytest.skip(f"torch {torch.__version__} has no {name}")
    work = matmul.prepare(
        route_of(precision), cuda("sm_90"), m=16, n=16, k=16, buffer_sets=1, seed=0
    )
    assert switches() == before, "preparing must not switch anything"
    with work.settings():
        assert switches()[name] == value
    assert switches() == before

    def fail_inside() -> None:
        with work.settings():
            assert switches()[name] == value
            raise RuntimeError("the launch failed")

    with pytest.raises(RuntimeError, match="the launch failed"):
        fail_inside()
    assert switches() == before


# What the library routes can be tried on: fp8 stands for full accumulation, fp8-fast for fast.
CAN = {
    "sm_70": {"fp64", "fp32", "fp16", "fp16-acc16"},
    "sm_75": {"fp64", "fp32", "fp16", "fp16-acc16", "int8"},
    "sm_80": {"fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "int8"},
    "sm_89": {"fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "int8", "fp8"},
    "sm_90": {"fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "int8", "fp8", "fp8-fast"},
    "sm_100": {"fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "int8", "fp8"},
    "gfx90a": {"fp64", "fp32", "bf16", "fp16", "int8"},
    "gfx942": {"fp64", "fp32", "bf16", "fp16", "int8", "fp8"},
    "gfx950": {"fp64", "fp32", "bf16", "fp16", "int8", "fp8"},
}


@pytest.mark.parametrize(("architecture", "expected"), CAN.items(), ids=list(CAN))
def test_library_routes_follow_the_architecture(architecture: str, expected: set[str]) -> None:
    kind = "cuda" if architecture.startswith("sm_") else "rocm"
    target = Target(kind, "cuda:0", architecture, 100)
    can = {
        route.precision + ("-fast" if route.fast_accum else "")
        for route in LIBRARY
        if matmul.unavailable(route, target) is None
    }
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        expected = expected - {"fp16-acc16"}
    assert can == expected


def test_the_reason_names_what_is_needed_and_what_there_is() -> None:
    reason = matmul.unavailable(route_of("fp8", fast=False), Target("cuda", "cuda:0", "sm_80"))
    assert reason is not None
    assert reason.code == "architecture"
    assert reason.sentence == "fp8 needs compute capability 8.9, this device has 8.0"
    on_rocm = matmul.unavailable(route_of("tf32"), Target("rocm", "cuda:0", "gfx942"))
    assert on_rocm is not None
    assert on_rocm.sentence == "tf32 has no route on ROCm, this device is gfx942"


def test_an_unknown_cuda_architecture_is_tried() -> None:
    target = Target("cuda", "cuda:0", None)
    assert matmul.unavailable(route_of("fp8", fast=False), target) is None


@pytest.mark.parametrize(
    ("precision", "fast"), [("tf32", None), ("fp16-acc16", None), ("fp8", True)]
)
def test_modes_that_are_switches_of_cuda_are_refused_elsewhere(
    precision: str, fast: bool | None
) -> None:
    route = route_of(precision, fast=fast)
    on_npu, on_cpu = matmul.unavailable(route, NPU), matmul.unavailable(route, CPU)
    assert on_npu is not None
    assert on_npu.code == "backend"
    assert "npu" in on_npu.sentence
    assert on_cpu is not None
    assert on_cpu.code == "architecture"
    with pytest.raises(Unsupported):
        matmul.prepare(route, NPU, m=32, n=32, k=32, buffer_sets=1, seed=0)


@pytest.mark.parametrize("target", [CPU, NPU, Target("cuda", "cuda:0", None)])
def test_triton_routes_need_a_gpu_whose_architecture_is_known(target: Target) -> None:
    for route in (r for r in matmul.ROUTES if r.name == "triton"):
        reason = matmul.unavailable(route, target)
        assert reason is not None
        assert reason.code == "no-triton-target"


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16", "int8"])
def test_another_accelerator_may_try_every_plain_product(precision: str) -> None:
    work = matmul.prepare(route_of(precision), NPU, m=33, n=48, k=64, buffer_sets=1, seed=0)
    with work.settings():
        assert work.check().problem is None


@pytest.mark.parametrize(
    ("architecture", "capability"),
    [("sm_90", 90), ("sm_90a", 90), ("sm_120", 120), ("gfx90a", None), ("", None), (None, None)],
)
def test_compute_capability_is_read_from_cuda_architectures_only(
    architecture: str | None, capability: int | None
) -> None:
    assert matmul.compute_capability(architecture) == capability


def test_fast_accumulation_and_our_fp8_kernel_are_held_to_the_wider_tolerance() -> None:
    keys = {(r.name, r.fast_accum): r.tolerance_key for r in matmul.routes_for("fp8")}
    assert keys == {
        ("torch._scaled_mm", True): "fp8-fast",
        ("torch._scaled_mm", False): "fp8",
        ("triton", None): "fp8-fast",
    }


def test_no_two_routes_are_the_same_and_routeless_precisions_have_none() -> None:
    keys = [(r.precision, r.name, r.fast_accum) for r in matmul.ROUTES]
    assert len(set(keys)) == len(keys)
    assert [p for p in matmul.WITHOUT_ROUTE if matmul.routes_for(p)] == []


def test_an_fp32_route_that_lost_its_setting_would_be_refused_as_tf32() -> None:
    route = replace(route_of("fp32"), precision="tf32", setting="ieee")
    work = matmul.prepare(route, cuda("sm_90"), m=64, n=64, k=64, buffer_sets=1, seed=0)
    with work.settings():
        check = work.check()
    assert check.problem is not None
    assert "declined" in check.problem
