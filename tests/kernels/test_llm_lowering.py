"""What decode attention and the row kernels compile to: tensor units, wide loads, no spills."""

from __future__ import annotations

import re

import pytest

from roofprobe.kernels import triton_decode, triton_rows
from roofprobe.kernels.aot import SHARED_LIMIT_BYTES, Emitted

FP8 = {"sm_89": "fp8e4nv", "sm_90": "fp8e4nv", "sm_100": "fp8e4nv", "sm_120": "fp8e4nv",
       "gfx942": "fp8e4b8", "gfx950": "fp8e4nv"}  # fmt: skip
ARCHITECTURES = ("sm_80", "sm_86", *FP8)
HEADS = ((32, 8), (64, 8), (40, 8), (8, 1), (4, 1))
CASES = [
    (arch, kv_type, heads, kv_heads, page)
    for arch in ARCHITECTURES
    for kv_type in ("bf16", FP8.get(arch))
    if kv_type
    for heads, kv_heads in HEADS
    for page in (0, 16)
]
FIRST = [
    case
    for case in CASES
    if case[0] in ("sm_80", "sm_89", "sm_90", "sm_100", "gfx942") and case[2:] == (32, 8, 16)
]
TENSOR = {"sm": r"mma\.sync|wgmma|tcgen05", "gfx": r"v_mfma"}
WIDE = {"sm": r"cp\.async\.cg\.shared\.global[^;]*0x10|ld\.global\S*\.v4\.b32",
        "gfx": r"(global|buffer)_load_dwordx[24]"}  # fmt: skip


def maker(arch: str) -> str:
    return "gfx" if arch.startswith("gfx") else "sm"


def assert_fits(emitted: Emitted, arch: str) -> None:
    assert emitted.spills == 0
    assert emitted.shared_bytes <= SHARED_LIMIT_BYTES[arch]


def assert_good(arch: str, kv_type: str, heads: int, kv_heads: int, page: int) -> None:
    split, join = (
        source.compile(arch)
        for source in triton_decode.sources(
            arch, kv_type, heads=heads, kv_heads=kv_heads, width=128, page=page
        )
    )
    for emitted in (split, join):
        assert_fits(emitted, arch)
    assert re.search(TENSOR[maker(arch)], split.assembly)
    assert re.search(WIDE[maker(arch)], split.assembly)


@pytest.mark.parametrize(("arch", "kv_type", "heads", "kv_heads", "page"), FIRST)
def test_a_decode_uses_tensor_units_and_wide_loads_without_spills(
    arch: str, kv_type: str, heads: int, kv_heads: int, page: int
) -> None:
    assert_good(arch, kv_type, heads, kv_heads, page)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "kv_type", "heads", "kv_heads", "page"), CASES)
def test_every_decode_uses_tensor_units_and_wide_loads_without_spills(
    arch: str, kv_type: str, heads: int, kv_heads: int, page: int
) -> None:
    assert_good(arch, kv_type, heads, kv_heads, page)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "gfx942"])
def test_a_row_fits_into_registers(arch: str) -> None:
    for op, source in triton_rows.sources(14336, FP8.get(arch, "fp8e4nv")).items():
        if op == "quantize" and arch not in FP8:
            continue
        assert_fits(source.compile(arch), arch)


def test_long_caches_are_split_to_fill_the_device_and_short_ones_are_not() -> None:
    assert triton_decode.splits_for(8, 128, 132) == 1
    assert triton_decode.splits_for(8, 32768, 132) == 66
    assert triton_decode.splits_for(1024, 32768, 132) == 1
    assert triton_decode.splits_for(1, 1 << 20, 132) == 128
