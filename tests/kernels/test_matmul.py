"""Works: a product with its accounting, its check, and torch's switches set and put back."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from roofprobe.kernels import launchers, matmul, routes
from roofprobe.kernels.operands import Arena, Operands, set_bytes
from roofprobe.kernels.routes import MatmulRoute, route_named
from roofprobe.kernels.work import Target, Unsupported, Work

Shape = tuple[int, int, int]
CPU = Target("cpu", "cpu", "x86_64", 2)
NPU = Target("npu", "cpu")
ON_CPU = [
    route
    for route in routes.ROUTES
    if routes.unavailable(route, CPU) is None and not route.optional
]
by_route = {"ids": lambda route: f"{route.row}-{route.name}"}


def cuda(architecture: str = "sm_90") -> Target:
    """Name a CUDA architecture whose tensors lie on the CPU: torch's switches exist there too."""
    return Target("cuda", "cpu", architecture, 100)


def mm(row: str) -> MatmulRoute:
    return routes.routes_for(row)[0]


def prepared(
    route: MatmulRoute,
    shape: Shape,
    target: Target = CPU,
    *,
    cache: int | None = None,
    seed: int = 3,
    pattern: str = "uniform",
    layout: str = "TN",
) -> Work:
    arena = Arena(
        route.compute_row, target, (shape,), cache_bytes=cache, limit_bytes=None, pattern=pattern,
        seed=seed,
    )  # fmt: skip
    return matmul.prepare(route, target, arena, shape, layout=layout, seed=seed)


@pytest.mark.parametrize("shape", [(33, 48, 64), (17, 16, 16), (130, 80, 208)])
@pytest.mark.parametrize("route", ON_CPU, **by_route)  # type: ignore[arg-type]
def test_every_cpu_route_is_checked_and_runs_on_every_buffer_set(
    route: MatmulRoute, shape: Shape
) -> None:
    m, n, _ = shape
    work = prepared(route, shape)
    with work.settings():
        check = work.check()
        outputs = [launch() for launch in work.launches]
    assert check.problem is None
    assert check.checked_elements == m * n
    assert len(work.launches) == 2
    pointers = {out.data_ptr() for out in outputs if isinstance(out, torch.Tensor)}
    assert len(pointers) == 2, "each launch returns its own product"


@pytest.mark.parametrize("route", ON_CPU, **by_route)  # type: ignore[arg-type]
def test_operations_bytes_and_footprint_are_those_of_the_tensors(route: MatmulRoute) -> None:
    m, n, k = shape = (33, 48, 64)
    work = prepared(route, shape)
    row = route.compute_row
    operand = torch.empty(0, dtype=getattr(torch, row.operand)).element_size()
    output = torch.empty(0, dtype=getattr(torch, row.output)).element_size()
    scales = {None: 0, "tensorwise": 2 * 4, "rowwise": (m + n) * 4}[row.scaling]
    assert work.flops == 2 * m * n * k
    assert work.bytes_read == (m * k + n * k) * operand + scales
    assert work.bytes_written == m * n * output
    assert work.array_bytes == work.bytes_read - scales + work.bytes_written
    assert work.array_bytes == set_bytes(row, m, n, k)
    assert work.kernel == route.name


def test_block_scaled_products_count_codes_and_scales_as_they_are_stored() -> None:
    m, n, k = shape = (32, 64, 128)
    for row, operands, scales in (
        ("mxfp8", (m + n) * k, (m + n) * k // 32),
        ("nvfp4", (m + n) * k // 2, (m + n) * k // 16),
    ):
        work = prepared(route_named(row, "F.scaled_mm"), shape, cuda("sm_100"))
        assert work.bytes_read == operands + scales
        assert work.bytes_written == 2 * m * n
        assert work.flops == 2 * m * n * k


def test_as_many_sets_go_round_as_twice_the_cache_holds() -> None:
    one = set_bytes(mm("fp32").compute_row, 32, 32, 32)
    assert len(prepared(mm("fp32"), (32, 32, 32), cache=2 * one).launches) == 4


def test_the_same_seed_gives_the_same_operands_and_another_seed_others() -> None:
    errors = [prepared(mm("bf16"), (33, 48, 64), seed=seed).check().error for seed in (1, 1, 2)]
    assert errors[0] == errors[1]
    assert errors[0] != errors[2]


@pytest.mark.parametrize("layout", ["TN", "NN", "NT", "TT"])
def test_every_layout_of_a_work_is_checked_right(layout: str) -> None:
    assert prepared(mm("bf16"), (33, 48, 64), layout=layout).check().problem is None


@pytest.mark.parametrize("pattern", ["uniform", "normal", "small-integers", "constant", "zeros"])
@pytest.mark.parametrize("row", ["fp32", "bf16", "fp8", "int8"])
def test_the_check_passes_on_every_pattern(row: str, pattern: str) -> None:
    work = prepared(mm(row), (33, 48, 64), pattern=pattern)
    with work.settings():
        assert work.check().problem is None


def test_a_flattering_pattern_cannot_show_that_tf32_was_declined_and_a_telling_one_does() -> None:
    # float32 on the CPU is what a library that declined TF32 would compute.
    for pattern, telling in (
        ("uniform", True), ("normal", True), ("small-integers", False), ("constant", False),
        ("zeros", False),
    ):  # fmt: skip
        check = prepared(mm("tf32"), (64, 64, 64), cuda(), pattern=pattern).check()
        assert check.problem is None
        assert (check.declined is not None) == telling, pattern


@pytest.mark.parametrize(
    ("row", "shape", "layout", "words"),
    [
        ("fp8", (32, 32, 40), "TN", "k divisible by 16, got k = 40"),
        ("int8", (16, 32, 32), "TN", "m > 16, got m = 16"),
        ("int8", (32, 32, 32), "NN", "takes TN for int8, not NN"),
        ("fp32", (32, 0, 32), "TN", "at least 1"),
    ],
)
def test_a_shape_or_layout_that_does_not_suit_is_refused_before_anything_is_made(
    row: str, shape: Shape, layout: str, words: str
) -> None:
    with pytest.raises(Unsupported, match=words) as refused:
        matmul.require(mm(row), CPU, shape, layout)
    assert refused.value.code == "shape"
    arena = Arena(mm(row).compute_row, CPU, ((64, 64, 64),), cache_bytes=None, limit_bytes=None)
    with pytest.raises(Unsupported, match=words):
        matmul.prepare(mm(row), CPU, arena, shape, layout=layout)


@pytest.mark.parametrize("row", ["tf32", "fp16-acc16", "fp8-fast", "nvfp4", "bf16-sparse"])
def test_what_the_device_lacks_is_refused_before_the_shape_is_looked_at(row: str) -> None:
    for target in (CPU, NPU):
        with pytest.raises(Unsupported) as refused:
            matmul.require(mm(row), target, (1, 1, 1))
        assert refused.value.code != "shape"


@pytest.mark.parametrize("row", ["fp64", "fp32", "bf16", "fp16", "int8"])
def test_another_accelerator_may_try_every_plain_product(row: str) -> None:
    work = prepared(mm(row), (33, 48, 64), NPU)
    with work.settings():
        assert work.check().problem is None


# Switches


def test_fp32_stays_ieee_when_the_host_allows_bf16_inside() -> None:
    onednn = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = onednn.fp32_precision
    onednn.fp32_precision = "bf16"
    try:
        work = prepared(mm("fp32"), (128, 128, 256))
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
    ("row", "name", "value"),
    [
        ("fp32", "fp32_precision", "ieee"),
        ("tf32", "fp32_precision", "tf32"),
        ("bf16", "allow_bf16_reduced_precision_reduction", False),
        ("fp16", "allow_fp16_reduced_precision_reduction", False),
        ("fp16-acc16", "allow_fp16_accumulation", True),
    ],
)
def test_library_switches_hold_during_the_work_and_are_put_back_after_an_error(
    row: str, name: str, value: object
) -> None:
    before = switches()
    if name not in before:
        pytest.skip(f"torch {torch.__version__} has no {name}")
    work = prepared(mm(row), (16, 16, 16), cuda())
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


def test_the_lt_route_prefers_cublaslt_while_it_works_only(monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = ["default"]

    def stand_in(name: str | None = None) -> str:
        if name is not None:
            preferred.append(name)
        return preferred[-1]

    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", stand_in)
    work = prepared(route_named("bf16", "torch.mm/lt"), (16, 16, 16), cuda())
    assert preferred == ["default"]

    def fail_inside() -> None:
        with work.settings():
            assert preferred[-1] == "cublaslt"
            raise RuntimeError("the launch failed")

    with pytest.raises(RuntimeError, match="the launch failed"):
        fail_inside()
    assert preferred == ["default", "cublaslt", "default"]
    with prepared(mm("bf16"), (16, 16, 16), cuda()).settings():
        assert preferred[-1] == "default"


class Tunable:
    """Stands for ``torch.cuda.tunable``: remembers what it was told."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"enable": False, "tuning_enable": True}
        self.log: list[tuple[str, Any]] = []

    def is_enabled(self) -> bool:
        return bool(self.state["enable"])

    def tuning_is_enabled(self) -> bool:
        return bool(self.state["tuning_enable"])

    def set_cublaslt_requested_algo_count(self, count: int) -> None: ...

    def __getattr__(self, name: str) -> Any:
        def told(value: Any) -> None:
            self.state[name] = value
            self.log.append((name, value))

        return told


def test_tuning_is_bounded_writes_no_file_and_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tunable = Tunable()
    monkeypatch.setattr(torch.cuda, "tunable", tunable)
    work = prepared(route_named("bf16", "torch.mm/tuned"), (16, 16, 16), cuda())
    assert tunable.log == [], "preparing must not switch anything"
    with work.settings():
        assert tunable.state == {
            "enable": True,
            "tuning_enable": True,
            "set_max_tuning_duration": 30,
            "set_max_tuning_iterations": 100,
            "set_filename": os.devnull,
        }
    assert (tunable.is_enabled(), tunable.tuning_is_enabled()) == (False, True)


def test_a_tf32_route_that_lost_its_setting_would_be_told_as_declined() -> None:
    work = prepared(replace(mm("tf32"), setting="ieee"), (64, 64, 64), cuda())
    with work.settings():
        check = work.check()
    assert check.problem is None
    assert check.declined is not None


class WithoutOut:
    """Makes its product in the one block that its allocator has, and forgets a row."""

    block = torch.empty(0)

    def __init__(self, route: Any, target: Any, sets: Any, config: str | None) -> None:
        self.config: launchers.Config = {}

    def launch(self, operands: Operands) -> torch.Tensor:
        block = WithoutOut.block
        block[: self.written] = (operands.a_mk @ operands.b_kn)[: self.written]
        return block[:]

    written = 15


def test_a_product_that_has_no_place_of_its_own_is_poisoned_where_it_will_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(launchers.LAUNCHERS, "mm", WithoutOut)
    route = mm("fp32")
    arena = Arena(route.compute_row, CPU, ((16, 16, 16),), cache_bytes=None, limit_bytes=None)
    first = arena.sets((16, 16, 16))[0]
    # What an earlier, right launch left in the block.
    monkeypatch.setattr(WithoutOut, "block", first.a_mk @ first.b_kn)
    work = matmul.prepare(route, CPU, arena, (16, 16, 16))
    problem = work.check().problem
    assert problem == "16 of 256 elements were not written or are not finite"
    monkeypatch.setattr(WithoutOut, "written", 16)
    assert work.check().problem is None


def test_a_product_that_lies_where_it_was_told_is_launched_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = mm("fp32")
    arena = Arena(route.compute_row, CPU, ((16, 16, 16),), cache_bytes=None, limit_bytes=None)
    launched = []
    real = launchers._MM.launch

    def counted(self: Any, operands: Operands) -> torch.Tensor:
        launched.append(operands.index)
        return real(self, operands)

    monkeypatch.setattr(launchers._MM, "launch", counted)
    assert matmul.prepare(route, CPU, arena, (16, 16, 16)).check().problem is None
    assert launched == [0]


def test_a_named_configuration_reaches_the_launcher_and_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str | None] = []

    class Noted:
        def __init__(self, route: Any, target: Any, sets: Any, config: str | None) -> None:
            asked.append(config)
            self.config: launchers.Config = {"tile": config}

        def launch(self, operands: Operands) -> torch.Tensor:
            return operands.out

    monkeypatch.setitem(launchers.LAUNCHERS, "mm", Noted)
    route = mm("fp32")
    arena = Arena(route.compute_row, CPU, ((16, 16, 16),), cache_bytes=None, limit_bytes=None)
    work = matmul.prepare(route, CPU, arena, (16, 16, 16), config="128x128")
    assert asked == ["128x128"]
    assert work.config == {"tile": "128x128"}
