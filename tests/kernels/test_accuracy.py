"""Planted errors are caught, right results pass, and the figures of a check are exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels import accuracy
from roofprobe.kernels.accuracy import (
    INT32_POISON,
    TOLERANCES,
    check_elementwise,
    check_matmul,
    check_sum,
    poison,
    unwritten,
)
from roofprobe.kernels.operands import Stored

M, N, K = 64, 48, 80


def operands(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    if dtype == torch.int8:
        return (
            torch.randint(-127, 128, (M, K), dtype=dtype, generator=generator),
            torch.randint(-127, 128, (N, K), dtype=dtype, generator=generator),
        )
    a = torch.empty(M, K).uniform_(-1, 1, generator=generator).to(dtype)
    b_nk = torch.empty(N, K).uniform_(-1, 1, generator=generator).to(dtype)
    return a, b_nk


def truncated(values: torch.Tensor) -> torch.Tensor:
    """Cut float32 to TF32's 10 stored bits of mantissa, as a tensor core does."""
    return (values.view(torch.int32) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_poison_of_a_floating_type_is_nan_everywhere(dtype: torch.dtype) -> None:
    out = torch.zeros(5, 3, dtype=dtype)
    poison(out)
    assert unwritten(out) == 15


def test_poison_of_integers_is_the_least_int32() -> None:
    out = torch.zeros(4, dtype=torch.int32)
    poison(out)
    assert out.tolist() == [INT32_POISON] * 4
    assert unwritten(out) == 4


def test_unwritten_counts_poison_nan_and_infinity_but_not_values() -> None:
    out = torch.tensor([0.0, math.nan, 1.0, math.inf, -math.inf])
    assert unwritten(out) == 3


def test_unwritten_counts_over_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", 4)
    out = torch.zeros(3, 5)
    out[0, 0] = out[1, 4] = out[2, 4] = math.nan
    assert unwritten(out) == 3


def test_every_precision_tolerates_less_than_a_lost_bit_in_ten() -> None:
    assert all(0 <= row.error <= 0.1 for row in TOLERANCES.values())
    assert all(row.floor < row.error for row in TOLERANCES.values() if row.error)


def test_a_right_product_passes_and_the_check_covers_every_element() -> None:
    a, b_nk = operands()
    check = check_matmul(a, b_nk, a @ b_nk.t(), precision="fp32", seed=1)
    assert check.problem is None
    assert check.checked_elements == M * N
    assert check.tolerance == 5e-6
    assert 0 < check.error < 5e-6


def test_the_float64_product_rounded_to_bf16_passes_as_bf16_and_not_as_fp32() -> None:
    a, b_nk = operands(torch.bfloat16)
    out = (a.double() @ b_nk.double().t()).bfloat16()
    assert check_matmul(a, b_nk, out, precision="bf16", seed=1).problem is None
    assert check_matmul(a, b_nk, out, precision="fp32", seed=1).problem is not None


def test_a_product_is_checked_the_same_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b_nk = operands(torch.int8)
    out = torch._int_mm(a, b_nk.t())
    whole = check_matmul(a, b_nk, out, precision="int8", seed=1)
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", 3 * K)
    assert check_matmul(a, b_nk, out, precision="int8", seed=1) == whole
    assert whole.error == 0.0


def test_the_scale_multiplies_the_reference() -> None:
    a, b_nk = operands()
    out = 0.25 * (a @ b_nk.t())
    assert check_matmul(a, b_nk, out, precision="fp32", seed=1, scale=0.25).problem is None
    assert check_matmul(a, b_nk, out, precision="fp32", seed=1).problem is not None


def scaled(out: torch.Tensor) -> None:
    out *= 1.01


def one_tile_wrong(out: torch.Tensor) -> None:
    out[16:32, 16:32] = 0


def one_row_unwritten(out: torch.Tensor) -> None:
    out[3] = math.nan


def one_element_nan(out: torch.Tensor) -> None:
    out[3, 5] = math.nan


def one_element_infinite(out: torch.Tensor) -> None:
    out[3, 5] = math.inf


def infinities_that_cancel(out: torch.Tensor) -> None:
    out[3, :] = math.inf


def two_rows_swapped(out: torch.Tensor) -> None:
    out[[0, 1]] = out[[1, 0]]


def two_columns_swapped(out: torch.Tensor) -> None:
    out[:, [0, 1]] = out[:, [1, 0]]


PLANTED = [
    scaled,
    one_tile_wrong,
    one_row_unwritten,
    one_element_nan,
    one_element_infinite,
    infinities_that_cancel,
    two_rows_swapped,
    two_columns_swapped,
]


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("fp64", torch.float64), ("bf16", torch.bfloat16)],
)
def test_a_planted_error_is_found_in_every_precision(
    plant: Callable[[torch.Tensor], None], precision: str, dtype: torch.dtype
) -> None:
    a, b_nk = operands(dtype)
    out = (a.double() @ b_nk.double().t()).to(dtype)
    assert check_matmul(a, b_nk, out, precision=precision, seed=1).problem is None
    plant(out)
    check = check_matmul(a, b_nk, out, precision=precision, seed=1)
    assert check.problem is not None
    assert check.error > check.tolerance
    assert math.isfinite(check.error)


# One row at a time


def large(m: int, n: int, k: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return bf16 operands and their right product, of which only projections are looked at."""
    generator = torch.Generator().manual_seed(3)
    a = torch.empty(m, k).uniform_(-1, 1, generator=generator).bfloat16()
    b_nk = torch.empty(n, k).uniform_(-1, 1, generator=generator).bfloat16()
    out = (a.float() @ b_nk.float().t()).bfloat16()
    assert out.numel() * k > accuracy._WHOLE
    return a, b_nk, out


def test_a_wrong_tile_that_drowns_in_the_whole_shows_in_its_rows() -> None:
    a, b_nk, out = large(2048, 1024)
    assert check_matmul(a, b_nk, out, precision="bf16", seed=1).problem is None
    out[768:772, 128:136] = 0  # 32 of two million elements
    check = check_matmul(a, b_nk, out, precision="bf16", seed=1)
    assert check.error < check.tolerance, "the whole does not see it"
    assert check.problem is not None
    row = int(check.problem.split()[1])
    assert check.problem.startswith(f"row {row} is off by ")
    assert 768 <= row < 772
    assert check.problem.endswith("of its norm, above the limit 0.015 for one row")


def test_in_a_wide_product_the_wrong_column_is_named() -> None:
    a, b_nk, out = large(1024, 2048)
    out[:8, 1234] = 0
    problem = check_matmul(a, b_nk, out, precision="bf16", seed=1).problem
    assert str(problem).startswith("column 1234 is off by ")


def test_a_wrong_row_shows_where_products_are_formed_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accuracy, "_WHOLE", 1 << 40)
    generator = torch.Generator().manual_seed(3)
    a, b_nk = (
        torch.empty(rows, 8).uniform_(-1, 1, generator=generator).bfloat16() for rows in (4096, 64)
    )
    out = (a.double() @ b_nk.double().t()).bfloat16()
    out[77, :2] = 0
    check = check_matmul(a, b_nk, out, precision="bf16", seed=1)
    assert check.error < check.tolerance
    assert str(check.problem).startswith("row 77 is off by ")


@pytest.mark.parametrize("shape", [(1, 65536), (2, 40000), (65536, 1), (3, 30000)])
@pytest.mark.parametrize("seed", range(6))
def test_rounding_of_large_elements_in_few_columns_is_no_alarm(
    shape: tuple[int, int], seed: int
) -> None:
    # Scales per row and normal numbers: some elements are eight times the root mean square.
    generator = torch.Generator().manual_seed(seed)
    (m, n), k = shape, 64
    a, b = (torch.empty(rows, k).normal_(generator=generator).bfloat16() for rows in (m, n))
    scales = [
        torch.empty(rows).uniform_(0.25, 1, generator=generator) * 1.1**seed for rows in (m, n)
    ]
    left, right = (Stored(x, s, "rowwise") for x, s in zip((a, b), scales, strict=True))
    wide = [each.rows64(0, each.shape[0], torch.device("cpu")) for each in (left, right)]
    out = (wide[0] @ wide[1].t()).bfloat16()
    assert check_matmul(left, right, out, precision="fp8", seed=seed).problem is None


def test_a_constant_product_whose_projection_cancels_is_no_alarm() -> None:
    a, b_nk = torch.ones(2048, 83).bfloat16(), torch.ones(64, 83).bfloat16()
    out = (a.double() @ b_nk.double().t()).bfloat16()
    for seed in range(20):
        assert check_matmul(a, b_nk, out, precision="bf16", seed=seed).problem is None


def test_checking_changes_nothing() -> None:
    a, b_nk, out = large(2048, 1024)
    wide, before = out.double(), out.double()
    check_matmul(a, b_nk, wide, precision="bf16", seed=1)
    assert torch.equal(wide, before)


# Sums that the unit keeps short


@pytest.mark.parametrize(
    ("k", "expected"), [(64, 3e-2), (16384, 3e-2), (32768, 6e-2), (65536, 1.2e-1)]
)
def test_the_tolerance_of_short_sums_grows_with_k_beyond_16384(k: int, expected: float) -> None:
    a, b_nk = torch.ones(1, k), torch.ones(1, k)
    right = check_matmul(a, b_nk, torch.full((1, 1), float(k)), precision="fp8-fast", seed=1)
    assert right.tolerance == pytest.approx(expected)
    assert right.problem is None
    # Half of it is what a simulation of 14-bit sums gives, with room.
    assert 0.0065 * k / 8192 < expected / 2
    others = [name for name, row in TOLERANCES.items() if row.error_at(k) != row.error]
    assert others == (["fp8-fast"] if k > 16384 else [])


def test_unwritten_rows_are_counted_in_the_sentence() -> None:
    a, b_nk = operands()
    out = a @ b_nk.t()
    one_row_unwritten(out)
    check = check_matmul(a, b_nk, out, precision="fp32", seed=1)
    assert check.error == 1.0
    assert check.problem == f"{N} of {M * N} elements were not written or are not finite"


def test_one_wrong_integer_by_one_is_found() -> None:
    a, b_nk = operands(torch.int8)
    out = torch._int_mm(a, b_nk.t())
    out[3, 4] += 1
    check = check_matmul(a, b_nk, out, precision="int8", seed=1)
    assert check.problem is not None
    assert check.problem.endswith("is above the tolerance 0")


def test_unwritten_integers_are_found() -> None:
    a, b_nk = operands(torch.int8)
    out = torch._int_mm(a, b_nk.t())
    out[-1, -1] = INT32_POISON
    check = check_matmul(a, b_nk, out, precision="int8", seed=1)
    assert check.problem == f"1 of {M * N} elements were not written or are not finite"


def test_a_product_of_truncated_operands_is_tf32_and_not_fp32() -> None:
    a, b_nk = operands()
    out = truncated(a) @ truncated(b_nk).t()
    assert check_matmul(a, b_nk, out, precision="tf32", seed=1).problem is None
    assert check_matmul(a, b_nk, out, precision="fp32", seed=1).problem is not None


def test_an_ieee_product_labelled_tf32_is_flagged_as_declined() -> None:
    a, b_nk = operands()
    check = check_matmul(a, b_nk, a @ b_nk.t(), precision="tf32", seed=1)
    assert check.problem is None, "nothing is wrong with it"
    assert check.declined is not None
    assert "declined" in check.declined
    tf32 = check_matmul(a, b_nk, truncated(a) @ truncated(b_nk).t(), precision="tf32", seed=1)
    assert tf32.declined is None


def test_without_the_floor_a_result_may_be_better_than_its_format() -> None:
    a, b_nk = operands()
    exact = check_matmul(a, b_nk, a @ b_nk.t(), precision="tf32", seed=1, floor=False)
    assert (exact.problem, exact.declined) == (None, None)
    off = check_matmul(a, b_nk, 1.01 * (a @ b_nk.t()), precision="tf32", seed=1, floor=False)
    assert off.problem is not None


def rowwise() -> tuple[Stored, Stored, torch.Tensor]:
    """Return operands with a scale per row and their true product in float64."""
    a, b_nk = operands(torch.bfloat16)
    scale_a, scale_b = torch.linspace(0.25, 1, M), torch.linspace(1, 0.5, N)
    true = (a.double() * scale_a.double()[:, None]) @ (
        b_nk.double() * scale_b.double()[:, None]
    ).t()
    return Stored(a, scale_a, "rowwise"), Stored(b_nk, scale_b, "rowwise"), true


def test_scales_of_stored_operands_are_part_of_the_reference() -> None:
    a, b_nk, true = rowwise()
    assert check_matmul(a, b_nk, true, precision="fp64", seed=1).problem is None


@pytest.mark.parametrize("side", ["a", "b"])
def test_scales_that_a_kernel_forgot_or_shifted_by_a_row_are_found(side: str) -> None:
    a, b_nk, true = rowwise()
    given = {"a": a, "b": b_nk}
    stored = given[side]
    assert stored.scales is not None
    for wrong in (None, stored.scales.roll(1), stored.scales.flip(0)):
        other = Stored(stored.values, wrong, "rowwise" if wrong is not None else None)
        pair = {**given, side: other}
        assert check_matmul(pair["a"], pair["b"], true, precision="fp8", seed=1).problem is not None


@pytest.mark.parametrize("chunk", [1, 7 * K, 1 << 24])
def test_scaled_operands_are_checked_the_same_in_blocks_of_rows(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", chunk)
    a, b_nk, true = rowwise()
    assert check_matmul(a, b_nk, true, precision="fp64", seed=1).error < 1e-14


def test_a_product_of_zeros_is_held_to_the_absolute_error() -> None:
    a, b_nk = torch.zeros(4, 8), torch.zeros(6, 8)
    assert check_matmul(a, b_nk, torch.zeros(4, 6), precision="fp32", seed=1).error == 0.0
    wrong = check_matmul(a, b_nk, torch.ones(4, 6), precision="fp64", seed=1)
    assert wrong.problem is not None


def test_elementwise_error_is_the_greatest_difference_over_the_greatest_reference() -> None:
    out = torch.tensor([1.0, 2.0, -4.5, 3.0])
    reference = torch.tensor([1.0, 2.0, -4.0, 3.0], dtype=torch.float64)
    check = check_elementwise(out, lambda start, stop: reference[start:stop], 0.2)
    assert check.error == 0.125
    assert check.problem is None
    assert check.checked_elements == 4
    assert check_elementwise(out, lambda start, stop: reference[start:stop], 0.1).problem == (
        "the error 0.12 is above the tolerance 0.1"
    )


def test_elementwise_chunks_cover_every_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", 3)
    reference = torch.arange(8, dtype=torch.float64)
    asked: list[tuple[int, int]] = []

    def reference_of(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        return reference[start:stop]

    out = reference.clone()
    assert check_elementwise(out, reference_of, 0.0).problem is None
    assert asked == [(0, 3), (3, 6), (6, 8)]
    for index in range(8):
        wrong = out.clone()
        wrong[index] += 1
        assert check_elementwise(wrong, reference_of, 0.0).problem is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_elementwise_counts_what_is_not_finite(bad: float) -> None:
    out = torch.tensor([1.0, bad])
    check = check_elementwise(out, lambda start, stop: torch.ones(2).double()[start:stop], 1e-7)
    assert check.error == 1.0
    assert check.problem == "1 of 2 elements were not written or are not finite"


def test_the_sum_is_held_to_the_sum_of_magnitudes() -> None:
    assert check_sum(10.5, 10.0, 50.0, 100, 0.02).error == 0.01
    assert check_sum(10.5, 10.0, 50.0, 100, 0.02).problem is None
    assert check_sum(10.5, 10.0, 50.0, 100, 0.005).problem is not None
    assert check_sum(0.5, 0.0, 0.0, 100, 0.1).error == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sum_that_is_not_finite_is_wrong_with_a_finite_error(value: float) -> None:
    check = check_sum(value, 1.0, 1.0, 4, 1e-5)
    assert check.error == 1.0
    assert check.problem == "the sum was not written or is not finite"
