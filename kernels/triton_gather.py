"""Gathers and strides in Triton: whole pages by an index, or one sector of every k-th.

Both read runs of contiguous elements whose starts are not next to each other: a page where the
index says, or a sector at a multiple of k. One source serves both. The runs are numbered; a block
is a part of one run, one run, or several, as its bytes say, and the forms are those of
``triton_stream``: one program per block, persistent programs, and for pages boxes of descriptors.
The index is read once per block, before the data can be asked for: that wait is part of what a
paged cache costs, and it is hidden where other programs or further stages have loads under way.

Each program leaves one partial sum, so that only reads count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source
from roofprobe.kernels.triton_stream import MOST_ROWS, ROW_BYTES, form_of
from roofprobe.kernels.triton_stream_configs import ITEM_BYTES, StreamConfig

if TYPE_CHECKING:
    import torch


@triton.jit
def _block(
    a_ptr, index_ptr, runs, block,
    RUN: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, INDEXED: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """Load block number ``block`` as (runs in it, elements of each)."""
    WIDTH: tl.constexpr = RUN if RUN < BLOCK else BLOCK
    HEIGHT: tl.constexpr = BLOCK // WIDTH
    PARTS: tl.constexpr = RUN // WIDTH
    numbers = (block // PARTS) * HEIGHT + tl.arange(0, HEIGHT)
    if INDEXED:
        if EVEN:
            places = tl.load(index_ptr + numbers)
        else:
            places = tl.load(index_ptr + numbers, mask=numbers < runs, other=0)
    else:
        places = numbers
    within = (block % PARTS) * WIDTH + tl.arange(0, WIDTH)
    pointers = a_ptr + (places.to(tl.int64) * STEP)[:, None] + within[None, :]
    if EVEN:
        values = tl.load(pointers)
    else:
        values = tl.load(pointers, mask=(numbers < runs)[:, None], other=0.0)
    return values


@triton.jit
def runs_kernel(
    a_ptr, index_ptr, partials_ptr, runs,
    RUN: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, INDEXED: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """partials[program] = sum of a block of runs of a, whose starts are STEP·index or STEP·i."""
    values = _block(
        a_ptr, index_ptr, runs, tl.program_id(0), RUN, BLOCK, STEP, INDEXED, EVEN
    )  # fmt: skip
    wide = values.to(partials_ptr.dtype.element_ty)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(tl.sum(wide, axis=1), axis=0))


@triton.jit
def runs_walk_kernel(
    a_ptr, index_ptr, partials_ptr, runs,
    RUN: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, INDEXED: tl.constexpr,
    EVEN: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """partials[program] = sum of every P-th block of runs."""
    WIDE: tl.constexpr = partials_ptr.dtype.element_ty
    WIDTH: tl.constexpr = RUN if RUN < BLOCK else BLOCK
    HEIGHT: tl.constexpr = BLOCK // WIDTH
    blocks = tl.cdiv(runs, HEIGHT) * (RUN // WIDTH)
    sums = tl.zeros((HEIGHT, WIDTH), dtype=WIDE)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=STAGES):
        values = _block(a_ptr, index_ptr, runs, block, RUN, BLOCK, STEP, INDEXED, EVEN)
        sums += values.to(WIDE)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(tl.sum(sums, axis=1), axis=0))


@triton.jit
def pages_tma_kernel(
    a_desc, index_ptr, partials_ptr, pages,
    PAGE_ROWS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """As ``runs_walk_kernel`` for pages of PAGE_ROWS rows, in boxes of (ROWS, COLUMNS)."""
    WIDE: tl.constexpr = partials_ptr.dtype.element_ty
    PARTS: tl.constexpr = PAGE_ROWS // ROWS
    sums = tl.zeros((ROWS, COLUMNS), dtype=WIDE)
    for block in tl.range(
        tl.program_id(0), pages * PARTS, tl.num_programs(0), num_stages=STAGES
    ):  # fmt: skip
        page = tl.load(index_ptr + block // PARTS)
        sums += a_desc.load([page * PAGE_ROWS + (block % PARTS) * ROWS, 0]).to(WIDE)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(tl.sum(sums, axis=1), axis=0))


_KERNELS: dict[str, Any] = {
    "block": runs_kernel,
    "walk": runs_walk_kernel,
    "tma": pages_tma_kernel,
}


def fitted(config: StreamConfig, run_bytes: int) -> StreamConfig:
    """Return the configuration as it is used on runs of ``run_bytes``.

    A box of a descriptor lies within one page, so a page smaller than a block takes a block of its
    own size, and as many more stages as keep the bytes under way.
    """
    if not config.tma or config.block_bytes <= run_bytes:
        return config
    times = config.block_bytes // run_bytes
    stages = (config.num_stages - 1) * times + 1
    return StreamConfig(run_bytes, config.num_warps, config.programs_per_sm, stages, tma=True)


def problem(config: StreamConfig, run_bytes: int, indexed: bool) -> str | None:
    """Say why a configuration cannot read runs of ``run_bytes``, or return None."""
    if config.tma and not indexed:
        return "a sector is smaller than a row of a tensor descriptor"
    if config.tma and not ROW_BYTES <= config.block_bytes <= MOST_ROWS * ROW_BYTES:
        return (
            f"a box of a tensor descriptor has {ROW_BYTES} to {MOST_ROWS * ROW_BYTES} bytes, "
            f"not {config.block_bytes}"
        )
    return None


def blocks_of(runs: int, run_bytes: int, config: StreamConfig) -> int:
    """Return into how many blocks so many runs fall."""
    if config.block_bytes <= run_bytes:
        return runs * (run_bytes // config.block_bytes)
    return -(-runs // (config.block_bytes // run_bytes))


def launcher(
    array: torch.Tensor,
    index: torch.Tensor | None,
    partials: torch.Tensor,
    config: StreamConfig,
    *,
    run: int,
    step: int,
    runs: int,
) -> Callable[[], object]:
    """Return a call that sums ``runs`` runs of ``run`` elements into ``partials`` (programs,).

    Run i starts at element ``step`` · index[i], without an index at ``step`` · i; ``index`` is
    int32. The grid is the length of ``partials``. Raises ``ValueError`` where it cannot be done.
    """
    run_bytes = run * array.element_size()
    reason = problem(config, run_bytes, index is not None)
    if reason is not None:
        raise ValueError(reason)
    dtype = str(array.dtype).removeprefix("torch.")
    source_of: Any = array
    if config.tma:
        from roofprobe.kernels.triton_stream import view

        source_of = view(array[: array.numel() // run * run], config)
    compiled_for = constexprs(dtype, config, run, step, runs, indexed=index is not None)
    device_code = _KERNELS[form_of(config)][(partials.numel(),)]

    def launch_once() -> object:
        return device_code(
            source_of, array if index is None else index, partials, runs,
            **compiled_for, num_warps=config.num_warps, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip

    return launch_once


def constexprs(
    dtype: str, config: StreamConfig, run: int, step: int, runs: int, *, indexed: bool
) -> dict[str, Any]:
    """Return the compile-time constants of a launch over ``runs`` runs of ``run`` elements."""
    item = ITEM_BYTES[dtype]
    stages = {"STAGES": config.num_stages} if config.persistent else {}
    if config.tma:
        sizes = {"PAGE_ROWS": run * item // ROW_BYTES, "ROWS": config.block_bytes // ROW_BYTES}
        return {**sizes, "COLUMNS": ROW_BYTES // item, **stages}
    block = config.block(dtype)
    even = runs % max(1, block // run) == 0
    sizes = {"RUN": run, "BLOCK": block, "STEP": step}
    return {**sizes, "INDEXED": indexed, "EVEN": even, **stages}


_TRITON_TYPES = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def source(dtype: str, config: StreamConfig, run: int, step: int, *, indexed: bool) -> Source:
    """Return what to compile ahead of time: the sum of whole blocks of runs."""
    item = _TRITON_TYPES[dtype]
    rows, columns = config.block_bytes // ROW_BYTES, ROW_BYTES // ITEM_BYTES[dtype]
    array = f"tensordesc<{item}[{rows}, {columns}]>" if config.tma else f"*{item}"
    signature = {
        "a_desc" if config.tma else "a_ptr": array,
        "index_ptr": "*i32" if indexed else array,
        "partials_ptr": "*fp64" if dtype == "float64" else "*fp32",
        "pages" if config.tma else "runs": "i32",
    }
    whole = max(1, config.block(dtype) // run)
    constants = constexprs(dtype, config, run, step, whole, indexed=indexed)
    return Source(_KERNELS[form_of(config)], signature, constants, config.num_warps)
