"""Names and configurations are two spellings of one thing; every kernel has several everywhere."""

from __future__ import annotations

import pytest

from roofprobe.kernels import stream, triton_gather, triton_stream
from roofprobe.kernels.triton_stream_configs import (
    StreamConfig,
    config_for,
    config_named,
    configs_for,
)

ARCHITECTURES = (
    "sm_70", "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110",
    "sm_120", "sm_121", "gfx90a", "gfx942", "gfx950", "sm_999",
)  # fmt: skip
KERNELS = [kernel.name for kernel in stream.KERNELS]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("b8192-w8", StreamConfig(8192, 8)),
        ("b16384-w4-g4", StreamConfig(16384, 4, 4)),
        ("b16384-w4-g4-s3", StreamConfig(16384, 4, 4, 3)),
        ("b16384-w4-g4-s3-tma", StreamConfig(16384, 4, 4, 3, tma=True)),
        ("b16384-w4-g4-tma", StreamConfig(16384, 4, 4, 1, tma=True)),
    ],
)
def test_a_name_is_a_configuration(name: str, config: StreamConfig) -> None:
    assert config_named(name) == config
    assert config.name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("8192-w8", "names no configuration"),
        ("b8192-w8-g0", "is not how b8192-w8 is written"),
        ("b08192-w8", "is not how"),
        ("b8192-w8-g4-s1", "is not how"),
        ("b8192-w8-s3", "persistent"),
        ("b8192-w8-tma", "persistent"),
        ("b10000-w8", "power of two"),
        ("b8192-w3", "power of two"),
    ],
)
def test_a_name_that_spells_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_named(name)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_has_several_candidates_without_doubles(kernel: str, arch: str) -> None:
    for dtype in ("float32", "bfloat16"):
        names = [config.name for config in configs_for(kernel, dtype, arch)]
        assert len(set(names)) == len(names) >= 3
        assert config_for(kernel, dtype, arch).name == names[0]
        assert not config_for(kernel, dtype, arch).tma, "the first must do for any length"


def test_descriptors_are_for_those_who_have_them() -> None:
    for arch in ARCHITECTURES:
        has = any(c.tma for kernel in KERNELS for c in configs_for(kernel, "bfloat16", arch))
        assert has == (arch in ("sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121")), arch


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_block_is_at_least_one_wide_access_per_thread(arch: str) -> None:
    threads = 64 if arch.startswith("gfx") else 32
    for kernel in KERNELS:
        for config in configs_for(kernel, "float32", arch):
            assert 1 <= config.loads_per_thread(threads) <= 16, (kernel, config.name)


def test_loads_in_flight_are_16_bytes_each() -> None:
    assert config_named("b32768-w8").loads_per_thread() == 8
    assert config_named("b16384-w4").loads_per_thread(64) == 4


def test_a_persistent_grid_has_no_more_programs_than_blocks() -> None:
    config = config_named("b8192-w8-g4")
    assert [config.programs(blocks, 132) for blocks in (3, 528, 10_000)] == [3, 528, 528]
    assert config_named("b8192-w8").programs(10_000, 132) == 10_000


def test_descriptors_refuse_what_they_cannot_reach() -> None:
    tma = config_named("b16384-w4-g4-s3-tma")
    assert triton_stream.problem(tma, "bfloat16", 64 * 5) is None
    assert "64 elements" in str(triton_stream.problem(tma, "bfloat16", 64 * 5 + 1))
    assert "65536" in str(triton_stream.problem(config_named("b65536-w8-g1-tma"), "float32", 64))
    assert triton_stream.problem(config_named("b65536-w8"), "float32", 63) is None
    assert "sector" in str(triton_gather.problem(tma, 32, indexed=False))
    assert "65536" in str(triton_gather.problem(config_named("b65536-w8-g1-tma"), 1 << 17, True))


@pytest.mark.parametrize(
    ("block", "runs", "blocks"), [(4096, 7, 28), (16384, 7, 7), (32768, 7, 4), (65536, 8, 2)]
)
def test_pages_fall_into_blocks_and_blocks_into_pages(block: int, runs: int, blocks: int) -> None:
    assert triton_gather.blocks_of(runs, 16384, StreamConfig(block, 8)) == blocks
