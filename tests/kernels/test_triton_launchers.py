"""What the launchers of our Triton products refuse, and how they size their grids (no GPU)."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from roofprobe.kernels import lowering, triton_matmul, triton_scaled
from roofprobe.kernels.triton_configs import Config, config_named

TILED = config_named("128x128x64-w8-s3")
TMA = config_named("128x256x64-w8-s4-tma-e2")
BLOCKS = config_named("128x128x128-w8-s4-tma")


@pytest.mark.parametrize(
    ("row", "m", "n", "k", "problem"),
    [
        ("bf16", 100, 64, 64, None),
        ("bf16", 100, 64, 60, "k = 60 gives 120"),
        ("bf16", 100, 60, 64, "n = 60 gives 120"),
        ("int8", 64, 60, 64, None),  # rows of C are 4 bytes wide
        ("int8", 64, 64, 40, "k = 40 gives 40"),
        ("fp8", 64, 8, 16, None),
    ],
)
def test_descriptors_need_rows_of_16_bytes(
    row: str, m: int, n: int, k: int, problem: str | None
) -> None:
    found = triton_matmul.shape_problem(TMA, row, m, n, k)
    assert (problem in str(found)) if problem else (found is None)
    assert triton_matmul.shape_problem(TILED, row, m, n, k) is None


def test_a_shape_that_descriptors_cannot_take_is_refused_before_any_launch() -> None:
    a, b, out = (torch.zeros(64, 60, dtype=torch.bfloat16) for _ in range(3))
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        triton_matmul.launcher(a, b, torch.zeros(64, 64), row="bf16", config=TMA)
    with pytest.raises(AssertionError, match=r"out\.shape"):
        triton_matmul.launcher(a, b, out, row="bf16", config=TILED)


@pytest.mark.parametrize(
    ("row", "scales"),
    [
        ("fp8", None),
        ("fp8", (torch.ones(32), torch.ones(64))),
        ("fp8-rowwise", (torch.ones(()), torch.ones(()))),
        ("fp8-rowwise", (torch.ones(64), torch.ones(32))),
        ("bf16", (torch.ones(()), torch.ones(()))),
    ],
)
def test_scales_of_another_form_than_the_row_says_are_refused(
    row: str, scales: tuple[torch.Tensor, torch.Tensor] | None
) -> None:
    a, b, out = torch.zeros(32, 64), torch.zeros(64, 64), torch.zeros(32, 64)
    scale_a, scale_b = scales or (None, None)
    with pytest.raises(AssertionError, match=f"{row} takes scales of shape"):
        triton_matmul.launcher(a, b, out, row=row, config=TILED, scale_a=scale_a, scale_b=scale_b)


def test_a_persistent_grid_is_what_fits_at_one_time_and_never_more_than_the_tiles() -> None:
    a = torch.zeros(1)
    assert triton_matmul.programs_for(1000, TILED, a, 132) == 1000
    assert triton_matmul.programs_for(1000, TMA, a, 132) == 132
    twice = config_named("128x128x64-w4-s3-tma-p2-e2")
    assert triton_matmul.programs_for(1000, twice, a, 132) == 264
    assert triton_matmul.programs_for(7, twice, a, 132) == 7


@pytest.mark.parametrize(
    ("row", "config", "k", "problem"),
    [
        ("fp8-blockwise", BLOCKS, 256, None),
        ("fp8-blockwise", BLOCKS, 192, "divisible by 128"),
        ("mxfp8", BLOCKS, 160, None),
        ("mxfp8", BLOCKS, 144, "divisible by 32"),
        ("nvfp4", BLOCKS, 80, "divisible by 32"),  # 16-byte rows of packed operands
        ("mxfp8", config_named("128x128x128-w8-s2"), 160, "divisible by 128"),
    ],
)
def test_block_scales_need_whole_blocks(
    row: str, config: Config, k: int, problem: str | None
) -> None:
    found = triton_scaled.shape_problem(config, row, 128, 128, k)
    assert (problem in str(found)) if problem else (found is None)


@pytest.mark.parametrize(
    ("row", "name", "words"),
    [
        ("fp8-blockwise", "128x256x128-w8-s3", "at most 128 wide"),
        ("fp8-blockwise", "128x128x64-w8-s3", "a step along k is 128 long"),
        ("fp8-blockwise", "128x128x256-w8-s2-tma", "a step along k is 128 long"),
        ("fp8-blockwise", "128x128x128-w8-s4-full", "no -full"),
        ("mxfp8", "128x128x128-w8-s4-tma-e2", "no -e"),
        ("nvfp4", "128x128x256-w8-s4-tma-ws", "no -ws"),
        ("mxfp8", "128x128x16-w8-s4", "whole blocks of 32"),
        ("mxfp8", "128x96x128-w8-s4", "powers of two"),
    ],
)
def test_what_the_block_scaled_kernel_would_ignore_or_get_wrong_is_refused(
    row: str, name: str, words: str
) -> None:
    assert words in str(triton_scaled.shape_problem(config_named(name), row, 512, 512, 512))


def test_a_persistent_block_scaled_kernel_without_descriptors_needs_whole_steps() -> None:
    config = config_named("128x128x128-w8-s3-persistent")
    assert triton_scaled.shape_problem(config, "mxfp8", 128, 128, 256) is None
    problem = triton_scaled.shape_problem(config, "mxfp8", 128, 128, 160)
    assert "divisible by 128, got k = 160" in str(problem)


def test_no_candidate_of_the_tables_is_refused() -> None:
    found = [
        (row, config)
        for row in triton_scaled.ROWS
        for arch in lowering.TABLE
        for config in triton_scaled.configs_for(row, arch)
    ]
    assert {row for row, _ in found} == set(triton_scaled.ROWS)
    for row, config in found:
        assert triton_scaled.shape_problem(config, row, 512, 512, 512) is None


def test_scales_of_the_wrong_shape_are_refused() -> None:
    a, b = torch.zeros(64, 256, dtype=torch.uint8), torch.zeros(128, 256, dtype=torch.uint8)
    out = torch.zeros(64, 128, dtype=torch.bfloat16)
    scale_a, scale_b = (torch.zeros(rows, 8, dtype=torch.uint8) for rows in (64, 128))
    launch = partial(
        triton_scaled.launcher, a, b, out, row="mxfp8", config=BLOCKS, multiprocessors=2
    )
    assert callable(launch(scale_a=scale_a, scale_b=scale_b))
    with pytest.raises(AssertionError, match=r"scale_a\.shape"):
        launch(scale_a=scale_b, scale_b=scale_a)


def test_a_tile_of_blockwise_fp8_never_spans_two_scales_of_b() -> None:
    for arch in ("sm_89", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950"):
        for config in triton_scaled.configs_for("fp8-blockwise", arch):
            assert 128 % config.block_n == 0
            assert config.block_k == 128
