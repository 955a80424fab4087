"""Launchers hand each library what it documents; products come out right wherever they can run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.kernels import routes
from roofprobe.kernels.accuracy import check_matmul
from roofprobe.kernels.launchers import LAUNCHERS, Launcher, _SparseMM, swizzle_32_4_4
from roofprobe.kernels.operands import Arena, Operands
from roofprobe.kernels.routes import MatmulRoute, route_named
from roofprobe.kernels.work import Target

Shape = tuple[int, int, int]
CPU = Target("cpu", "cpu", "x86_64", 2)
CPU_DEVICE = torch.device("cpu")
BLACKWELL = Target("cuda", "cpu", "sm_100", 148)  # its tensors lie on the CPU
ON_CPU = [
    route
    for route in routes.ROUTES
    if routes.unavailable(route, CPU) is None and not route.optional
]
by_route = {"ids": lambda value: f"{value.row}-{value.name}"}


def made(
    route: MatmulRoute, shape: Shape, layout: str = "TN", target: Target = CPU, sets: int = 3
) -> tuple[Launcher, tuple[Operands, ...]]:
    arena = Arena(route.compute_row, target, (shape,), cache_bytes=1 << 16, limit_bytes=None)
    operands = arena.sets(shape, layout)[:sets]
    assert len(operands) >= 2
    return LAUNCHERS[route.call](route, target, operands, None), operands


def assert_right(route: MatmulRoute, operands: Operands, product: torch.Tensor) -> None:
    check = check_matmul(
        operands.a, operands.b, product, precision=route.tolerance_key, seed=operands.index
    )
    assert check.problem is None, (route, operands.index, operands.layout)


@pytest.mark.parametrize("layout", ["TN", "NN", "NT", "TT"])
@pytest.mark.parametrize("route", ON_CPU, **by_route)  # type: ignore[arg-type]
def test_every_cpu_route_is_right_in_every_layout_it_takes_on_every_set(
    route: MatmulRoute, layout: str
) -> None:
    shape = (34, 48, 80)
    if layout not in route.layouts:
        assert routes.shape_problem(route, *shape, layout) is not None
        return
    launcher, sets = made(route, shape, layout)
    for operands in sets:
        operands.out.fill_(1)
        product = launcher.launch(operands)
        assert product.data_ptr() == operands.out.data_ptr(), "it writes where it is told"
        assert_right(route, operands, product)


@pytest.mark.parametrize("route", ON_CPU, **by_route)  # type: ignore[arg-type]
def test_a_launch_changes_nothing_but_its_own_output(route: MatmulRoute) -> None:
    launcher, sets = made(route, (34, 48, 80))
    everything = [(s.a.values, s.b.values) for s in sets]
    before = [tuple(part.clone() for part in parts) for parts in everything]
    for operands in sets[1:]:
        operands.out.fill_(7)
    launcher.launch(sets[0])
    for old, new in zip(before, everything, strict=True):
        assert all(
            torch.equal(a.view(torch.uint8), b.view(torch.uint8))
            for a, b in zip(old, new, strict=True)
        )
    assert all(bool((operands.out == 7).all()) for operands in sets[1:])


# The layout of block scales


def offset(row: int, column: int, columns: int) -> int:
    """Return where the cuBLAS documentation puts the scale of (row, column).

    Tiles of 128 × 4 lie one after the other along the columns, 512 bytes each.
    """
    tiles_wide = (columns + 3) // 4
    tile = (row // 128) * tiles_wide + column // 4
    return tile * 512 + (row % 32) * 16 + (row % 128) // 32 * 4 + column % 4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20))
def test_the_swizzle_puts_every_scale_where_cublas_reads_it_and_zeros_elsewhere(
    rows: int, columns: int
) -> None:
    scales = torch.arange(1, rows * columns + 1, dtype=torch.int32).view(rows, columns)
    flat = swizzle_32_4_4(scales)
    assert flat.shape == (-(-rows // 128) * -(-columns // 4) * 512,)
    assert flat.is_contiguous()
    expected = torch.zeros_like(flat)
    for row in range(rows):
        for column in range(columns):
            expected[offset(row, column, columns)] = scales[row, column]
    assert torch.equal(flat, expected)
    assert sorted(flat[flat > 0].tolist()) == list(range(1, rows * columns + 1)), "each once"


def test_the_swizzle_keeps_the_type_of_its_bytes() -> None:
    assert swizzle_32_4_4(torch.ones(3, 2, dtype=torch.uint8)).dtype == torch.uint8


# Block-scaled products, by a stand-in that reads its arguments as cuBLASLt documents them


def on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


class Reference:
    """Stands for ``torch.nn.functional.scaled_mm``: decodes what it is given and multiplies.

    Torch's own rules (types, shapes, strides) are asked too: its function runs on meta tensors.
    """

    def __init__(self, real: Callable[..., torch.Tensor]) -> None:
        self._real = real
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        a: torch.Tensor,
        b: torch.Tensor,
        scale_a: torch.Tensor,
        recipe_a: functional.ScalingType,
        scale_b: torch.Tensor,
        recipe_b: functional.ScalingType,
        *,
        swizzle_a: functional.SwizzleType,
        swizzle_b: functional.SwizzleType,
        output_dtype: torch.dtype,
    ) -> torch.Tensor:
        self.calls.append(
            {
                "a": a,
                "b": b,
                "scale_a": scale_a,
                "scale_b": scale_b,
                "recipes": (recipe_a, recipe_b),
                "swizzles": (swizzle_a, swizzle_b),
            }
        )
        outline = self._real(
            on_meta(a), on_meta(b), on_meta(scale_a), recipe_a, on_meta(scale_b), recipe_b,
            swizzle_a=swizzle_a, swizzle_b=swizzle_b, output_dtype=output_dtype,
        )  # fmt: skip
        assert outline.shape == (a.shape[0], b.shape[1])
        left = self._wide(a, scale_a, recipe_a, swizzle_a)
        if recipe_b == functional.ScalingType.BlockWise128x128:
            scale_b = scale_b.t()  # they are (k, n), as B is
        right = self._wide(b.t(), scale_b, recipe_b, swizzle_b)
        return (left @ right.t()).to(output_dtype)

    def _wide(
        self,
        values: torch.Tensor,
        scales: torch.Tensor,
        recipe: functional.ScalingType,
        swizzle: functional.SwizzleType,
    ) -> torch.Tensor:
        tall, long = {
            functional.ScalingType.BlockWise1x16: (1, 16),
            functional.ScalingType.BlockWise1x32: (1, 32),
            functional.ScalingType.BlockWise1x128: (1, 128),
            functional.ScalingType.BlockWise128x128: (128, 128),
        }[recipe]
        if values.dtype == torch.float4_e2m1fn_x2:
            table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=torch.float64)
            table = torch.cat([table, -table])
            codes = values.view(torch.uint8).long()
            wide = torch.stack((table[codes % 16], table[codes // 16]), -1).flatten(1)
        else:
            wide = values.float().double()
        rows, k = wide.shape
        row, column = torch.meshgrid(
            torch.arange(rows) // tall, torch.arange(k) // long, indexing="ij"
        )
        if scales.dtype == torch.float8_e8m0fnu:
            factors = torch.exp2(scales.view(torch.uint8).double() - 127)
        else:
            factors = scales.float().double()
        if swizzle == functional.SwizzleType.SWIZZLE_32_4_4:
            columns = -(-k // long)
            tiles = row // 128 * ((columns + 3) // 4) + column // 4
            at = tiles * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4
            return wide * factors.flatten()[at]
        return wide * factors[row, column]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Reference:
    stand_in = Reference(functional.scaled_mm)
    monkeypatch.setattr(functional, "scaled_mm", stand_in)
    return stand_in


@pytest.mark.parametrize("row", ["mxfp8", "nvfp4", "fp8-blockwise"])
def test_a_block_scaled_product_is_right_when_read_as_the_library_reads_it(
    row: str, reference: Reference
) -> None:
    route = route_named(row, "F.scaled_mm")
    launcher, sets = made(route, (132, 256, 384), target=BLACKWELL)
    for operands in sets:
        product = launcher.launch(operands)
        assert product.dtype == torch.bfloat16
        assert_right(route, operands, product)
    swizzled = row != "fp8-blockwise"
    kind = functional.SwizzleType.SWIZZLE_32_4_4 if swizzled else functional.SwizzleType.NO_SWIZZLE
    assert {call["swizzles"] for call in reference.calls} == {(kind, kind)}
    assert launcher.config == {"scaling": route.compute_row.scaling}


def test_rocm_reads_block_scales_in_the_plain_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stand_in(a: torch.Tensor, b: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        seen.append((rest, named))
        return a

    monkeypatch.setattr(functional, "scaled_mm", stand_in)
    target = Target("rocm", "cpu", "gfx950", 256)
    launcher, sets = made(route_named("mxfp8", "F.scaled_mm"), (128, 128, 256), target=target)
    launcher.launch(sets[0])
    (scale_a, _, scale_b, _), named = seen[0]
    for given_scales, stored in ((scale_a, sets[0].a), (scale_b, sets[0].b)):
        assert given_scales.shape == (128, 8)
        assert stored.scales is not None
        assert torch.equal(given_scales.view(torch.uint8), stored.scales)
    assert named["swizzle_a"] == named["swizzle_b"] == functional.SwizzleType.NO_SWIZZLE


def test_a_product_with_forgotten_scales_would_be_seen(reference: Reference) -> None:
    route = route_named("mxfp8", "F.scaled_mm")
    launcher, sets = made(route, (128, 128, 256), target=BLACKWELL)
    launcher.launch(sets[0])
    call = reference.calls[0]
    call["scale_b"].view(torch.uint8).fill_(127)  # one everywhere
    product = launcher.launch(sets[0])
    check = check_matmul(sets[0].a, sets[0].b, product, precision="mxfp8", seed=1)
    assert check.problem is not None


def test_operands_of_block_scaled_products_have_the_types_and_strides_of_cublaslt(
    reference: Reference,
) -> None:
    m, n, k = 132, 256, 384
    for row in ("mxfp8", "nvfp4", "fp8-blockwise"):
        launcher, sets = made(route_named(row, "F.scaled_mm"), (m, n, k), target=BLACKWELL)
        launcher.launch(sets[0])
    mxfp8, nvfp4, blocks = reference.calls
    assert mxfp8["scale_a"].dtype == mxfp8["scale_b"].dtype == torch.float8_e8m0fnu
    assert nvfp4["scale_a"].dtype == nvfp4["scale_b"].dtype == torch.float8_e4m3fn
    assert nvfp4["a"].dtype == nvfp4["b"].dtype == torch.float4_e2m1fn_x2
    assert nvfp4["a"].shape == (m, k // 2)
    assert (nvfp4["b"].shape, nvfp4["b"].stride()) == ((k // 2, n), (1, k // 2))
    assert blocks["scale_a"].dtype == blocks["scale_b"].dtype == torch.float32
    # A's scales have m contiguous; B's have k contiguous, rounded up to a multiple of four.
    assert (blocks["scale_a"].shape, blocks["scale_a"].stride()) == ((m, 3), (1, m))
    assert (blocks["scale_b"].shape, blocks["scale_b"].stride()) == ((4, 2), (1, 4))


# Scales per tensor and per row


@pytest.mark.parametrize(
    ("row", "fast", "shapes"),
    [
        ("fp8", False, ((), ())),
        ("fp8-fast", True, ((), ())),
        ("fp8-rowwise", False, ((32, 1), (1, 48))),
        ("fp8-rowwise-fast", True, ((32, 1), (1, 48))),
    ],
)
def test_scaled_mm_gets_the_scales_in_shape_and_the_switch_of_its_row(
    monkeypatch: pytest.MonkeyPatch, row: str, fast: bool, shapes: tuple[tuple[int, ...], ...]
) -> None:
    seen: list[tuple[Any, Any]] = []

    def stand_in(*given: Any, **named: Any) -> torch.Tensor:
        seen.append((given, named))
        out: torch.Tensor = named["out"]
        return out

    monkeypatch.setattr(torch, "_scaled_mm", stand_in)
    route = route_named(row, "torch._scaled_mm")
    launcher, sets = made(route, (32, 48, 64), target=Target("cuda", "cpu", "sm_90", 132))
    for operands in sets:
        launcher.launch(operands)
        (a, b, scale_a, scale_b), named = seen[-1]
        assert (scale_a.shape, scale_b.shape) == shapes
        assert a is operands.a.values
        assert (b.shape, b.stride()) == ((64, 48), (1, 64))
        assert scale_a.dtype == scale_b.dtype == torch.float32
        assert torch.equal(scale_a.flatten(), operands.a.scales.flatten())  # type: ignore[union-attr]
        assert named["use_fast_accum"] is fast
        assert (named["out_dtype"], named["out"] is operands.out) == (torch.bfloat16, True)
    assert launcher.config == {"scaling": route.compute_row.scaling, "use_fast_accum": fast}


# Sparse products


@pytest.fixture
def cusparselt(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand for cuSPARSELt: keeps A as it is, multiplies in float64, notes what it was told."""
    calls: list[dict[str, Any]] = []

    def compress(a: torch.Tensor) -> torch.Tensor:
        calls.append({"compressed": a})
        return a.clone()

    def multiply(
        compressed: torch.Tensor,
        b: torch.Tensor,
        *,
        out_dtype: torch.dtype | None,
        **algorithm: int,
    ) -> torch.Tensor:
        calls.append({"out_dtype": out_dtype, "algorithm": algorithm})
        wide = compressed.float().double() @ b.float().double()
        return wide.to(out_dtype or compressed.dtype)

    monkeypatch.setattr(torch, "_cslt_compress", compress)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", multiply)
    monkeypatch.setattr(_SparseMM, "_searched", {})
    return calls


def searching(monkeypatch: pytest.MonkeyPatch, search: Callable[..., Any]) -> None:
    """Give torch the module that it has where it was built with cuSPARSELt."""
    monkeypatch.setattr(torch._C, "_cusparselt", SimpleNamespace(mm_search=search), raising=False)


@pytest.mark.parametrize(
    ("row", "out_dtype"),
    [
        ("bf16-sparse", None),
        ("fp16-sparse", None),
        ("fp8-sparse", torch.bfloat16),
        ("int8-sparse", torch.int32),
    ],
)
def test_sparse_operands_are_compressed_once_and_products_are_right(
    cusparselt: list[dict[str, Any]], row: str, out_dtype: torch.dtype | None
) -> None:
    route = route_named(row, "cuSPARSELt")
    launcher, sets = made(route, (64, 48, 128), target=Target("cuda", "cpu", "sm_90", 132))
    assert len(cusparselt) == len(sets), "one compression per set, before any launch"
    for _ in range(2):
        for operands in sets:
            assert_right(route, operands, launcher.launch(operands))
    assert len(cusparselt) == 3 * len(sets)
    products = cusparselt[len(sets) :]
    assert {call["out_dtype"] for call in products} == {out_dtype}
    # Nor any factor: torch would read it back to the host at each launch.
    assert all(call["algorithm"] == {} for call in products)
    assert launcher.config == {"sparsity": "2:4", "flops_counted": "dense", "searched": False}


@pytest.mark.parametrize(("row", "out_dtype"), [("bf16-sparse", None), ("fp8-sparse", "bfloat16")])
def test_the_library_searches_its_algorithm_once_per_shape_and_every_launch_uses_it(
    monkeypatch: pytest.MonkeyPatch,
    cusparselt: list[dict[str, Any]],
    row: str,
    out_dtype: str | None,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def search(*given: Any) -> tuple[int, int, int, int]:
        asked.append(given)
        return 7, 2, 1, 11

    searching(monkeypatch, search)
    route, target = route_named(row, "cuSPARSELt"), Target("cuda", "cpu", "sm_90", 132)
    for shape, searches in (((64, 48, 128), 1), ((64, 48, 128), 1), ((64, 48, 192), 2)):
        launcher, sets = made(route, shape, target=target)
        assert len(asked) == searches
        found = {"alg_id": 7, "split_k": 2, "split_k_mode": 1}
        assert {**launcher.config, **found} == launcher.config
        assert launcher.config["searched"] is True
        assert_right(route, sets[0], launcher.launch(sets[0]))
        assert cusparselt[-1]["algorithm"] == found
    _, b_kn, bias, alpha, kind, transposed = asked[0]
    assert (b_kn.shape, b_kn.stride()) == ((128, 48), (1, 128))
    assert (bias, alpha, transposed) == (None, None, False)
    assert kind == (getattr(torch, out_dtype) if out_dtype else None)


@pytest.mark.parametrize("error", [RuntimeError("NOT_SUPPORTED"), TypeError("signature"), None])
def test_where_the_library_cannot_search_the_first_algorithm_is_taken(
    monkeypatch: pytest.MonkeyPatch, cusparselt: list[dict[str, Any]], error: Exception | None
) -> None:
    def search(*_: Any) -> tuple[int, int]:
        if error is not None:
            raise error
        return 7, 2  # another version's answer

    searching(monkeypatch, search)
    launcher, sets = made(
        route_named("bf16-sparse", "cuSPARSELt"), (64, 48, 128),
        target=Target("cuda", "cpu", "sm_90", 132),
    )  # fmt: skip
    launcher.launch(sets[0])
    assert launcher.config["searched"] is False
    assert cusparselt[-1]["algorithm"] == {}


# torch.compile


@pytest.mark.parametrize(
    ("target", "mode"), [(CPU, "default"), (BLACKWELL, "max-autotune-no-cudagraphs")]
)
def test_the_compiled_product_is_compiled_for_its_one_shape(
    monkeypatch: pytest.MonkeyPatch, target: Target, mode: str
) -> None:
    asked: list[dict[str, Any]] = []

    def stand_in(function: Callable[..., torch.Tensor], **named: Any) -> Any:
        asked.append(named)
        return function

    monkeypatch.setattr(torch, "compile", stand_in)
    route = route_named("fp32", "torch.compile")
    launcher, sets = made(route, (34, 48, 80), "NT", target=target)
    assert asked == [{"mode": mode, "dynamic": False}]
    for operands in sets:
        assert_right(route, operands, launcher.launch(operands))
