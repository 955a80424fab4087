"""Reading out of the last-level cache of a GPU: the same small array, many times in one launch.

An array that lies in L2 leaves it in a few microseconds, which a launch's own start and end would
drown. So one launch reads it many times over: block i of the walk is block i modulo the number of
blocks, and program p takes i = p, p + P, p + 2P, … What limits it is L2 itself, the fabric between
it and the multiprocessors, and having enough bytes under way; device memory is not touched after
the first pass.

The first-level cache must not answer instead. On NVIDIA GPUs each load asks for L2 (``.cg``: cached
at L2 only). AMD's compiler knows no such load for whole blocks; there the walk alone has to do: a
program comes back to a block only after all programs together have read the whole array, and the
array is chosen larger than all first-level caches together can hold for long.

The figure is a rate for reads only, of data that many multiprocessors read at once. It is **not**
held against the pins, and not what one multiprocessor gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source
from roofprobe.kernels.triton_clock import backend_of
from roofprobe.kernels.triton_stream_configs import StreamConfig

if TYPE_CHECKING:
    import torch

Launch = Callable[[], object]


@triton.jit
def cache_read_kernel(
    a_ptr, partials_ptr, blocks, visits, BLOCK: tl.constexpr, CACHE: tl.constexpr
):
    """partials[program] = sum of blocks (i mod ``blocks``) for every P-th i below ``visits``."""
    WIDE: tl.constexpr = partials_ptr.dtype.element_ty
    sums = tl.zeros((BLOCK,), dtype=WIDE)
    for visit in tl.range(tl.program_id(0), visits, tl.num_programs(0)):
        offsets = tl.cast(visit % blocks, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        sums += tl.load(a_ptr + offsets, cache_modifier=CACHE).to(WIDE)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(sums, axis=0))


def programs_for(config: StreamConfig, multiprocessors: int) -> int:
    """Return the grid: so many programs per multiprocessor that all are resident at once."""
    return max(1, config.programs_per_sm) * multiprocessors


def launcher(
    array: torch.Tensor, partials: torch.Tensor, config: StreamConfig, *, passes: int, arch: str
) -> Launch:
    """Return a call that enqueues ``passes`` reads of ``array`` (whole blocks of elements).

    One sum per program is left in ``partials`` (programs,).
    """
    block = config.block(str(array.dtype).removeprefix("torch."))
    blocks, rest = divmod(array.numel(), block)
    assert rest == 0, f"{array.numel()=}, {block=}"
    constants = {"BLOCK": block, "CACHE": cache_modifier(arch)}

    def launch_once() -> object:
        return cache_read_kernel[(partials.numel(),)](
            array, partials, blocks, passes * blocks, **constants, num_warps=config.num_warps
        )

    return launch_once


def sums_by_program(
    array: torch.Tensor, programs: int, block: int, passes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (Σ terms, Σ|terms|) of what each program visits, in float64 (programs,)."""
    import torch

    wide = array.double().view(-1, block)
    sums, magnitudes = wide.sum(dim=1), wide.abs().sum(dim=1)
    visits = torch.arange(passes * sums.numel(), device=array.device)
    owner, visited = visits % programs, visits % sums.numel()
    empty = torch.zeros(programs, dtype=torch.float64, device=array.device)
    return (
        empty.index_add(0, owner, sums[visited]),
        empty.index_add(0, owner, magnitudes[visited]),
    )


def cache_modifier(arch: str) -> str:
    """Return what makes a load pass the first-level cache by; empty where there is no such word."""
    return ".cg" if backend_of(arch) == "cuda" else ""


def source(dtype: str, config: StreamConfig, arch: str) -> Source:
    """Return what to compile ahead of time: reads of whole blocks of ``dtype``."""
    item = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}[dtype]
    sums = "*fp64" if dtype == "float64" else "*fp32"
    return Source(
        cache_read_kernel,
        {"a_ptr": f"*{item}", "partials_ptr": sums, "blocks": "i32", "visits": "i32"},
        {"BLOCK": config.block(dtype), "CACHE": cache_modifier(arch)},
        config.num_warps,
    )
