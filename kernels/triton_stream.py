"""Streaming kernels in Triton: enough bytes in flight to fill the memory's pins.

By Little's law a memory of bandwidth B and latency L needs B·L bytes under way: 32 KiB per SM on an
H100, 64 KiB on a B200 (the figures that NVIDIA's CUB tunes its transforms with). A block of
elements per program, 16-byte accesses per thread and several programs per unit provide them.
Nothing asks the cache to keep data: a stream that stays in L2 would not measure memory.

``read`` and ``dot`` leave one partial sum per program in a small array of their own; summing those
is outside of the measured bytes (one 4-byte value for every block of several KiB).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Elements and warps per program; the grid has one program per block."""

    block: int
    num_warps: int


@triton.jit
def _offsets(BLOCK: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def read_kernel(a_ptr, partials_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    """partials[program] = sum of a block of a."""
    offsets = _offsets(BLOCK)
    if EVEN:
        a = tl.load(a_ptr + offsets)
    else:
        a = tl.load(a_ptr + offsets, mask=offsets < n, other=0.0)
    total = tl.sum(a.to(partials_ptr.dtype.element_ty), axis=0)
    tl.store(partials_ptr + tl.program_id(0), total)


@triton.jit
def dot_kernel(a_ptr, b_ptr, partials_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    """partials[program] = sum of a block of a·b."""
    offsets = _offsets(BLOCK)
    if EVEN:
        a = tl.load(a_ptr + offsets)
        b = tl.load(b_ptr + offsets)
    else:
        a = tl.load(a_ptr + offsets, mask=offsets < n, other=0.0)
        b = tl.load(b_ptr + offsets, mask=offsets < n, other=0.0)
    wide = partials_ptr.dtype.element_ty
    tl.store(partials_ptr + tl.program_id(0), tl.sum(a.to(wide) * b.to(wide), axis=0))


@triton.jit
def write_kernel(a_ptr, n, VALUE: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    """a = VALUE."""
    offsets = _offsets(BLOCK)
    filled = tl.full((BLOCK,), VALUE, dtype=a_ptr.dtype.element_ty)
    if EVEN:
        tl.store(a_ptr + offsets, filled)
    else:
        tl.store(a_ptr + offsets, filled, mask=offsets < n)


@triton.jit
def map_kernel(
    a_ptr, b_ptr, c_ptr, n,
    OP: tl.constexpr, Q: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """c = a (copy), Q·a (scale), a + b (add) or a + Q·b (triad), as OP says.

    Q is a compile-time constant because a run-time float would arrive rounded to float32.
    """
    offsets = _offsets(BLOCK)
    inside = offsets < n
    wide: tl.constexpr = tl.float64 if c_ptr.dtype.element_ty == tl.float64 else tl.float32
    if EVEN:
        a = tl.load(a_ptr + offsets)
    else:
        a = tl.load(a_ptr + offsets, mask=inside)
    if OP == "copy":
        c = a
    elif OP == "scale":
        c = a.to(wide) * Q
    else:
        if EVEN:
            b = tl.load(b_ptr + offsets)
        else:
            b = tl.load(b_ptr + offsets, mask=inside)
        if OP == "add":
            c = a.to(wide) + b.to(wide)
        else:
            c = a.to(wide) + Q * b.to(wide)
    out = c.to(c_ptr.dtype.element_ty)
    if EVEN:
        tl.store(c_ptr + offsets, out)
    else:
        tl.store(c_ptr + offsets, out, mask=inside)


# Bytes per block and warps per program, by architecture group: HBM parts want 64 to 128 bytes per
# thread in flight, GDDR parts are full with 16 to 32. Starting points from public tuning tables;
# the best of several is for hardware to find.
_BLOCK_BYTES_AND_WARPS: dict[str, tuple[int, int]] = {
    "sm_70": (8 << 10, 8), "sm_75": (8 << 10, 8), "sm_80": (16 << 10, 8), "sm_86": (8 << 10, 8),
    "sm_89": (8 << 10, 8), "sm_90": (32 << 10, 8), "sm_100": (32 << 10, 8),
    "sm_103": (32 << 10, 8), "sm_120": (8 << 10, 8), "gfx90a": (16 << 10, 4),
    "gfx942": (16 << 10, 4), "gfx950": (16 << 10, 4),
}  # fmt: skip
_ANYWHERE = (8 << 10, 4)
_ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def config_for(kernel: str, dtype: str, arch: str) -> StreamConfig:
    """Return the configuration for a kernel on arrays of ``dtype`` (torch's name) on ``arch``.

    Kernels with several streams take smaller blocks, so that the bytes in flight stay the same.
    """
    block_bytes, warps = _BLOCK_BYTES_AND_WARPS.get(arch, _ANYWHERE)
    if kernel in ("add", "triad", "dot"):
        block_bytes //= 2
    return StreamConfig(block_bytes // _ITEM_BYTES[dtype], warps)


def partials_size(n: int, config: StreamConfig) -> int:
    """Return how many partial sums ``read`` and ``dot`` over ``n`` elements make."""
    return -(-n // config.block)


def launch_read(a: torch.Tensor, partials: torch.Tensor, config: StreamConfig) -> None:
    """Enqueue the sum of ``a`` (n) block by block into ``partials`` (partials_size)."""
    n = a.numel()
    read_kernel[_grid(n, config)](a, partials, n, **_settings(n, config))


def launch_dot(
    a: torch.Tensor, b: torch.Tensor, partials: torch.Tensor, config: StreamConfig
) -> None:
    """Enqueue the dot product of ``a`` and ``b`` (n) block by block into ``partials``."""
    n = a.numel()
    dot_kernel[_grid(n, config)](a, b, partials, n, **_settings(n, config))


def launch_write(a: torch.Tensor, value: float, config: StreamConfig) -> None:
    """Enqueue a = value."""
    n = a.numel()
    write_kernel[_grid(n, config)](a, n, VALUE=value, **_settings(n, config))


def launch_map(
    op: str, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, q: float, config: StreamConfig
) -> None:
    """Enqueue ``copy``, ``scale``, ``add`` or ``triad`` of (n)-element arrays into ``c``.

    ``b`` is not touched by ``copy`` and ``scale``; pass ``a``.
    """
    n = a.numel()
    map_kernel[_grid(n, config)](a, b, c, n, OP=op, Q=q, **_settings(n, config))


def _grid(n: int, config: StreamConfig) -> tuple[int]:
    return (triton.cdiv(n, config.block),)


def _settings(n: int, config: StreamConfig) -> dict[str, int | bool]:
    return {
        "BLOCK": config.block,
        "EVEN": n % config.block == 0,
        "num_warps": config.num_warps,
        "enable_fp_fusion": True,
    }
