"""Device code of the pipe probes: loops that do arithmetic on what is already on the chip.

Each kernel loads its operands once, repeats one instruction many times on the same registers or
shared memory, and stores a few integers and the number of the multiprocessor. Inside the loop there
is no global memory, so only the arithmetic pipe and its clock can limit it. What is computed, and
why the result is known exactly, is explained in ``kernels/triton_pipe.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from roofprobe.kernels.triton_clock import unit_id
from roofprobe.kernels.triton_tiles import accumulated


@triton.jit
def dot_kernel(
    a_ptr, b_ptr, out_ptr, unit_ptr, rounds,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, UNROLL: tl.constexpr,
    ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr, FULL_SUMS: tl.constexpr,
    BACKEND: tl.constexpr,
):  # fmt: skip
    """Add A (BLOCK_M, BLOCK_K) · B (BLOCK_N, BLOCK_K)ᵀ to one tile ``rounds · UNROLL + 1`` times.

    Stores the column sums of the tile, as int32, and the multiprocessor.
    """
    rows = tl.arange(0, BLOCK_M)
    cols = tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    a = tl.load(a_ptr + rows[:, None] * BLOCK_K + inner[None, :])
    b = tl.load(b_ptr + inner[:, None] + cols[None, :] * BLOCK_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACC)
    for _ in range(rounds):
        for _ in tl.static_range(UNROLL):
            acc = accumulated(a, b, acc, ACC, INPUT_PRECISION, FULL_SUMS)
    # Once more outside: operands that are used after the loop stay in registers through it; without
    # this use the compiler moves their loads from shared memory into the loop.
    acc = accumulated(a, b, acc, ACC, INPUT_PRECISION, FULL_SUMS)
    program = tl.program_id(0)
    tl.store(out_ptr + program * BLOCK_N + cols, tl.sum(acc.to(tl.int32), axis=0))
    tl.store(unit_ptr + program, unit_id(BACKEND))


@triton.jit
def fused_multiply_add(acc, factor, addend, PACKED: tl.constexpr):
    """Return ``acc · factor + addend``, two halves at a time where ``PACKED`` names their type."""
    if PACKED == "f16x2":
        return tl.inline_asm_elementwise(
            "fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", [acc, factor, addend], dtype=tl.float16,
            is_pure=True, pack=2,
        )  # fmt: skip
    elif PACKED == "bf16x2":
        return tl.inline_asm_elementwise(
            "fma.rn.bf16x2 $0, $1, $2, $3;", "=r,r,r,r", [acc, factor, addend], dtype=tl.bfloat16,
            is_pure=True, pack=2,
        )  # fmt: skip
    else:
        return tl.fma(acc, factor, addend)


@triton.jit
def fma_kernel(
    start_ptr, coefficients_ptr, out_ptr, unit_ptr, rounds,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr, PACKED: tl.constexpr, BACKEND: tl.constexpr,
):  # fmt: skip
    """Apply ``2 · rounds · UNROLL`` multiply-adds to each of BLOCK values held in registers.

    The elements of one thread are independent chains, which hide the latency of the pipe. Stores
    the sum of all values, as int32, and the multiprocessor.
    """
    acc = tl.load(start_ptr + tl.arange(0, BLOCK))
    factor = tl.zeros((BLOCK,), acc.dtype) + tl.load(coefficients_ptr)
    first = tl.zeros((BLOCK,), acc.dtype) + tl.load(coefficients_ptr + 1)
    second = tl.zeros((BLOCK,), acc.dtype) + tl.load(coefficients_ptr + 2)
    for _ in range(rounds):
        for _ in tl.static_range(UNROLL):
            acc = fused_multiply_add(acc, factor, first, PACKED)
            acc = fused_multiply_add(acc, factor, second, PACKED)
    program = tl.program_id(0)
    if acc.dtype != tl.float64:
        acc = acc.to(tl.float32)
    tl.store(out_ptr + program, tl.sum(acc.to(tl.int32), axis=0))
    tl.store(unit_ptr + program, unit_id(BACKEND))


# Two products that share A (four registers of eight 4-bit numbers) and have a B (two registers)
# and an accumulator (four registers) of their own, so that each warp has two of them in flight.
_S4_PAIR = tl.constexpr(
    "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 "
    "{$0,$1,$2,$3}, {$8,$9,$10,$11}, {$12,$13}, {$16,$17,$18,$19};\n"
    "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 "
    "{$4,$5,$6,$7}, {$8,$9,$10,$11}, {$14,$15}, {$20,$21,$22,$23};"
)
_S4_PAIR_REGISTERS = tl.constexpr(",".join(["=&r"] * 8 + ["r"] * 16))
# The same for sm_75, whose instruction is smaller: one register of A and of B, two of C.
_S4_SMALL = tl.constexpr(
    "mma.sync.aligned.m8n8k32.row.col.s32.s4.s4.s32 {$0,$1}, {$4}, {$5}, {$7,$8};\n"
    "mma.sync.aligned.m8n8k32.row.col.s32.s4.s4.s32 {$2,$3}, {$4}, {$6}, {$9,$10};"
)
_S4_SMALL_REGISTERS = tl.constexpr(",".join(["=&r"] * 4 + ["r"] * 7))


@triton.jit
def s4_kernel(
    a_ptr, b_ptr, out_ptr, unit_ptr, rounds,
    WARPS: tl.constexpr, UNROLL: tl.constexpr, BACKEND: tl.constexpr,
):  # fmt: skip
    """Add two 16 x 8 x 64 products of 4-bit integers per warp, ``rounds · UNROLL`` times.

    A holds 4 and B holds 2 · 2 words per lane, word by word; each warp does the same. Stores each
    thread's eight accumulators added up, and the multiprocessor.
    """
    thread = tl.arange(0, 32 * WARPS)
    lane = thread % 32
    a0 = tl.load(a_ptr + lane)
    a1 = tl.load(a_ptr + 32 + lane)
    a2 = tl.load(a_ptr + 64 + lane)
    a3 = tl.load(a_ptr + 96 + lane)
    b0 = tl.load(b_ptr + lane)
    b1 = tl.load(b_ptr + 32 + lane)
    b2 = tl.load(b_ptr + 64 + lane)
    b3 = tl.load(b_ptr + 96 + lane)
    zero = tl.zeros((32 * WARPS,), tl.int32)
    c0, c1, c2, c3, c4, c5, c6, c7 = zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(rounds):
        for _ in tl.static_range(UNROLL):
            c0, c1, c2, c3, c4, c5, c6, c7 = tl.inline_asm_elementwise(
                _S4_PAIR, _S4_PAIR_REGISTERS,
                [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, c4, c5, c6, c7],
                dtype=(tl.int32, tl.int32, tl.int32, tl.int32,
                       tl.int32, tl.int32, tl.int32, tl.int32),
                is_pure=True, pack=1,
            )  # fmt: skip
    program = tl.program_id(0)
    total = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7
    tl.store(out_ptr + program * (32 * WARPS) + thread, total)
    tl.store(unit_ptr + program, unit_id(BACKEND))


@triton.jit
def s4_small_kernel(
    a_ptr, b_ptr, out_ptr, unit_ptr, rounds,
    WARPS: tl.constexpr, UNROLL: tl.constexpr, BACKEND: tl.constexpr,
):  # fmt: skip
    """Do the same with two 8 x 8 x 32 products per warp: A holds 1, B holds 2 words per lane."""
    thread = tl.arange(0, 32 * WARPS)
    lane = thread % 32
    a0 = tl.load(a_ptr + lane)
    b0 = tl.load(b_ptr + lane)
    b1 = tl.load(b_ptr + 32 + lane)
    zero = tl.zeros((32 * WARPS,), tl.int32)
    c0, c1, c2, c3 = zero, zero, zero, zero
    for _ in range(rounds):
        for _ in tl.static_range(UNROLL):
            c0, c1, c2, c3 = tl.inline_asm_elementwise(
                _S4_SMALL, _S4_SMALL_REGISTERS, [a0, b0, b1, c0, c1, c2, c3],
                dtype=(tl.int32, tl.int32, tl.int32, tl.int32), is_pure=True, pack=1,
            )  # fmt: skip
    program = tl.program_id(0)
    tl.store(out_ptr + program * (32 * WARPS) + thread, c0 + c1 + c2 + c3)
    tl.store(unit_ptr + program, unit_id(BACKEND))
