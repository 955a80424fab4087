"""Persistent products: as many programs as the device holds, each walking over many tiles of C.

A grid of one program per tile ends in a ragged last wave and pays for start and epilogue of every
tile with idle matrix units. A persistent program computes tile after tile, and since its two loops
(over tiles and along k) are flattened into one, the loads of the next tile are under way while the
last one is stored. Work is handed out by stride: program p takes tiles p, p + P, p + 2P, …

Two kernels:

* ``persistent_kernel`` loads with addresses, for sm_80 and later;
* ``persistent_tma_kernel`` loads and stores whole tiles through tensor descriptors, for sm_90 and
  later: one thread asks the tensor memory accelerator for a box, so that no thread computes
  addresses or masks, and what lies outside the matrix arrives as zero and is not written.

The descriptors are made on the host (``triton.tools.tensor_descriptor``) and travel as kernel
arguments of 128 bytes. Making them on the device would need global scratch memory at every launch,
which an allocator hook would have to provide; this way a launch allocates nothing on the device and
can be recorded into a graph, and Triton 3.6 and 3.9 compile the same source.
"""

from __future__ import annotations

import triton
import triton.language as tl

from roofprobe.kernels.triton_tiles import accumulated, scaled, store_in_parts, tile_at


@triton.jit
def persistent_kernel(
    a_ptr, b_ptr, out_ptr, scale_a_ptr, scale_b_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr, ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr,
    FULL_SUMS: tl.constexpr, SCALING: tl.constexpr,
):  # fmt: skip
    """Compute every P-th tile of C (m, n) from A (m, k) and B (n, k), all row-major."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    steps = tl.cdiv(k, BLOCK_K)
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        pid_m, pid_n = tile_at(tile, tiles_m, tiles_n, GROUP_M)
        # 64-bit corners and 32-bit offsets within a tile, as in the tiled kernel.
        row0 = pid_m.to(tl.int64) * BLOCK_M
        col0 = pid_n.to(tl.int64) * BLOCK_N
        left_m = (m - row0).to(tl.int32)
        left_n = (n - col0).to(tl.int32)
        a_rows = tl.minimum(offs_m, left_m - 1)[:, None] * k
        b_rows = tl.minimum(offs_n, left_n - 1)[None, :] * k
        a_tile = a_ptr + row0 * k
        b_tile = b_ptr + col0 * k
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACC)
        for step in range(steps):
            in_row = step * BLOCK_K + offs_k
            if EVEN_K:
                a = tl.load(a_tile + (a_rows + in_row[None, :]))
                b = tl.load(b_tile + (in_row[:, None] + b_rows))
            else:
                a = tl.load(
                    a_tile + (a_rows + in_row[None, :]), mask=in_row[None, :] < k, other=0.0
                )
                b = tl.load(
                    b_tile + (in_row[:, None] + b_rows), mask=in_row[:, None] < k, other=0.0
                )
            acc = accumulated(a, b, acc, ACC, INPUT_PRECISION, FULL_SUMS)
        acc = scaled(acc, scale_a_ptr, scale_b_ptr, row0, col0, m, n, BLOCK_M, BLOCK_N, SCALING)
        mask = (offs_m[:, None] < left_m) & (offs_n[None, :] < left_n)
        offsets = offs_m[:, None] * n + offs_n[None, :]
        tl.store(out_ptr + row0 * n + col0 + offsets, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def persistent_tma_kernel(
    a_desc, b_desc, out_desc, scale_a_ptr, scale_b_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr, FULL_SUMS: tl.constexpr,
    SCALING: tl.constexpr, PARTS: tl.constexpr, WARP_SPECIALIZE: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """Compute every P-th tile of C (m, n) from A (m, k) and B (n, k) through descriptors.

    The blocks of the descriptors are (BLOCK_M, BLOCK_K), (BLOCK_N, BLOCK_K) and
    (BLOCK_M, BLOCK_N / PARTS).
    """
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    steps = tl.cdiv(k, BLOCK_K)
    for tile in tl.range(
        tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True,
        warp_specialize=WARP_SPECIALIZE,
    ):  # fmt: skip
        pid_m, pid_n = tile_at(tile, tiles_m, tiles_n, GROUP_M)
        row0 = pid_m * BLOCK_M
        col0 = pid_n * BLOCK_N
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACC)
        for step in range(steps):
            a = a_desc.load([row0, step * BLOCK_K])
            b = b_desc.load([col0, step * BLOCK_K])
            acc = accumulated(a, b.T, acc, ACC, INPUT_PRECISION, FULL_SUMS)
        acc = scaled(acc, scale_a_ptr, scale_b_ptr, row0, col0, m, n, BLOCK_M, BLOCK_N, SCALING)
        store_in_parts(out_desc, acc, row0, col0, BLOCK_M, BLOCK_N, PARTS, OUT)
