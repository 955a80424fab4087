"""Work is counted exactly, and the closed form does what its formula says."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel import forms
from roofprobe.costmodel.forms import Coefficients, Rates, count, seconds

RATES = Rates(flops=1e15, bandwidth=1e12, link=1e11, units=100, l2_bytes=1e8)
GEMM = {"m": 256.0, "n": 512.0, "k": 1024.0}
HEADS = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0}


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("bf16", 2 * (256 * 1024 + 512 * 1024 + 256 * 512)),
        ("fp32", 4 * (256 * 1024 + 512 * 1024 + 256 * 512)),
        ("fp8", 256 * 1024 + 512 * 1024 + 2 * 256 * 512),
        ("int4", 2 * 256 * 1024 + (0.5 + 1 / 64) * 512 * 1024 + 2 * 256 * 512),
    ],
)
def test_a_product_reads_its_operands_and_writes_its_result_once(
    precision: str, expected: float
) -> None:
    work = count("gemm", precision, GEMM, RATES)
    assert work.bytes == expected
    assert work.flops == 2 * 256 * 512 * 1024


def test_prefill_counts_the_visible_half_and_one_diagonal_tile() -> None:
    shape = {"batch": 2.0, "query_len": 1024.0, "kv_len": 1024.0, **HEADS}
    work = count("attention_prefill", "bf16", shape, RATES, kv_precision="bf16")
    assert work.flops == 2 * 2 * 32 * 128 * 1024 * (1024 + 128)
    assert work.bytes == 2 * 2 * 1024 * 128 * (2 * 32 + 2 * 8)


def test_a_cached_prefix_adds_a_full_rectangle() -> None:
    def flops(query: float, kv: float) -> float:
        shape = {"batch": 1.0, "query_len": query, "kv_len": kv, **HEADS}
        return float(count("attention_prefill", "bf16", shape, RATES).flops)

    assert flops(512, 2048) - flops(512, 512) == 4 * 32 * 128 * 512 * 1536


def test_decode_reads_the_cache_in_its_own_precision() -> None:
    shape = {"batch": 4.0, "kv_len": 1000.0, **HEADS}
    wide, narrow = (
        count("attention_decode", "bf16", shape, RATES, kv_precision=kv).bytes
        for kv in ("bf16", "fp8")
    )
    assert wide - narrow == 2 * 4 * 1000 * 8 * 128
    assert narrow == 2 * 4 * 1000 * 8 * 128 + 4 * 4 * 32 * 128


def test_experts_that_are_touched_grow_from_topk_to_all() -> None:
    tokens = np.array([1.0, 1e6])
    touched = forms.touched_experts(tokens, np.array(128.0), np.array(8.0), np.array(128.0))
    assert touched == pytest.approx([8, 128])
    local = forms.touched_experts(tokens, np.array(128.0), np.array(8.0), np.array(16.0))
    assert local == pytest.approx([1, 16])


def test_grouped_products_pad_each_expert_to_a_tile() -> None:
    shape = {"tokens": 1.0, "experts": 8.0, "topk": 2.0, "hidden": 64.0, "inter": 32.0,
             "local_experts": 8.0}  # fmt: skip
    work = count("grouped_gemm", "bf16", shape, RATES)
    assert work.flops == pytest.approx(6 * 64 * 32 * 2 * 64)
    assert work.bytes == pytest.approx(2 * 3 * 64 * 32 * 2 + 4 * 64 + 6 * 2 * 32)


@pytest.mark.parametrize(
    ("op", "share"),
    [("all_reduce", 1.75), ("all_gather", 0.875), ("reduce_scatter", 0.875), ("all_to_all", 0.875),
     ("p2p", 1.0)],
)  # fmt: skip
def test_collectives_send_what_nccl_tests_count(op: str, share: float) -> None:
    work = count(op, "bf16", {"bytes": 1e6, "ranks": 8.0}, RATES)
    assert work.bytes == share * 1e6
    assert work.on_link


@pytest.mark.parametrize(
    ("op", "per_element"),
    [("rmsnorm", 8), ("silu_mul", 6), ("rope", 4), ("quantize", 3), ("sample", 4)],
)
def test_elementwise_operations_count_bytes_per_element(op: str, per_element: float) -> None:
    assert count(op, "bf16", {"rows": 3.0, "width": 5.0}, RATES).bytes == 15 * per_element


@pytest.mark.parametrize(("m", "n", "expected"), [(64, 128 * 100, 1.0), (64, 128 * 101, 0.51)])
def test_waves_fill_by_the_best_tile(m: int, n: int, expected: float) -> None:
    fill = forms.wave_fill(np.array(float(m)), np.array(float(n)), 100)
    assert fill == expected


def test_time_is_floor_plus_the_slower_of_two() -> None:
    work = count("gemm", "bf16", GEMM, RATES)
    c = Coefficients(compute_efficiency=0.5, memory_efficiency=0.25, t0_s=5e-6)
    slower = max(float(work.flops) / 0.5e15, float(work.bytes) / 0.25e12)
    assert float(seconds(work, c, RATES)) == pytest.approx(5e-6 + slower)


def test_an_exponent_of_one_adds_both() -> None:
    work = count("gemm", "bf16", GEMM, RATES)
    c = Coefficients(compute_efficiency=1, memory_efficiency=1, exponent=1)
    both = float(work.flops) / 1e15 + float(work.bytes) / 1e12
    assert float(seconds(work, c, RATES)) == pytest.approx(both)


def test_extra_terms_floor_and_contention_work_as_named() -> None:
    work = count("gemm", "fp8", GEMM, RATES)
    plain = Coefficients(compute_efficiency=1, memory_efficiency=1)
    more = Coefficients(compute_efficiency=1, memory_efficiency=1, terms={"quantise_passes": 2})
    added = float(seconds(work, more, RATES) - seconds(work, plain, RATES))
    assert added == pytest.approx(2 * 3 * 256 * 1024 / 1e12)
    floor = Coefficients(compute_efficiency=1, memory_efficiency=1, host_floor_s=1e-3)
    assert float(seconds(work, floor, RATES)) == 1e-3
    decode = count("attention_decode", "bf16", {"batch": 1.0, "kv_len": 1e6, **HEADS}, RATES)
    slow = Coefficients(compute_efficiency=1, memory_efficiency=1, contention=8)
    assert float(seconds(decode, slow, RATES)) == pytest.approx(2 * float(decode.bytes) / 1e12)


def test_what_fits_l2_is_read_at_its_own_rate() -> None:
    c = Coefficients(compute_efficiency=1, memory_efficiency=0.5, l2_efficiency=2)
    heads = {"heads": 8.0, "kv_heads": 8.0, "head_dim": 128.0}
    small = count("attention_decode", "bf16", {"batch": 1.0, "kv_len": 1e4, **heads}, RATES)
    large = count("attention_decode", "bf16", {"batch": 1.0, "kv_len": 1e6, **heads}, RATES)
    assert float(seconds(small, c, RATES)) == pytest.approx(float(small.bytes) / 2e12)
    assert float(seconds(large, c, RATES)) == pytest.approx(float(large.bytes) / 0.5e12)
    assert float(forms.bound_s(small, RATES)) == float(small.flops) / 1e15
    assert float(forms.bound_s(large, RATES)) == (float(large.bytes) - 1e8) / 1e12


def test_every_class_counts_positive_work_for_arrays() -> None:
    for op, row in forms.OP_CLASSES.items():
        shape = {name: np.array([64.0, 128.0]) for name in row.shape}
        work = count(op, "bf16", shape, RATES)
        assert work.bytes.shape == (2,)
        assert (work.bytes > 0).all()
        assert {len(values) for values in work.terms.values()} <= {2}


def test_missing_keywords_are_named() -> None:
    with pytest.raises(ValueError, match="gemm takes m, n, k; got m"):
        count("gemm", "bf16", {"m": 1.0}, RATES)
