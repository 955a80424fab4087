"""What each device can compute by which route, and what a refusal tells."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

from roofprobe.kernels import lowering, routes
from roofprobe.kernels.launchers import LAUNCHERS
from roofprobe.kernels.routes import ROUTES, MatmulRoute, route_named, routes_for, unavailable
from roofprobe.kernels.rows import ROWS
from roofprobe.kernels.work import Target, Unsupported

CPU = Target("cpu", "cpu", "x86_64", 2)
NPU = Target("npu", "cpu")
PLAIN = ("fp64", "fp32", "bf16", "fp16")
SPARSE = {"bf16-sparse", "fp16-sparse", "int8-sparse"}


def on(architecture: str) -> Target:
    return Target("cuda" if architecture.startswith("sm_") else "rocm", "cuda:0", architecture, 100)


# The rows whose library routes can be tried, given every library that torch could bring.
AMPERE = {"fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "int8", *SPARSE}
FP8 = {*AMPERE, "fp8", "fp8-rowwise", "fp8-sparse"}
ADA = {*FP8, "fp8-fast", "fp8-rowwise-fast"}
BLACKWELL = {*FP8, "mxfp8", "nvfp4"}
CDNA2 = {"fp64", "fp32", "bf16", "fp16", "int8"}
CAN: dict[str, set[str]] = {
    "sm_61": {"fp64", "fp32"},
    "sm_70": {"fp64", "fp32", "fp16", "fp16-acc16"},
    "sm_75": {"fp64", "fp32", "fp16", "fp16-acc16", "int8"},
    "sm_80": AMPERE,
    "sm_86": AMPERE,
    "sm_89": ADA,
    "sm_90": {*ADA, "fp8-blockwise"},
    "sm_100": BLACKWELL,
    "sm_103": BLACKWELL,
    "sm_120": BLACKWELL,
    "gfx90a": CDNA2,
    "gfx942": {*CDNA2, "fp8", "fp8-rowwise"},
    "gfx950": {*CDNA2, "fp8", "fp8-rowwise", "mxfp8"},
    "gfx1100": CDNA2,
    "gfx1201": {*CDNA2, "fp8", "fp8-rowwise"},
}
ARCHITECTURES = pytest.mark.parametrize("architecture", CAN)


def library_rows(target: Target) -> set[str]:
    return {r.row for r in ROUTES if r.call != "triton" and unavailable(r, target) is None}


@pytest.fixture
def every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch have whatever a version of it ever brought."""
    import torch.backends.cusparselt as cusparselt

    monkeypatch.setattr(cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda.tunable, "set_cublaslt_requested_algo_count", lambda count: None, raising=False
    )
    monkeypatch.setattr(
        type(torch.backends.cuda.matmul), "allow_fp16_accumulation", False, raising=False
    )
    monkeypatch.setattr(torch.nn.functional, "scaled_mm", lambda *_: None, raising=False)


@pytest.mark.usefixtures("every_library")
@ARCHITECTURES
def test_library_routes_follow_the_architecture(architecture: str) -> None:
    assert library_rows(on(architecture)) == CAN[architecture]


@pytest.mark.usefixtures("every_library")
def test_an_unknown_cuda_architecture_is_tried_with_every_row_that_has_a_route() -> None:
    assert library_rows(Target("cuda", "cuda:0", None)) == {r.row for r in ROUTES}


def test_the_cpu_has_a_library_route_for_each_row_that_is_not_a_gpu_mode() -> None:
    found = [(r.row, r.name) for r in ROUTES if unavailable(r, CPU) is None and not r.optional]
    assert found == [
        *((row, "torch.mm") for row in PLAIN),
        ("fp8", "torch._scaled_mm"),
        ("fp8-rowwise", "torch._scaled_mm"),
        ("int8", "torch._int_mm"),
        ("fp64", "numpy.matmul"),
        ("fp32", "numpy.matmul"),
    ]


def test_another_accelerator_may_try_every_product_without_a_switch() -> None:
    assert library_rows(NPU) == {*PLAIN, "fp8", "fp8-rowwise", "int8"}
    assert unavailable(route_named("fp32", "numpy.matmul"), NPU) is not None


def all_refusals() -> list[tuple[MatmulRoute, Target, Unsupported]]:
    targets = (CPU, NPU, *(on(architecture) for architecture in CAN))
    return [
        (route, target, reason)
        for target in targets
        for route in ROUTES
        if (reason := unavailable(route, target)) is not None
    ]


def test_what_another_device_or_version_could_do_names_it_as_the_remedy() -> None:
    seen = set()
    for route, target, reason in all_refusals():
        if reason.code in ("architecture", "torch-version", "no-cusparselt"):
            seen.add(reason.code)
            assert reason.remedy, (route, target, reason.sentence)
    assert {"architecture", "torch-version"} <= seen


def test_every_refusal_is_one_sentence_with_a_stable_code() -> None:
    codes = set()
    for route, target, reason in all_refusals():
        assert reason.sentence, (route, target)
        assert "\n" not in reason.sentence
        codes.add(reason.code)
    assert codes <= {
        "architecture", "backend", "torch-version", "no-cusparselt", "no-triton-target",
        "no-triton", "triton",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "name", "target", "code", "sentence", "remedy"),
    [
        (
            "fp8", "torch._scaled_mm", on("sm_80"), "architecture",
            "fp8 needs compute capability 8.9, this device has 8.0",
            "a GPU of compute capability 8.9 or newer",
        ),
        (
            "nvfp4", "F.scaled_mm", on("sm_90"), "architecture",
            "nvfp4 needs compute capability 10.0, this device has 9.0",
            "a GPU of compute capability 10.0 or newer",
        ),
        (
            "int8-sparse", "cuSPARSELt", on("sm_75"), "architecture",
            "int8-sparse needs compute capability 8.0, this device has 7.5",
            "a GPU of compute capability 8.0 or newer",
        ),
        (
            "fp8-fast", "torch._scaled_mm", on("sm_100"), "architecture",
            "fast accumulation is a switch of Ada's and Hopper's FP8 units (sm_89, sm_90) only",
            "an Ada or Hopper GPU",
        ),
        (
            "fp8-blockwise", "F.scaled_mm", on("sm_120"), "architecture",
            "cuBLASLt offers the 1x128/128x128 recipe on sm_90 only", "a Hopper GPU",
        ),
        (
            "tf32", "torch.mm", on("gfx942"), "architecture",
            "tf32 has no route on ROCm, this device is gfx942", "an NVIDIA GPU",
        ),
        (
            "mxfp8", "F.scaled_mm", on("gfx942"), "architecture",
            "mxfp8 needs one of gfx950, this device is gfx942", "a GPU of gfx950",
        ),
        (
            "bf16-sparse", "cuSPARSELt", on("gfx942"), "backend",
            "2:4-sparse products run through cuSPARSELt on CUDA; this device is rocm",
            "an NVIDIA GPU of compute capability 8.0 or newer",
        ),
        (
            "tf32", "torch.mm", CPU, "architecture",
            "TF32 is a GPU tensor format; this device is a CPU", "a GPU",
        ),
        (
            "fp16-acc16", "torch.mm", NPU, "backend",
            "torch has no switch for fp16-acc16 on npu devices", None,
        ),
        (
            "fp32", "numpy.matmul", on("sm_90"), "backend",
            "numpy computes on CPUs; this device is cuda", None,
        ),
        (
            "bf16", "torch.mm/lt", CPU, "backend",
            "cuBLASLt and hipBLASLt are GPU libraries; this device is cpu", None,
        ),
    ],
)  # fmt: skip
def test_a_reason_names_what_is_needed_and_what_there_is(
    row: str, name: str, target: Target, code: str, sentence: str, remedy: str | None
) -> None:
    reason = unavailable(route_named(row, name), target)
    assert reason is not None
    assert (reason.code, reason.sentence, reason.remedy) == (code, sentence, remedy)


def test_an_older_torch_is_named_with_the_version_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.functional, "scaled_mm", raising=False)
    monkeypatch.delattr(torch.cuda.tunable, "set_cublaslt_requested_algo_count", raising=False)
    monkeypatch.delattr(torch.backends.cuda, "preferred_blas_library", raising=False)
    for row, name, version, architecture in (
        ("mxfp8", "F.scaled_mm", "2.10", "sm_100"),
        ("bf16", "torch.mm/tuned", "2.15", "sm_90"),
        ("bf16", "torch.mm/lt", "2.3", "sm_90"),
    ):
        reason = unavailable(route_named(row, name), on(architecture))
        assert reason is not None
        assert reason.code == "torch-version"
        assert f"needs torch {version}, this is {torch.__version__}" in reason.sentence
    # ROCm's tuner always went through all algorithms.
    assert unavailable(route_named("bf16", "torch.mm/tuned"), on("gfx942")) is None


def test_a_torch_without_cusparselt_is_told_apart_from_a_gpu_without_sparse_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch.backends.cusparselt as cusparselt

    monkeypatch.setattr(cusparselt, "is_available", lambda: False)
    route = route_named("bf16-sparse", "cuSPARSELt")
    codes = [getattr(unavailable(route, on(arch)), "code", None) for arch in ("sm_75", "sm_80")]
    assert codes == ["architecture", "no-cusparselt"]


@pytest.mark.parametrize("target", [CPU, NPU, Target("cuda", "cuda:0", None)])
def test_triton_routes_need_a_gpu_whose_architecture_is_known(target: Target) -> None:
    for route in (r for r in ROUTES if r.call == "triton"):
        reason = unavailable(route, target)
        assert reason is not None
        assert reason.code == "no-triton-target"


@pytest.mark.parametrize("architecture", lowering.TABLE)
def test_triton_routes_are_refused_as_their_table_of_instructions_says(architecture: str) -> None:
    import triton

    for route in (r for r in ROUTES if r.call == "triton"):
        sentence = lowering.unsupported_reason(route.row, architecture, triton.__version__)
        reason = unavailable(route, on(architecture))
        assert (reason.sentence if reason else None) == sentence


def test_what_the_device_alone_decides_needs_neither_torch_nor_triton(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def guarded(name: str, *rest: Any) -> Any:
        assert name.split(".")[0] not in ("torch", "triton"), f"{name} was imported"
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", guarded)
    refused = [
        sum(routes.refused_by_device(route, target) is not None for route in ROUTES)
        for target in (CPU, NPU, on("sm_75"), on("sm_90"), on("gfx942"))
    ]
    monkeypatch.undo()
    assert all(0 < count < len(ROUTES) for count in refused)


@ARCHITECTURES
def test_what_the_device_refuses_stays_refused_whatever_is_installed(architecture: str) -> None:
    target = on(architecture)
    for route in ROUTES:
        first = routes.refused_by_device(route, target)
        if first is not None:
            reason = unavailable(route, target)
            assert reason is not None
            assert reason.sentence == first.sentence


# Shapes


@pytest.mark.parametrize(
    ("row", "name", "shape", "layout", "words"),
    [
        ("fp8", "torch._scaled_mm", (32, 32, 40), "TN", "k divisible by 16, got k = 40"),
        ("fp8", "torch._scaled_mm", (32, 40, 32), "TN", "n divisible by 16, got n = 40"),
        ("int8", "torch._int_mm", (16, 32, 32), "TN", "m > 16, got m = 16"),
        ("int8", "torch._int_mm", (32, 36, 32), "TN", "n divisible by 8, got n = 36"),
        ("int8", "torch._int_mm", (32, 32, 36), "TN", "k divisible by 8, got k = 36"),
        ("fp8-blockwise", "F.scaled_mm", (32, 128, 64), "TN", "k divisible by 128, got k = 64"),
        ("fp8-blockwise", "F.scaled_mm", (30, 128, 128), "TN", "m divisible by 4 and n by 128"),
        ("fp8-blockwise", "F.scaled_mm", (32, 64, 128), "TN", "m divisible by 4 and n by 128"),
        ("fp8-blockwise", "triton", (32, 64, 128), "TN", "m divisible by 4 and n by 128"),
        ("mxfp8", "F.scaled_mm", (32, 32, 48), "TN", "k divisible by 128, got k = 48"),
        ("bf16-sparse", "cuSPARSELt", (40, 32, 64), "TN", "m divisible by 32, got m = 40"),
        ("int8-sparse", "cuSPARSELt", (32, 32, 32), "TN", "k divisible by 64, got k = 32"),
        ("int8", "torch._int_mm", (32, 32, 32), "NN", "takes TN for int8, not NN"),
        ("fp32", "torch.mm", (32, 32, 32), "NX", "takes TN and NN and NT and TT for fp32, not NX"),
        ("fp32", "torch.mm", (0, 32, 32), "TN", "of at least 1, got 0, 32, 32"),
        ("fp64", "torch.mm", (1, 1, -1), "TN", "of at least 1, got 1, 1, -1"),
    ],
)
def test_a_shape_that_does_not_suit_is_refused_with_the_rule(
    row: str, name: str, shape: tuple[int, int, int], layout: str, words: str
) -> None:
    problem = routes.shape_problem(route_named(row, name), *shape, layout)
    assert problem is not None
    assert words in problem


def test_block_scales_on_rocm_need_m_and_n_in_blocks_too_and_on_cuda_any_m() -> None:
    route = route_named("mxfp8", "F.scaled_mm")
    for m, n in ((16, 128), (128, 144)):
        problem = routes.shape_problem(route, m, n, 128, target=on("gfx950"))
        assert problem == f"F.scaled_mm on ROCm needs m and n divisible by 32, got {m = }, {n = }"
        assert routes.shape_problem(route, m, n, 128, target=on("sm_100")) is None
        assert routes.shape_problem(route_named("mxfp8", "triton"), m, n, 128,
                                    target=on("gfx950")) is None  # fmt: skip
    assert routes.shape_problem(route, 32, 64, 128, target=on("gfx950")) is None


@pytest.mark.parametrize("layout", ["TN", "NN", "NT", "TT"])
@pytest.mark.parametrize("row", [*PLAIN, "tf32", "fp16-acc16"])
def test_torch_mm_takes_any_shape_in_any_layout(row: str, layout: str) -> None:
    assert routes.shape_problem(route_named(row, "torch.mm"), 1, 3, 7, layout) is None


def test_shapes_that_suit_are_accepted_by_every_route() -> None:
    assert [routes.shape_problem(route, 128, 128, 128) for route in ROUTES] == [None] * len(ROUTES)


# The table itself


@pytest.mark.parametrize(
    ("architecture", "capability"),
    [("sm_90", 90), ("sm_90a", 90), ("sm_120", 120), ("gfx90a", None), ("", None), (None, None)],
)
def test_compute_capability_is_read_from_cuda_architectures_only(
    architecture: str | None, capability: int | None
) -> None:
    assert routes.compute_capability(architecture) == capability


def test_no_two_routes_are_the_same_and_each_has_its_launcher() -> None:
    keys = [(r.row, r.name) for r in ROUTES]
    assert len(set(keys)) == len(keys)
    assert {r.call for r in ROUTES} == set(LAUNCHERS)


def test_each_row_of_products_has_routes_and_the_others_say_why_they_have_none() -> None:
    for row in ROWS:
        assert bool(routes_for(row.name)) == row.gemm, row.name
    without = {row.name for row in ROWS if not row.gemm and row.pipe == "tensor"}
    assert set(routes.WITHOUT_ROUTE) == without
    assert all(sentence and remedy for sentence, remedy in routes.WITHOUT_ROUTE.values())


def test_the_route_that_is_searched_with_is_a_library_call_and_takes_every_default() -> None:
    for row in (row for row in ROWS if row.gemm):
        first = routes_for(row.name)[0]
        assert first.library == "default"
        assert first.call != "triton"
        assert "TN" in first.layouts


def test_compiled_routes_come_only_when_asked_for() -> None:
    assert [r.name for r in routes_for("bf16")] == [
        "torch.mm", "torch.mm/lt", "torch.mm/tuned", "triton",
    ]  # fmt: skip
    assert routes_for("bf16", optional=True)[-1].name == "torch.compile"


def test_a_route_that_is_not_there_is_an_error_that_names_both() -> None:
    with pytest.raises(KeyError, match=r"int8 has no route 'torch\.mm'"):
        route_named("int8", "torch.mm")


def test_short_sums_are_held_to_the_wider_tolerance_of_fp8() -> None:
    keys = {r.row: r.tolerance_key for r in ROUTES if r.precision == "fp8"}
    assert keys == {
        "fp8-fast": "fp8-fast", "fp8": "fp8", "fp8-rowwise-fast": "fp8-fast",
        "fp8-rowwise": "fp8", "fp8-blockwise": "fp8", "fp8-sparse": "fp8-fast",
    }  # fmt: skip
    assert {r.tolerance_key for r in ROUTES if r.row == "bf16-sparse"} == {"bf16"}
