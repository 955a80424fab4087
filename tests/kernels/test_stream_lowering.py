"""What the streams compile to ahead of time: 16 bytes per access, no spills, programs that fit."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest

from roofprobe.kernels import stream, triton_cache, triton_gather, triton_stream
from roofprobe.kernels.aot import SHARED_LIMIT_BYTES, Emitted, Source
from roofprobe.kernels.triton_stream_configs import (
    ITEM_BYTES,
    StreamConfig,
    config_named,
    configs_for,
)

ARCHITECTURES = (
    "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "gfx942", "gfx950",
)  # fmt: skip
# What all programs on one multiprocessor share. CUDA C++ programming guide, technical
# specifications per compute capability (each block reserves 1 KiB of shared memory for the system);
# CDNA 3 and 4 ISA documents: 4 SIMDs of up to 8 wavefronts, 512 registers for those on one SIMD.
REGISTERS = 65536
THREADS = {"sm_75": 1024, "sm_86": 1536, "sm_89": 1536, "sm_120": 1536}
SHARED_BYTES = {
    "sm_75": 64 << 10, "sm_80": 164 << 10, "sm_86": 100 << 10, "sm_89": 100 << 10,
    "sm_90": 228 << 10, "sm_100": 228 << 10, "sm_103": 228 << 10, "sm_120": 100 << 10,
    "gfx942": 64 << 10, "gfx950": 160 << 10,
}  # fmt: skip
SECTOR_BYTES = 32

WIDE_LOAD = {
    "sm": r"ld\.global\S*\.v4\.b32|ld\.global\S*\.v2\.b64",
    "gfx": r"(global|buffer)_load_dwordx4",
}
WIDE_STORE = {
    "sm": r"st\.global\S*\.v4\.b32|st\.global\S*\.v2\.b64",
    "gfx": r"(global|buffer)_store_dwordx4",
}
CASES = [
    (arch, kernel.name, dtype, config.name)
    for arch in ARCHITECTURES
    for kernel in stream.KERNELS
    for dtype in ("float32", "bfloat16", "float64")
    if not (arch == "sm_75" and dtype == "bfloat16")
    and (kernel.group != "cache" or dtype == "float32")
    for config in configs_for(kernel.name, dtype, arch)
]
# Compiled on every run: all of Hopper's in bf16, and the first of a few elsewhere.
FIRST = [
    (arch, kernel, dtype, name)
    for arch, kernel, dtype, name in CASES
    if (arch == "sm_90" and dtype == "bfloat16" and kernel in ("read", "triad", "gather-16"))
    or (
        arch in ("sm_80", "sm_90", "sm_100", "gfx942")
        and dtype == "float32"
        and kernel in ("read", "write", "nstream", "gather-64", "strided-4", "l2-read")
        and name == configs_for(kernel, dtype, arch)[0].name
    )
]


def source(kernel: str, dtype: str, config: StreamConfig, arch: str) -> Source:
    row = stream.BY_NAME[kernel]
    if row.group == "cache":
        return triton_cache.source(dtype, config, arch)
    if row.group == "stream":
        return triton_stream.source(kernel, dtype, config)
    item = ITEM_BYTES[dtype]
    if row.page_bytes is not None:
        page = row.page_bytes // item
        return triton_gather.source(
            dtype, triton_gather.fitted(config, row.page_bytes), page, page, indexed=True
        )
    sector = SECTOR_BYTES // item
    return triton_gather.source(dtype, config, sector, row.one_of * sector, indexed=False)


@lru_cache(maxsize=8)
def compiled(arch: str, kernel: str, dtype: str, name: str) -> Emitted:
    return source(kernel, dtype, config_named(name), arch).compile(arch)


def assert_good(arch: str, kernel: str, dtype: str, name: str) -> None:
    emitted, config = compiled(arch, kernel, dtype, name), config_named(name)
    assert emitted.spills == 0
    assert emitted.shared_bytes <= SHARED_LIMIT_BYTES[arch]
    assert_wide(emitted.assembly, stream.BY_NAME[kernel], config, arch)
    assert "evict_last" not in emitted.assembly, "a stream must not be kept in cache"
    assert_all_programs_are_there_at_once(arch, emitted, config)


def assert_wide(assembly: str, row: stream.StreamKernel, config: StreamConfig, arch: str) -> None:
    maker = "gfx" if arch.startswith("gfx") else "sm"
    if config.tma:
        if row.reads:
            assert "cp.async.bulk.tensor" in assembly
        if row.writes:
            assert re.search(r"cp\.async\.bulk\.tensor\S*\.global\.shared", assembly)
        return
    if config.num_stages > 1 and maker == "sm":
        assert re.search(r"cp\.async\.cg\.shared\.global[^;]*0x10", assembly)
    elif row.reads:
        assert re.search(WIDE_LOAD[maker], assembly)
    if row.writes:
        assert re.search(WIDE_STORE[maker], assembly)


def assert_all_programs_are_there_at_once(
    arch: str, emitted: Emitted, config: StreamConfig
) -> None:
    programs, warps = config.programs_per_sm, config.num_warps
    if not programs:
        return
    assert emitted.registers is not None
    assert (emitted.shared_bytes + 1024) * programs <= SHARED_BYTES[arch]
    if arch.startswith("gfx"):
        assert warps * programs <= 4 * min(8, 512 // emitted.registers)
        return
    assert 32 * warps * programs <= THREADS.get(arch, 2048)
    assert -(-emitted.registers // 8) * 8 * 32 * warps * programs <= REGISTERS


@pytest.mark.parametrize(("arch", "kernel", "dtype", "name"), FIRST)
def test_a_stream_moves_16_bytes_at_a_time_without_spills(
    arch: str, kernel: str, dtype: str, name: str
) -> None:
    assert_good(arch, kernel, dtype, name)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "kernel", "dtype", "name"), CASES)
def test_every_candidate_moves_16_bytes_at_a_time_without_spills(
    arch: str, kernel: str, dtype: str, name: str
) -> None:
    assert_good(arch, kernel, dtype, name)


@pytest.mark.parametrize(("arch", "past"), [("sm_75", True), ("sm_90", True), ("gfx942", False)])
def test_reads_of_the_last_level_cache_pass_the_first_one_by_where_a_load_can(
    arch: str, past: bool
) -> None:
    name = configs_for("l2-read", "float32", arch)[0].name
    loads = re.findall(r"ld\.global\S*", compiled(arch, "l2-read", "float32", name).assembly)
    assert all(".cg" in load for load in loads)
    assert bool(loads) == past


def test_a_wrong_alignment_would_be_seen() -> None:
    # Three elements to a sector cannot be fetched 16 bytes at a time.
    narrow = triton_gather.source("float32", config_named("b2048-w4"), 8, 9, indexed=False)
    assert not re.search(WIDE_LOAD["sm"], narrow.compile("sm_90").assembly)
