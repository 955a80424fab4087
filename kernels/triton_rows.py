"""Fused kernels for what a model does row by row: one program per row, one pass over it.

The row fits into registers (up to 64 Ki elements), so that each element is read once however many
steps the operation has. Sums and rotations are made in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source

if TYPE_CHECKING:
    import torch

_TYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@triton.jit
def rms_norm_kernel(
    x_ptr, residual_ptr, weight_ptr, out_ptr, width, epsilon, BLOCK: tl.constexpr
):  # fmt: skip
    """residual += x; out = residual / rms(residual) · weight, row by row."""
    start = tl.program_id(0).to(tl.int64) * width
    places = tl.arange(0, BLOCK)
    known = places < width
    x = tl.load(x_ptr + start + places, mask=known, other=0.0).to(tl.float32)
    r = tl.load(residual_ptr + start + places, mask=known, other=0.0).to(tl.float32)
    summed = (x + r).to(residual_ptr.dtype.element_ty)
    tl.store(residual_ptr + start + places, summed, mask=known)
    wide = summed.to(tl.float32)
    mean = tl.sum(wide * wide, axis=0) / width
    weight = tl.load(weight_ptr + places, mask=known, other=0.0).to(tl.float32)
    out = wide * tl.rsqrt(mean + epsilon) * weight
    tl.store(out_ptr + start + places, out.to(out_ptr.dtype.element_ty), mask=known)


@triton.jit
def rotate_kernel(
    x_ptr, cos_ptr, sin_ptr, out_ptr, heads, WIDTH: tl.constexpr, HEADS: tl.constexpr
):  # fmt: skip
    """Rotate the two halves of each head of a row by the angles of the row's position."""
    row = tl.program_id(0).to(tl.int64)
    HALF: tl.constexpr = WIDTH // 2
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    places = tl.arange(0, HALF)
    known = (head < heads)[:, None]
    cos = tl.load(cos_ptr + row * WIDTH + places).to(tl.float32)[None, :]
    sin = tl.load(sin_ptr + row * WIDTH + places).to(tl.float32)[None, :]
    at = row * heads * WIDTH + head[:, None] * WIDTH + places[None, :]
    low = tl.load(x_ptr + at, mask=known, other=0.0).to(tl.float32)
    high = tl.load(x_ptr + at + HALF, mask=known, other=0.0).to(tl.float32)
    kind = out_ptr.dtype.element_ty
    tl.store(out_ptr + at, (low * cos - high * sin).to(kind), mask=known)
    tl.store(out_ptr + at + HALF, (high * cos + low * sin).to(kind), mask=known)


@triton.jit
def silu_mul_kernel(x_ptr, out_ptr, width, BLOCK: tl.constexpr):
    """out = silu(first half of a row) · its second half."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    known = places < width
    gate = tl.load(x_ptr + row * 2 * width + places, mask=known, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * 2 * width + width + places, mask=known, other=0.0).to(tl.float32)
    out = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out_ptr + row * width + places, out.to(out_ptr.dtype.element_ty), mask=known)


@triton.jit
def quantise_kernel(
    x_ptr, out_ptr, scales_ptr, width, LARGEST: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out = x / scale in fp8, scale = max |x| / LARGEST of the row."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    known = places < width
    x = tl.load(x_ptr + row * width + places, mask=known, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), axis=0), 1e-12) / LARGEST
    narrow = tl.minimum(tl.maximum(x / scale, -LARGEST), LARGEST)
    tl.store(out_ptr + row * width + places, narrow.to(out_ptr.dtype.element_ty), mask=known)
    tl.store(scales_ptr + row, scale)


_HEADS, _GATES = 8, 2048


def rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    epsilon: float,
) -> Callable[[], torch.Tensor]:
    """Return a call that adds x to residual in place and writes the norm to ``out`` (rows, n)."""
    rows, width = x.shape
    kernel: Any = rms_norm_kernel
    block = triton.next_power_of_2(width)

    def launch() -> torch.Tensor:
        kernel[(rows,)](x, residual, weight, out, width, epsilon, BLOCK=block,
                        num_warps=_warps(block))  # fmt: skip
        return out

    return launch


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """Return a call that rotates (rows, heads, d) by cos and sin (rows, 1, d) into ``out``."""
    rows, heads, width = x.shape
    kernel: Any = rotate_kernel

    def launch() -> torch.Tensor:
        kernel[(rows, triton.cdiv(heads, _HEADS))](
            x, cos, sin, out, heads, WIDTH=width, HEADS=_HEADS, num_warps=4
        )
        return out

    return launch


def silu_mul(x: torch.Tensor, out: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a call that gates (rows, 2 · n) into ``out`` (rows, n)."""
    rows, width = out.shape
    kernel: Any = silu_mul_kernel

    def launch() -> torch.Tensor:
        kernel[(rows, triton.cdiv(width, _GATES))](x, out, width, BLOCK=_GATES, num_warps=4)
        return out

    return launch


def quantise(
    x: torch.Tensor, out: torch.Tensor, scales: torch.Tensor
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Return a call that writes fp8 values (rows, n) and scales (rows, 1)."""
    import torch

    rows, width = x.shape
    kernel: Any = quantise_kernel
    block = triton.next_power_of_2(width)
    largest = float(torch.finfo(out.dtype).max)

    def launch() -> tuple[torch.Tensor, torch.Tensor]:
        kernel[(rows,)](x, out, scales, width, LARGEST=largest, BLOCK=block,
                        num_warps=_warps(block))  # fmt: skip
        return out, scales

    return launch


def _warps(block: int) -> int:
    """Return the warps for a row: about sixteen elements per thread, 4 to 16 warps."""
    return max(4, min(16, block // 512))


def sources(width: int, fp8: str = "fp8e4nv") -> dict[str, Source]:
    """Return what to compile ahead of time for rows of ``width`` in bf16."""
    block = triton.next_power_of_2(width)
    item, single = "*bf16", {"width": "i32"}
    return {
        "rmsnorm": Source(
            rms_norm_kernel,
            {"x_ptr": item, "residual_ptr": item, "weight_ptr": item, "out_ptr": item, **single,
             "epsilon": "fp32"},
            {"BLOCK": block}, _warps(block),
        ),
        "rope": Source(
            rotate_kernel,
            {"x_ptr": item, "cos_ptr": item, "sin_ptr": item, "out_ptr": item, "heads": "i32"},
            {"WIDTH": 128, "HEADS": _HEADS}, 4,
        ),
        "silu_mul": Source(
            silu_mul_kernel, {"x_ptr": item, "out_ptr": item, **single}, {"BLOCK": _GATES}, 4
        ),
        "quantize": Source(
            quantise_kernel,
            {"x_ptr": item, "out_ptr": f"*{fp8}", "scales_ptr": "*fp32", **single},
            {"LARGEST": 448.0, "BLOCK": block}, _warps(block),
        ),
    }  # fmt: skip
