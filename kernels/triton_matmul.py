"""Our own matrix product in Triton: C(m, n) = A(m, k) · B(n, k)ᵀ, one kernel for all precisions.

Each program computes one tile of C, walking along k; software pipelining (``num_stages``) keeps
loads in flight while the matrix unit works, and programs are ordered in groups of rows so that
tiles that share operands run close together and find them in L2. Rows and columns beyond the edge
are clamped when loading (no mask in the inner loop) and masked when storing.

What a tile lowers to (``wgmma``, ``tcgen05``, ``mma.sync``, ``v_mfma``, or plain FMA) depends on
architecture, type and tile: ``kernels/lowering.py`` has the table, and tests compile each
configuration ahead of time to hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from roofprobe.kernels.lowering import unsupported_reason as unsupported_reason

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class MatmulConfig:
    """Tile sizes in elements, rows per group, warps per program and pipeline stages."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    group_m: int = 8


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, out_ptr, scale_a_ptr, scale_b_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr, ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Compute one BLOCK_M x BLOCK_N tile of C; A is (m, k), B is (n, k), C is (m, n), row-major."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    pid = tl.program_id(0)
    group_size = GROUP_M * tiles_n
    first_m = (pid // group_size) * GROUP_M
    rows = min(tiles_m - first_m, GROUP_M)
    pid_m = first_m + (pid % group_size) % rows
    pid_n = (pid % group_size) // rows
    # The tile's corner is 64-bit, so that matrices beyond 2^31 elements work; the offsets within a
    # tile stay 32-bit, which keeps registers free.
    row0 = pid_m.to(tl.int64) * BLOCK_M
    col0 = pid_n.to(tl.int64) * BLOCK_N
    left_m = (m - row0).to(tl.int32)
    left_n = (n - col0).to(tl.int32)
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    a_offs = tl.minimum(offs_m, left_m - 1)[:, None] * k + offs_k[None, :]
    b_offs = offs_k[:, None] + tl.minimum(offs_n, left_n - 1)[None, :] * k
    a_tile = a_ptr + row0 * k
    b_tile = b_ptr + col0 * k
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACC)
    for step in range(0, tl.cdiv(k, BLOCK_K)):
        if EVEN_K:
            a = tl.load(a_tile + a_offs)
            b = tl.load(b_tile + b_offs)
        else:
            left_k = k - step * BLOCK_K
            a = tl.load(a_tile + a_offs, mask=offs_k[None, :] < left_k, other=0.0)
            b = tl.load(b_tile + b_offs, mask=offs_k[:, None] < left_k, other=0.0)
        acc = tl.dot(a, b, acc, input_precision=INPUT_PRECISION, out_dtype=ACC)
        a_tile += BLOCK_K
        b_tile += BLOCK_K
    if SCALED:
        acc = acc * (tl.load(scale_a_ptr) * tl.load(scale_b_ptr))
    out_tile = out_ptr + row0 * n + col0
    mask = (offs_m[:, None] < left_m) & (offs_n[None, :] < left_n)
    offsets = offs_m[:, None] * n + offs_n[None, :]
    tl.store(out_tile + offsets, acc.to(out_ptr.dtype.element_ty), mask=mask)


_ACCUMULATORS = {"fp64": tl.float64, "int8": tl.int32}  # everything else: float32

# One row per architecture group and precision: block m, n, k, warps, stages. Chosen to use the
# architecture's widest matrix instruction, to fit its shared memory, and to spill nothing.
_CONFIGS: dict[str, dict[str, MatmulConfig]] = {
    "sm_75": {
        "fp32": MatmulConfig(128, 128, 16, 8, 2),
        "fp64": MatmulConfig(64, 64, 16, 4, 2),
    },
    "sm_80": {
        "bf16": MatmulConfig(128, 256, 64, 8, 3),
        "fp16": MatmulConfig(128, 256, 64, 8, 3),
        "tf32": MatmulConfig(128, 128, 32, 8, 4),
        "int8": MatmulConfig(128, 128, 128, 8, 3),
        "fp32": MatmulConfig(128, 128, 16, 8, 3),
        "fp64": MatmulConfig(128, 64, 16, 4, 4),
    },
    "sm_89": {
        "bf16": MatmulConfig(128, 128, 64, 8, 3),
        "fp16": MatmulConfig(128, 128, 64, 8, 3),
        "tf32": MatmulConfig(128, 128, 32, 8, 3),
        "fp8": MatmulConfig(128, 128, 128, 8, 3),
        "int8": MatmulConfig(128, 128, 128, 8, 3),
        "fp32": MatmulConfig(128, 128, 16, 8, 3),
        "fp64": MatmulConfig(64, 64, 16, 4, 2),
    },
    "sm_90": {
        "bf16": MatmulConfig(128, 256, 64, 8, 4),
        "fp16": MatmulConfig(128, 256, 64, 8, 4),
        "tf32": MatmulConfig(128, 256, 32, 8, 4),
        "fp8": MatmulConfig(128, 256, 128, 8, 4),
        "int8": MatmulConfig(128, 256, 128, 8, 4),
        "fp32": MatmulConfig(128, 128, 16, 8, 3),
        "fp64": MatmulConfig(128, 64, 16, 4, 4),
    },
    "sm_100": {
        "bf16": MatmulConfig(128, 256, 64, 8, 4),
        "fp16": MatmulConfig(128, 256, 64, 8, 4),
        "tf32": MatmulConfig(128, 256, 32, 8, 4),
        "fp8": MatmulConfig(128, 256, 128, 8, 4),
        "int8": MatmulConfig(128, 256, 128, 8, 4),
        "fp32": MatmulConfig(128, 128, 16, 8, 3),
        "fp64": MatmulConfig(64, 64, 16, 4, 3),
    },
    "sm_103": {
        "int8": MatmulConfig(128, 128, 128, 8, 4),
    },
    "sm_120": {
        "bf16": MatmulConfig(128, 128, 64, 8, 3),
        "fp16": MatmulConfig(128, 128, 64, 8, 3),
        "tf32": MatmulConfig(128, 128, 32, 8, 3),
        "fp8": MatmulConfig(128, 128, 128, 8, 3),
        "int8": MatmulConfig(128, 128, 128, 8, 3),
        "fp32": MatmulConfig(128, 128, 16, 8, 3),
        "fp64": MatmulConfig(64, 64, 16, 8, 3),
    },
    "gfx942": {
        "bf16": MatmulConfig(128, 128, 64, 8, 2),
        "fp16": MatmulConfig(128, 128, 64, 8, 2),
        "tf32": MatmulConfig(128, 128, 32, 8, 2),
        "fp8": MatmulConfig(128, 128, 128, 8, 2),
        "int8": MatmulConfig(128, 128, 128, 8, 2),
        "fp32": MatmulConfig(128, 128, 16, 8, 2),
        "fp64": MatmulConfig(64, 64, 16, 8, 2),
    },
}
# An architecture that is not in the table above takes the rows of this one for what it lacks.
_LIKE = {
    "sm_70": "sm_75", "sm_86": "sm_89", "sm_87": "sm_89", "sm_103": "sm_100", "sm_110": "sm_100",
    "sm_121": "sm_120", "gfx90a": "gfx942", "gfx950": "gfx942",
}  # fmt: skip
_ANYWHERE = MatmulConfig(64, 64, 32, 4, 2)


def config_for(precision: str, arch: str) -> MatmulConfig:
    """Return the configuration for a precision on an architecture (``sm_90``, ``gfx942``).

    An architecture that the table does not know gets a small tile that fits anywhere.
    """
    own = _CONFIGS.get(arch, {}).get(precision)
    like = _CONFIGS.get(_LIKE.get(arch, ""), {}).get(precision)
    return own or like or _ANYWHERE


def constexprs(precision: str, k: int, config: MatmulConfig) -> dict[str, object]:
    """Return the kernel's compile-time arguments for a product with inner length ``k``."""
    return {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "GROUP_M": config.group_m,
        "EVEN_K": k % config.block_k == 0,
        "ACC": _ACCUMULATORS.get(precision, tl.float32),
        "INPUT_PRECISION": "tf32" if precision == "tf32" else "ieee",
        "SCALED": precision == "fp8",
    }


def launch(
    a: torch.Tensor,
    b_nk: torch.Tensor,
    out: torch.Tensor,
    *,
    precision: str,
    config: MatmulConfig,
    scale_a: torch.Tensor | None = None,
    scale_b: torch.Tensor | None = None,
) -> None:
    """Enqueue out (m, n) = a (m, k) · b_nk (n, k)ᵀ, times both scales for ``fp8``.

    All three are contiguous; ``scale_a`` and ``scale_b`` are float32 scalars on the device.
    Allocates nothing, so that it can be recorded into a graph.
    """
    (m, k), (n, k_b) = a.shape, b_nk.shape
    assert k == k_b, f"{a.shape=}, {b_nk.shape=}"
    assert out.shape == (m, n), f"{a.shape=}, {b_nk.shape=}, {out.shape=}"
    assert a.is_contiguous(), a.stride()
    assert b_nk.is_contiguous(), b_nk.stride()
    assert out.is_contiguous(), out.stride()
    assert precision != "fp8" or (scale_a is not None and scale_b is not None), "fp8 needs scales"
    grid = (triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n),)
    matmul_kernel[grid](
        a,
        b_nk,
        out,
        a if scale_a is None else scale_a,
        b_nk if scale_b is None else scale_b,
        m,
        n,
        k,
        **constexprs(precision, k, config),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
