"""Block-scaled products in Triton: C = A · Bᵀ where 128, 32 or 16 elements along k share a scale.

Three recipes, one kernel:

* ``fp8-blockwise``: e4m3 with fp32 scales, 1 x 128 for A and 128 x 128 for B, the recipe of
  DeepSeek-V3. No GPU scales so by itself: each step of 128 along k is a product of its own, is
  multiplied by its two scales in fp32 registers and added there. Where there is FP8, this runs.
* ``mxfp8``: e4m3 with an e8m0 scale (a power of two) per 32, OCP Microscaling 1.0.
* ``nvfp4``: e2m1, two in a byte, the first in the low half, with an e4m3 scale per 16.

The last two are instructions of sm_100, sm_103, sm_120 and (``mxfp8``) gfx950, where
``tl.dot_scaled`` hands the scales to the matrix unit. Elsewhere Triton would silently run a bf16
product: ``kernels/lowering.py`` refuses those architectures.

Scales are taken in the plain layout: row-major (rows, k / length), uint8 codes for the last two.
Matrix units read them in a layout of their own, so each step rearranges them on the way (registers,
shared memory, tensor memory). A layout shuffled beforehand would save that; it is what vendor
libraries ask for, and until this kernel takes it, its rate is a floor and not the unit's.
For ``fp8-blockwise`` a transposed (k / 128, m) table of A's scales would load in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source
from roofprobe.kernels.lowering import element_types
from roofprobe.kernels.triton_configs import BLOCK_SCALED_ROWS as ROWS
from roofprobe.kernels.triton_configs import Config
from roofprobe.kernels.triton_configs import block_scaled_configs_for as configs_for
from roofprobe.kernels.triton_tiles import tile_at

if TYPE_CHECKING:
    import torch

__all__ = ["ROWS", "configs_for", "constexprs", "launcher", "shape_problem", "source"]

SCALE_LENGTH = {"fp8-blockwise": 128, "mxfp8": 32, "nvfp4": 16}  # elements along k per scale


@triton.jit
def scales_of(
    pointer, row0, rows_left, per_row, step,
    ROWS: tl.constexpr, PER_STEP: tl.constexpr,
):  # fmt: skip
    """Return the scales (ROWS, PER_STEP) of one step along k; rows beyond the edge are clamped."""
    rows = row0 + tl.minimum(tl.arange(0, ROWS), rows_left - 1)
    columns = step * PER_STEP + tl.arange(0, PER_STEP)
    offsets = rows.to(tl.int64)[:, None] * per_row + columns[None, :]
    return tl.load(pointer + offsets, mask=columns[None, :] < per_row, other=0)


@triton.jit
def scaled_kernel(
    a, b, out_ptr, scale_a_ptr, scale_b_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    LENGTH: tl.constexpr, PACKED: tl.constexpr, DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """Compute every P-th tile of C (m, n) from A (m, k) and B (n, k), all row-major.

    ``a`` and ``b`` are tensor descriptors or pointers, as ``DESCRIPTORS`` says; ``PACKED`` elements
    lie in a byte. ``k`` is a multiple of LENGTH, and of BLOCK_K where there are pointers.
    """
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    bytes_k: tl.constexpr = BLOCK_K // PACKED
    in_row = tl.arange(0, bytes_k)
    per_row = k // LENGTH
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        pid_m, pid_n = tile_at(tile, tiles_m, tiles_n, GROUP_M)
        row0 = pid_m * BLOCK_M
        col0 = pid_n * BLOCK_N
        rows = tl.minimum(tl.arange(0, BLOCK_M), m - row0 - 1)
        cols = tl.minimum(tl.arange(0, BLOCK_N), n - col0 - 1)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for step in range(tl.cdiv(k, BLOCK_K)):
            if DESCRIPTORS:
                a_tile = a.load([row0, step * bytes_k])
                b_tile = b.load([col0, step * bytes_k]).T
            else:
                a_row = a + (row0 + rows).to(tl.int64) * (k // PACKED)
                b_row = b + (col0 + cols).to(tl.int64) * (k // PACKED)
                a_tile = tl.load(a_row[:, None] + (step * bytes_k + in_row)[None, :])
                b_tile = tl.load(b_row[None, :] + (step * bytes_k + in_row)[:, None])
            if LENGTH == 128:
                scale_a = tl.load(scale_a_ptr + (row0 + rows).to(tl.int64) * per_row + step)
                scale_b = tl.load(scale_b_ptr + (col0 // 128) * per_row + step)
                acc += tl.dot(a_tile, b_tile) * (scale_a * scale_b)[:, None]
            else:
                scale_a = scales_of(
                    scale_a_ptr, row0, m - row0, per_row, step, BLOCK_M, BLOCK_K // LENGTH
                )
                scale_b = scales_of(
                    scale_b_ptr, col0, n - col0, per_row, step, BLOCK_N, BLOCK_K // LENGTH
                )
                if LENGTH == 16:
                    acc = tl.dot_scaled(
                        a_tile, scale_a.to(tl.float8e4nv, bitcast=True), "e2m1",
                        b_tile, scale_b.to(tl.float8e4nv, bitcast=True), "e2m1", acc,
                    )  # fmt: skip
                else:
                    acc = tl.dot_scaled(a_tile, scale_a, "e4m3", b_tile, scale_b, "e4m3", acc)
        out_rows = row0 + tl.arange(0, BLOCK_M)
        out_cols = col0 + tl.arange(0, BLOCK_N)
        tl.store(
            out_ptr + out_rows.to(tl.int64)[:, None] * n + out_cols[None, :],
            acc.to(out_ptr.dtype.element_ty),
            mask=(out_rows[:, None] < m) & (out_cols[None, :] < n),
        )


def shape_problem(config: Config, row: str, m: int, n: int, k: int) -> str | None:
    """Say in a sentence why ``config`` cannot compute the shape, or return None.

    A configuration that asks for what this kernel does not do is refused too: its record would
    name something that did not run.
    """
    length = SCALE_LENGTH[row]
    problem = _ignored(config)
    if problem is not None:
        return f"{row} with {config.name}: {problem}"
    if length == 128 and (config.block_n > 128 or config.block_k != 128):
        return (
            f"{row} with {config.name}: one scale of B must do for a tile, so it is at most 128 "
            "wide, and a step along k is 128 long"
        )
    if config.block_k % length:
        return f"{row} with {config.name}: a step along k must be whole blocks of {length}"
    # Descriptors fill what lies beyond the edge with zeros; pointers have no mask along k. Rows of
    # packed operands must be whole units of 16 bytes.
    multiple = max(length, 32) if config.kernel == "persistent-tma" else config.block_k
    if k % multiple:
        return f"{row} with {config.name} needs k divisible by {multiple}, got k = {k}"
    return None


def _ignored(config: Config) -> str | None:
    """Say what of a configuration the kernel here would ignore or cannot be compiled with."""
    if any(side & (side - 1) for side in (config.block_m, config.block_n, config.block_k)):
        return "the sides of a tile must be powers of two"
    if config.full_sums:
        return "sums always leave the matrix unit as the scales say, so there is no -full"
    if config.epilogue_parts != 1:
        return "the epilogue stores without descriptors, so there is no -e"
    if config.warp_specialize:
        return "its loop is not specialised by warps, so there is no -ws"
    return None


def constexprs(row: str, config: Config) -> dict[str, object]:
    """Return the kernel's compile-time arguments."""
    return {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "GROUP_M": config.group_m,
        "LENGTH": SCALE_LENGTH[row],
        "PACKED": 2 if row == "nvfp4" else 1,
        "DESCRIPTORS": config.kernel == "persistent-tma",
    }


def source(row: str, arch: str, config: Config) -> Source:
    """Return what to compile ahead of time for this product on ``arch``."""
    operand, output = element_types(row, arch)
    constants = constexprs(row, config)
    bytes_k = config.block_k // (2 if row == "nvfp4" else 1)
    if constants["DESCRIPTORS"]:
        a = f"tensordesc<{operand}[{config.block_m}, {bytes_k}]>"
        b = f"tensordesc<{operand}[{config.block_n}, {bytes_k}]>"
    else:
        a = b = f"*{operand}"
    scales = "*fp32" if row == "fp8-blockwise" else "*u8"
    signature = {"a": a, "b": b, "out_ptr": f"*{output}", "scale_a_ptr": scales,
                 "scale_b_ptr": scales, "m": "i32", "n": "i32", "k": "i32"}  # fmt: skip
    return Source(scaled_kernel, signature, constants, config.num_warps, config.num_stages)


def launcher(
    a: torch.Tensor,
    b_nk: torch.Tensor,
    out: torch.Tensor,
    *,
    row: str,
    config: Config,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    multiprocessors: int | None = None,
) -> Callable[[], object]:
    """Return a call that enqueues out (m, n) = scaled a (m, k) · scaled b_nk (n, k)ᵀ.

    ``nvfp4`` operands are uint8 (m, k / 2) and (n, k / 2). Scales are contiguous: fp32 (m, k / 128)
    and (⌈n / 128⌉, k / 128); or one byte each, (m, k / 32) and (n, k / 32) or, for ``nvfp4``,
    k / 16. The call allocates nothing on the device.
    Raises ``ValueError`` where the configuration cannot compute the shape.
    """
    import torch

    from roofprobe.kernels.triton_matmul import programs_for

    packed = 2 if row == "nvfp4" else 1
    (m, k), n = a.shape, b_nk.shape[0]
    k *= packed
    problem = shape_problem(config, row, m, n, k)
    if problem is not None:
        raise ValueError(problem)
    per_row = k // SCALE_LENGTH[row]
    wanted = ((m, per_row), (-(-n // 128) if row == "fp8-blockwise" else n, per_row))
    assert (scale_a.shape, scale_b.shape) == wanted, f"{scale_a.shape=}, {scale_b.shape=}"
    for tensor in (a, b_nk, out, scale_a, scale_b):
        assert tensor.is_contiguous(), tensor.stride()
    if row != "fp8-blockwise":
        scale_a, scale_b = scale_a.view(torch.uint8), scale_b.view(torch.uint8)
    operands: tuple[object, object] = (a, b_nk)
    if config.kernel == "persistent-tma":
        from triton.tools.tensor_descriptor import TensorDescriptor

        bytes_k = config.block_k // packed
        operands = (
            TensorDescriptor.from_tensor(a, [config.block_m, bytes_k]),
            TensorDescriptor.from_tensor(b_nk, [config.block_n, bytes_k]),
        )
    tiles = triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n)
    kernel: Any = scaled_kernel[(programs_for(tiles, config, a, multiprocessors),)]
    constants = constexprs(row, config)

    def launch_once() -> object:
        return kernel(
            *operands, out, scale_a, scale_b, m, n, k, **constants,
            num_warps=config.num_warps, num_stages=config.num_stages, enable_fp_fusion=True,
        )  # fmt: skip

    return launch_once
