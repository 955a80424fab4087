"""Operands: what is stored decodes to what is meant, fills as told, rotates, and fits."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from roofprobe.kernels import operands as operands_module
from roofprobe.kernels.operands import (
    LAYOUTS,
    PATTERNS,
    Arena,
    Operands,
    Stored,
    fill,
    fitting,
    item_bytes,
    set_bytes,
    sets_wanted,
)
from roofprobe.kernels.rows import BY_NAME, ROWS, ComputeRow, Scaling
from roofprobe.kernels.work import Target, Unsupported

Shape = tuple[int, int, int]
CPU = Target("cpu", "cpu", "x86_64", 2)
CPU_DEVICE = torch.device("cpu")
Matrix = np.ndarray[Any, np.dtype[np.float64]]
PRODUCTS = [row for row in ROWS if row.gemm]
SCALED = [row for row in PRODUCTS if row.scaling is not None]
SCALED_DENSE = [row for row in SCALED if row.sparsity is None]
SPARSE = [row for row in PRODUCTS if row.sparsity is not None]
every_product = pytest.mark.parametrize("row", PRODUCTS, ids=lambda row: row.name)


def arena(
    row: str | ComputeRow,
    *shapes: Shape,
    cache: int | None = None,
    limit: int | None = None,
    pattern: str = "uniform",
    seed: int = 0,
    target: Target = CPU,
) -> Arena:
    return Arena(
        BY_NAME[row] if isinstance(row, str) else row,
        target,
        shapes,
        cache_bytes=cache,
        limit_bytes=limit,
        pattern=pattern,
        seed=seed,
    )


# Reading back: an independent decoder, from the formats' definitions, element by element


def e4m3(code: int) -> float:
    """Decode OFP8 E4M3: sign, 4 bits of exponent with bias 7, 3 of mantissa, no infinities."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> 3 & 0xF, code & 7
    if exponent == 0:
        return sign * mantissa / 8 * 2.0**-6
    assert code & 0x7F != 0x7F, "NaN"
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def e2m1(code: int) -> float:
    """Decode OCP E2M1: sign, 2 bits of exponent with bias 1, 1 of mantissa."""
    sign = -1.0 if code & 8 else 1.0
    exponent, mantissa = code >> 1 & 3, code & 1
    return sign * (mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1))


E4M3_TABLE = np.array([math.nan if code & 0x7F == 0x7F else e4m3(code) for code in range(256)])
E2M1_TABLE = np.array([e2m1(code) for code in range(16)])


def decoded(stored: Stored, scaling: Scaling | None, side: int) -> Matrix:
    """Return the float64 matrix (rows, k) that the bytes of ``stored`` stand for."""
    raw = stored.values.contiguous()
    if stored.packed:
        codes = raw.numpy()
        values = np.empty((codes.shape[0], codes.shape[1] * 2))
        values[:, 0::2], values[:, 1::2] = E2M1_TABLE[codes % 16], E2M1_TABLE[codes // 16]
    elif raw.dtype == torch.float8_e4m3fn:
        values = E4M3_TABLE[raw.view(torch.uint8).numpy()]
    else:
        values = raw.double().numpy()
    if scaling is None:
        return values
    assert stored.scales is not None
    row, column = np.indices(values.shape)
    if scaling == "mx32":
        return np.asarray(values * 2.0 ** (stored.scales.double().numpy() - 127)[row, column // 32])
    if scaling == "nv16":
        codes = stored.scales.view(torch.uint8).numpy()
        return np.asarray(values * E4M3_TABLE[codes][row, column // 16])
    scales = stored.scales.double().numpy()
    if scaling == "blockwise":
        return np.asarray(values * scales[row // (128 if side else 1), column // 128])
    return np.asarray(values * (scales[row] if scaling == "rowwise" else scales))


def test_the_two_decoders_of_small_floats_know_every_code() -> None:
    codes = [code for code in range(256) if code & 0x7F != 0x7F]
    stored = torch.tensor(codes, dtype=torch.uint8).view(torch.float8_e4m3fn).double().tolist()
    assert [e4m3(code) for code in codes] == stored
    assert [e2m1(code) for code in range(8)] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_every_scaling_has_a_row_here() -> None:
    assert {row.scaling for row in SCALED} == set(get_args(Scaling))


# 132 and 260: the last block row of B's 128 × 128 is not full.
@pytest.mark.parametrize("shape", [(36, 132, 128), (20, 260, 384)])
@pytest.mark.parametrize("row", SCALED, ids=lambda row: row.name)
def test_rows_read_back_as_the_independent_decoder_reads_them(
    row: ComputeRow, shape: Shape
) -> None:
    for operands in arena(row, shape).sets(shape):
        for side, stored in enumerate((operands.a, operands.b)):
            expected = decoded(stored, row.scaling, side)
            found = stored.rows64(0, stored.shape[0], CPU_DEVICE)
            assert found.dtype == torch.float64
            np.testing.assert_array_equal(found.numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCALED), st.integers(0, 259), st.integers(1, 260))
def test_any_stretch_of_rows_is_that_of_the_whole(row: ComputeRow, start: int, count: int) -> None:
    stored = arena(row, (4, 260, 256)).sets((4, 260, 256))[0].b
    stop = min(260, start + count)
    whole = stored.rows64(0, 260, CPU_DEVICE)
    assert torch.equal(stored.rows64(start, stop, CPU_DEVICE), whole[start:stop])


@pytest.mark.parametrize("row", ["fp64", "fp32", "bf16", "fp16", "int8"])
def test_unscaled_rows_read_back_as_they_are_stored(row: str) -> None:
    operands = arena(row, (16, 24, 32)).sets((16, 24, 32))[0]
    assert operands.a.shape == (16, 32)
    assert operands.a.scales is None
    found = operands.b.rows64(3, 9, CPU_DEVICE)
    assert torch.equal(found, operands.b.values[3:9].double())


@pytest.mark.parametrize("row", SCALED_DENSE, ids=lambda row: row.name)
def test_scales_differ_and_lie_between_a_quarter_and_one(row: ComputeRow) -> None:
    first, second = arena(row, (64, 256, 256)).sets((64, 256, 256))[:2]
    plain = first.b.scales
    assert plain is not None
    values = torch.exp2(plain.double() - 127) if row.scaling == "mx32" else plain.double()
    assert float(values.min()) >= 0.25
    assert float(values.max()) <= 1.0
    expected = {
        "tensorwise": (), "rowwise": (256,), "blockwise": (2, 2), "mx32": (256, 8),
        "nv16": (256, 16),
    }  # fmt: skip
    assert plain.shape == expected[str(row.scaling)]
    if values.ndim:
        assert values.unique().numel() > 1, "a route that forgets them would pass"
    # Scales belong to the set: a route that uses the first set's for the second would be seen.
    assert second.b.scales is not None
    assert not torch.equal(second.b.scales.double(), plain.double())


@pytest.mark.parametrize("row", SCALED, ids=lambda row: row.name)
def test_scales_are_one_where_data_is_plain_or_the_library_takes_none(row: ComputeRow) -> None:
    shape = (64, 256, 256)
    for pattern in PATTERNS:
        scales = arena(row, shape, pattern=pattern).sets(shape)[1].a.scales
        assert scales is not None
        ones = torch.exp2(scales.double() - 127) if row.scaling == "mx32" else scales.double()
        plain = pattern in ("constant", "zeros") or row.sparsity is not None
        assert bool((ones == 1).all()) == plain, pattern


@pytest.mark.parametrize("row", SCALED, ids=lambda row: row.name)
def test_scales_are_drawn_once_and_cut_into_contiguous_views(
    row: ComputeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = (256, 512, 512), (128, 384, 256)
    made = arena(row, large, cache=1 << 21)

    def drawn(*_: object, **__: object) -> None:
        pytest.fail("scales are drawn again")

    monkeypatch.setattr(torch.Tensor, "uniform_", drawn)
    stretches: dict[str, set[int]] = {"a": set(), "b": set()}
    for shape in (large, small, large):
        sets = made.sets(shape)
        assert len(sets) > 2
        starts = set()
        for operands in sets:
            for side in ("a", "b"):
                scales = getattr(operands, side).scales
                assert scales.is_contiguous()
                stretches[side].add(scales.untyped_storage().data_ptr())
                assert (scales.data_ptr() - next(iter(stretches[side]))) % 128 == 0
                starts.add(scales.data_ptr())
        assert len(starts) == 2 * len(sets), "each set has its own"
    assert all(len(storages) == 1 for storages in stretches.values()), "one stretch per side"


@pytest.mark.parametrize("row", SCALED_DENSE, ids=lambda row: row.name)
def test_the_scales_of_a_shape_depend_on_the_seed_and_on_nothing_asked_before(
    row: ComputeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operands_module, "_SCALE_PIECE", 512)  # several pieces per shape
    shape, tall = (64, 256, 256), (1024, 32, 16)

    def scales(*asked: Shape, seed: int = 0) -> list[torch.Tensor]:
        made = arena(row, (64, 512, 256), seed=seed)
        for other in asked:
            made.sets(other)
        found = [s for each in made.sets(shape) for s in (each.a.scales, each.b.scales)]
        return [s.reshape(-1).view(torch.uint8).clone() for s in found if s is not None]

    first = scales()
    for other in (scales(tall), scales((16, 512, 16), tall, shape)):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, scales(seed=1), strict=True))


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", ["fp64", "bf16", "int8"])
def test_a_layout_is_contiguous_along_the_axis_that_its_letter_says(row: str, layout: str) -> None:
    m, n, k = 24, 40, 56
    for operands in arena(row, (m, n, k)).sets((m, n, k), layout):
        assert operands.layout == layout
        assert operands.a_mk.shape == (m, k)
        assert operands.b_kn.shape == (k, n)
        assert operands.out.shape == (m, n)
        # BLAS is column-major: an untransposed A (N) has its m entries of a column side by side.
        assert operands.a_mk.stride() == ((1, m) if layout[0] == "N" else (k, 1))
        assert operands.b_kn.stride() == ((1, k) if layout[1] == "N" else (n, 1))
        assert operands.out.is_contiguous()


def test_packed_codes_are_half_as_many_bytes_along_k() -> None:
    operands = arena("nvfp4", (32, 48, 64)).sets((32, 48, 64))[0]
    assert operands.a.values.shape == (32, 32)
    assert operands.a.values.dtype == torch.uint8
    assert operands.a.shape == (32, 64)
    assert operands.b.shape == (48, 64)


# Patterns


def filled(row: str, pattern: str, count: int = 1 << 14) -> torch.Tensor:
    compute_row = BY_NAME[row]
    packed = compute_row.operand == "uint4"
    dtype = torch.uint8 if packed else getattr(torch, compute_row.operand)
    generator = torch.Generator().manual_seed(5)
    values = fill(count, compute_row, dtype, pattern, generator)
    assert values.shape == (count,)
    assert values.dtype == dtype
    if packed:
        return Stored(values.view(1, -1), packed=True).rows64(0, 1, CPU_DEVICE).view(-1)
    return values.float().double() if values.element_size() == 1 else values.double()


FLOATS = ("fp64", "fp32", "bf16", "fp16", "fp8", "mxfp8")


@pytest.mark.parametrize("row", FLOATS)
def test_uniform_floats_fill_minus_one_to_one(row: str) -> None:
    values = filled(row, "uniform")
    assert float(values.min()) < -0.99
    assert float(values.max()) > 0.99
    assert float(values.abs().max()) <= 1.0
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("row", FLOATS)
def test_normal_floats_have_deviation_one(row: str) -> None:
    values = filled(row, "normal")
    assert abs(float(values.mean())) < 0.03
    assert float(values.std()) == pytest.approx(1.0, rel=0.03)
    assert 3 < float(values.abs().max()) < 6


def test_int8_is_uniform_over_127_or_normal_with_deviation_32() -> None:
    uniform, normal = filled("int8", "uniform"), filled("int8", "normal")
    assert (float(uniform.min()), float(uniform.max())) == (-127, 127)
    assert float(uniform.std()) == pytest.approx(255 / math.sqrt(12), rel=0.02)
    assert float(normal.std()) == pytest.approx(32, rel=0.03)
    assert float(normal.abs().max()) <= 127


@pytest.mark.parametrize("row", [*FLOATS, "int8", "nvfp4"])
def test_small_integers_are_all_of_minus_four_to_four_and_nothing_else(row: str) -> None:
    values = filled(row, "small-integers")
    assert sorted(values.unique().tolist()) == list(range(-4, 5))
    counts = torch.tensor([(values == v).sum() for v in range(-4, 5)]).double() / len(values)
    assert float((counts - 1 / 9).abs().max()) < 0.02


@pytest.mark.parametrize("row", [*FLOATS, "int8", "nvfp4"])
def test_constant_is_one_and_zeros_are_zero(row: str) -> None:
    assert filled(row, "constant", 100).unique().tolist() == [1.0]
    assert filled(row, "zeros", 100).unique().tolist() == [0.0]


def test_uniform_4_bit_codes_are_equally_often_and_normal_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    row = BY_NAME["nvfp4"]
    for pattern, even in (("uniform", True), ("normal", False)):
        packed = fill(1 << 14, row, torch.uint8, pattern, generator)
        codes = torch.cat([packed & 15, packed >> 4])
        counts = torch.bincount(codes.long(), minlength=16) / codes.numel()
        assert (float((counts - 1 / 16).abs().max()) < 0.01) == even
    normal = filled("nvfp4", "normal", 1 << 12)
    assert 1.7 < float(normal.std()) < 2.3
    assert abs(float(normal.mean())) < 0.1


@every_product
def test_every_pattern_is_there_for_every_row(row: ComputeRow) -> None:
    for pattern in PATTERNS:
        operands = arena(row, (32, 128, 128), pattern=pattern).sets((32, 128, 128))[0]
        wide = operands.a.rows64(0, 32, CPU_DEVICE)
        assert bool(torch.isfinite(wide).all())
        assert (float(wide.abs().max()) == 0.0) == (pattern == "zeros")
        if pattern == "constant":
            most = {1.0} if row.sparsity is None else {0.0, 1.0}
            assert set(wide.unique().tolist()) == most


def test_a_large_fill_comes_in_pieces_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    empty = torch.empty

    def noted(size: int, **fields: object) -> torch.Tensor:
        asked.append(size)
        return empty(min(size, 1000), **fields)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "empty", noted)
    with pytest.raises(RuntimeError):  # the fake pieces do not fit; their sizes are the point
        fill(3 << 26, BY_NAME["bf16"], torch.bfloat16, "uniform", torch.Generator())
    assert asked[:2] == [3 << 26, 1 << 26]


class Allocated(TorchDispatchMode):
    """Notes the greatest number of bytes that one operation took for its result."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        taken = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            if storage.data_ptr() not in taken:
                self.most = max(self.most, storage.nbytes())
        return result


def test_normal_integers_need_no_wide_copy_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands_module, "_PIECE", 1000)
    generator = torch.Generator().manual_seed(5)
    allocated = Allocated()  # type: ignore[no-untyped-call]
    with allocated:
        values = fill(1 << 16, BY_NAME["int8"], torch.int8, "normal", generator)
    assert allocated.most == 1 << 16, "the values, and never more than a piece of float32"
    assert float(values.double().std()) == pytest.approx(32, rel=0.03)
    assert not torch.equal(values[:1000], values[1000:2000])


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("count", [24 * 100, 24 * 100 + 8, 24 * 100 + 21])
def test_pruning_takes_no_memory_and_rotates_all_pairs(dtype: torch.dtype, count: int) -> None:
    flat = torch.ones(count).to(dtype)
    allocated = Allocated()  # type: ignore[no-untyped-call]
    with allocated:
        operands_module._prune(flat)
    assert allocated.most == 0
    groups = flat.float()[: count // 4 * 4].view(-1, 4)
    assert [tuple(group) for group in groups[:6].tolist()] == [
        (0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0),
    ]  # fmt: skip
    assert torch.equal(groups, groups[:6].repeat(len(groups) // 6 + 1, 1)[: len(groups)])


# Sparsity


@pytest.mark.parametrize("shape", [(32, 32, 64), (96, 64, 192), (64, 32, 320)])
@pytest.mark.parametrize("row", SPARSE, ids=lambda row: row.name)
def test_two_of_every_four_along_k_are_zero_in_every_view_of_a_sparse_row(
    row: ComputeRow, shape: Shape
) -> None:
    made = arena(row, (96, 64, 320), shape, cache=1 << 18)
    sets = made.sets(shape)
    assert len(sets) > 2
    for operands in sets:
        bits = operands.a.values.view({1: torch.uint8, 2: torch.int16}[
            operands.a.values.element_size()])  # fmt: skip
        groups = (bits.reshape(-1, 4) != 0).int()
        assert int(groups.sum(1).max()) == 2
        kept = {tuple(group) for group in groups.tolist() if sum(group) == 2}
        assert len(kept) == 6, "all six pairs of positions occur"
    dense = sets[0].b.rows64(0, shape[1], CPU_DEVICE)
    assert float((dense == 0).double().mean()) < 0.05, "B stays dense"


def test_dense_rows_are_not_pruned() -> None:
    operands = arena("bf16", (64, 64, 64)).sets((64, 64, 64))[0]
    assert float((operands.a.values == 0).double().mean()) < 0.01


# Sets of views


@pytest.mark.parametrize(
    ("set_size", "cache", "expected"),
    [
        (3 * 32 * 32 * 4, None, 2),  # never fewer than two
        (3 * 32 * 32 * 4, 3 * 32 * 32 * 4, 2),  # twice the cache
        (3 * 32 * 32 * 4, 5 * 3 * 32 * 32 * 4, 10),
        (3 * 32 * 32 * 4, 5 * 3 * 32 * 32 * 4 + 1, 11),  # rounded up
        (3 * 32 * 32 * 4, 1 << 40, 64),  # never more than 64
    ],
)
def test_sets_make_twice_the_cache(set_size: int, cache: int | None, expected: int) -> None:
    row = BY_NAME["fp32"]
    assert set_bytes(row, 32, 32, 32) == set_size
    assert sets_wanted(row, (32, 32, 32), cache) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("fp64", 8 * (2 * 5 + 3 * 5) + 8 * 6),
        ("bf16", 2 * (2 * 5 + 3 * 5) + 2 * 6),
        ("fp8", (2 * 5 + 3 * 5) + 2 * 6),
        ("int8", (2 * 5 + 3 * 5) + 4 * 6),
        ("nvfp4", 13 + 2 * 6),  # 12.5 bytes of codes, rounded up
    ],
)
def test_a_set_counts_each_element_at_its_stored_size(row: str, expected: int) -> None:
    assert set_bytes(BY_NAME[row], 2, 3, 5) == expected


@every_product
def test_the_sizes_of_elements_are_those_of_the_tensors(row: ComputeRow) -> None:
    operands = arena(row, (32, 128, 128)).sets((32, 128, 128))[0]
    operand, output = item_bytes(row)
    assert operands.a.values.nbytes == 32 * 128 * operand
    assert operands.out.nbytes == 32 * 128 * output


def span(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes


def assert_apart(sets: tuple[Operands, ...]) -> None:
    """Assert that no byte belongs to two views, and that views begin where the first is aligned."""
    views = [v for s in sets for v in (s.a.values, s.b.values, s.out)]
    spans = sorted(span(view) for view in views)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), (
        "views overlap"
    )
    for part in ("a_mk", "b_kn", "out"):
        first = getattr(sets[0], part).data_ptr()
        assert all((getattr(s, part).data_ptr() - first) % 128 == 0 for s in sets)


@every_product
def test_sets_are_disjoint_and_aligned_in_every_row(row: ComputeRow) -> None:
    shape = (36, 136, 160)
    sets = arena(row, shape, cache=1 << 18).sets(shape)
    assert len(sets) == sets_wanted(row, shape, 1 << 18) > 2
    assert [s.index for s in sets] == list(range(len(sets)))
    assert_apart(sets)
    assert not torch.equal(sets[0].a.values.view(torch.uint8), sets[1].a.values.view(torch.uint8))


SIDES = st.integers(1, 12).map(lambda step: 8 * step)


@settings(max_examples=80, deadline=None)
@given(
    row=st.sampled_from(["fp32", "bf16", "fp8", "int8", "nvfp4", "int8-sparse"]),
    shapes=st.lists(st.tuples(SIDES, SIDES, SIDES), min_size=1, max_size=3),
    cache=st.one_of(st.none(), st.integers(0, 1 << 18)),
    limit=st.one_of(st.none(), st.integers(0, 1 << 19)),
)
def test_an_arena_stays_within_its_limit_and_holds_every_shape_or_is_refused(
    row: str, shapes: list[Shape], cache: int | None, limit: int | None
) -> None:
    least = [  # elements of A, B and C for one set of each shape, each view aligned
        max(-(-size // 256) * 256 for size in sizes)
        for sizes in zip(*((m * k, n * k, m * n) for m, n, k in shapes), strict=True)
    ]
    operand, output = item_bytes(BY_NAME[row])
    if limit is not None and (least[0] + least[1]) * operand + least[2] * output > limit:
        with pytest.raises(Unsupported, match="one set of operands needs"):
            arena(row, *shapes, cache=cache, limit=limit)
        return
    made = arena(row, *shapes, cache=cache, limit=limit)
    taken = sum(part.nbytes for part in (made._a, made._b, made._out))
    assert limit is None or taken <= limit
    for shape in shapes:
        capacity, wanted = made.capacity(shape), sets_wanted(BY_NAME[row], shape, cache)
        assert capacity >= 1
        if limit is None:
            assert capacity >= wanted
        sets = made.sets(shape)
        assert len(sets) == min(wanted, capacity)
        assert_apart(sets)


@settings(max_examples=80, deadline=None)
# The second fits alone and has the larger set before rounding; the first fits in no way.
@example(row="fp8", shapes=[(24, 24, 24), (24, 32, 16)], limit=2560)
@given(
    row=st.sampled_from(["fp64", "fp8", "nvfp4"]),
    shapes=st.lists(st.tuples(SIDES, SIDES, SIDES), max_size=8, unique=True),
    limit=st.one_of(st.none(), st.integers(0, 1 << 18)),
)
def test_what_fits_together_fits_into_one_arena(
    row: str, shapes: list[Shape], limit: int | None
) -> None:
    compute_row = BY_NAME[row]
    kept = fitting(compute_row, tuple(shapes), limit)
    assert kept == tuple(shape for shape in shapes if shape in kept), "the order stays"
    if kept:
        made = arena(row, *kept, limit=limit)
        assert all(made.capacity(shape) for shape in kept)
    if limit is None:
        assert kept == tuple(shapes)
    # Of shapes that would fit by themselves one always stays.
    alone = [shape for shape in shapes if fitting(compute_row, (shape,), limit)]
    assert bool(kept) == bool(alone)


def test_the_shapes_go_whose_parts_take_most() -> None:
    # The largest A and B (2 MiB each) belong to different shapes, whose C is as large.
    tall, wide, deep, small = (4096, 64, 64), (64, 4096, 64), (512, 512, 64), (64, 64, 64)
    row = BY_NAME["fp64"]
    shapes = (tall, wide, deep, small)
    assert fitting(row, shapes, 6 << 20) == shapes
    assert fitting(row, shapes, 5 << 20) == (wide, deep, small)
    assert fitting(row, shapes, 4 << 20) == (deep, small)
    assert fitting(row, shapes, 1 << 20) == (small,)
    assert fitting(row, shapes, 1 << 10) == ()
    with pytest.raises(Unsupported, match="one set of operands needs"):
        arena("fp64", *shapes, limit=5 << 20)
    assert arena("fp64", *fitting(row, shapes, 5 << 20), limit=5 << 20) is not None


def test_short_memory_gives_fewer_sets_and_shorter_still_a_refusal_with_both_sizes() -> None:
    shape = (128, 128, 128)
    one = set_bytes(BY_NAME["fp32"], *shape)
    many = arena("fp32", shape, cache=8 * one)
    fewer = arena("fp32", shape, cache=8 * one, limit=5 * one)
    single = arena("fp32", shape, cache=8 * one, limit=one)
    assert [len(a.sets(shape)) for a in (many, fewer, single)] == [16, 5, 1]
    with pytest.raises(Unsupported, match=r"needs 3\.0 GiB and 2\.0 GiB may be used") as refused:
        arena("fp32", (16384, 16384, 16384), limit=2 << 30)
    assert refused.value.code == "memory"
    assert refused.value.remedy is not None


def test_an_arena_serves_every_shape_that_fits_and_says_which() -> None:
    made = arena("fp32", (64, 64, 64), (16, 256, 32))
    assert made.capacity((64, 64, 64)) >= 2
    assert made.capacity((16, 256, 32)) >= 2
    assert made.capacity((8, 8, 8)) > 10
    assert made.capacity((64, 64, 4096)) == 0
    with pytest.raises(AssertionError, match="does not fit into the arena of fp32"):
        made.sets((64, 64, 4096))


def test_the_seed_decides_every_element_and_another_gives_others() -> None:
    def bits(seed: int) -> torch.Tensor:
        made = arena("bf16", (32, 48, 64), seed=seed).sets((32, 48, 64))
        return torch.cat([v.reshape(-1).float() for s in made for v in (s.a_mk, s.b_kn)])

    assert torch.equal(bits(1), bits(1))
    assert not torch.equal(bits(1), bits(2))


def test_cdna3_stores_its_own_fp8_and_everything_else_the_common_one() -> None:
    for architecture, expected in (
        ("gfx942", torch.float8_e4m3fnuz),
        ("gfx950", torch.float8_e4m3fn),
    ):
        made = arena("fp8", (32, 32, 32), target=Target("rocm", "cpu", architecture))
        operands = made.sets((32, 32, 32))[0]
        assert operands.a.values.dtype == expected
        reference = operands.a.values.float().double() * float(operands.a.scales or 0)
        assert torch.allclose(operands.a.rows64(0, 32, CPU_DEVICE), reference, rtol=1e-7)


def test_a_type_that_torch_lacks_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "float8_e4m3fn")
    with pytest.raises(Unsupported, match="has no type float8_e4m3fn") as refused:
        arena("fp8", (32, 32, 32))
    assert (refused.value.code, refused.value.remedy) == (
        "torch-version", "pip install --upgrade torch",
    )  # fmt: skip
