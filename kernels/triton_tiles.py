"""What our Triton product kernels share on the device: the order of tiles, scaling, the epilogue.

Functions here are compiled into the kernels that call them; they cannot be launched themselves.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_at(index, tiles_m, tiles_n, GROUP_M: tl.constexpr):
    """Return the (row, column) of the tile that is ``index``-th in grouped order.

    Tiles are walked down ``GROUP_M`` rows before the next column, so that the programs that run
    at one time cover a nearly square patch of C and find each other's operands in L2.
    """
    group_size = GROUP_M * tiles_n
    first_m = (index // group_size) * GROUP_M
    rows = min(tiles_m - first_m, GROUP_M)
    within = index % group_size
    return first_m + within % rows, within // rows


@triton.jit
def accumulated(
    a, b, acc, ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr, FULL_SUMS: tl.constexpr
):
    """Return ``acc + a · b``, added up in the matrix unit or, for full sums, outside of it.

    For full sums each step's product starts from zero and is added in fp32 registers. Triton's own
    ``max_num_imprecise_acc`` means the same, but what it emits for Hopper touches the sums while
    instructions are in flight, upon which the assembler serialises every one of them, and for Ada
    it emits nothing.
    """
    if FULL_SUMS:
        product = tl.dot(a, b, input_precision=INPUT_PRECISION, out_dtype=ACC)
        # A multiply-add by one, which ends as a plain addition: Triton merges what it sees as a sum
        # of a product into the matrix instruction, except on sm_90.
        acc = tl.fma(product, tl.full(product.shape, 1.0, ACC), acc)
    else:
        acc = tl.dot(a, b, acc, input_precision=INPUT_PRECISION, out_dtype=ACC)
    return acc


@triton.jit
def scaled(
    acc, scale_a_ptr, scale_b_ptr, row0, col0, m, n,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SCALING: tl.constexpr,
):  # fmt: skip
    """Multiply a tile of C by its scales: one per tensor, or one per row of A and row of B."""
    if SCALING == "tensorwise":
        acc = acc * (tl.load(scale_a_ptr) * tl.load(scale_b_ptr))
    elif SCALING == "rowwise":
        rows = row0 + tl.arange(0, BLOCK_M)
        cols = col0 + tl.arange(0, BLOCK_N)
        scale_a = tl.load(scale_a_ptr + rows, mask=rows < m, other=0.0)
        scale_b = tl.load(scale_b_ptr + cols, mask=cols < n, other=0.0)
        acc = acc * scale_a[:, None] * scale_b[None, :]
    return acc


@triton.jit
def halves(tile, BLOCK_M: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the left and the right half of a (BLOCK_M, COLUMNS) tile."""
    pairs = tl.permute(tl.reshape(tile, (BLOCK_M, 2, COLUMNS // 2)), (0, 2, 1))
    left, right = tl.split(pairs)
    return left, right


@triton.jit
def store_in_parts(
    out_desc, tile, row0, col0,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PARTS: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """Store a tile through a descriptor whose block is (BLOCK_M, BLOCK_N / PARTS)."""
    if PARTS == 1:
        out_desc.store([row0, col0], tile.to(OUT))
    else:
        left, right = halves(tile, BLOCK_M, BLOCK_N)
        if PARTS == 2:
            out_desc.store([row0, col0], left.to(OUT))
            out_desc.store([row0, col0 + BLOCK_N // 2], right.to(OUT))
        else:
            tl.static_assert(PARTS == 4)
            first, second = halves(left, BLOCK_M, BLOCK_N // 2)
            third, fourth = halves(right, BLOCK_M, BLOCK_N // 2)
            out_desc.store([row0, col0], first.to(OUT))
            out_desc.store([row0, col0 + BLOCK_N // 4], second.to(OUT))
            out_desc.store([row0, col0 + BLOCK_N // 2], third.to(OUT))
            out_desc.store([row0, col0 + 3 * BLOCK_N // 4], fourth.to(OUT))
