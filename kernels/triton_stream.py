"""Streaming kernels in Triton: enough bytes in flight to fill the memory's pins.

Each kernel comes in three forms, and ``triton_stream_configs`` says which one a name stands for:

* one program per block (``map_kernel``, ``reduce_kernel``): the hardware's scheduler keeps every
  multiprocessor supplied with blocks;
* persistent programs that walk over the blocks by stride (``*_walk_kernel``), with the next blocks
  on their way to shared memory if the name has stages;
* the same through tensor descriptors (``*_tma_kernel``): an array is seen as rows of 128 bytes, and
  one thread asks the tensor memory accelerator for a box of them. Only whole rows can be reached.

Nothing asks the cache to keep data: a stream that stays in L2 would not measure memory.

Reductions leave one partial sum per program in a small array of their own; summing those is
outside of the measured bytes (one 4-byte value for every block of several KiB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source
from roofprobe.kernels.triton_stream_configs import ITEM_BYTES, StreamConfig

if TYPE_CHECKING:
    import torch

REDUCTIONS = ("read", "dot")
MAPS = ("write", "copy", "scale", "add", "triad", "nstream")
ROW_BYTES = 128
"""A row of the view that descriptors have of an array: what one box may be wide with swizzling."""
MOST_ROWS = 256
"""What one dimension of a descriptor's box may have."""


@triton.jit
def _loaded(ptr, offsets, n, EVEN: tl.constexpr):
    if EVEN:
        values = tl.load(ptr + offsets)
    else:
        values = tl.load(ptr + offsets, mask=offsets < n, other=0.0)
    return values


@triton.jit
def _combined(a, b, c, OP: tl.constexpr, Q: tl.constexpr, OUT: tl.constexpr):
    """Return copy, scale, add, triad or nstream of what was loaded, in the type that is stored.

    Q is a compile-time constant because a run-time float would arrive rounded to float32.
    """
    wide: tl.constexpr = tl.float64 if OUT == tl.float64 else tl.float32  # noqa: SIM300
    if OP == "copy":
        out = a
    elif OP == "scale":
        out = a.to(wide) * Q
    elif OP == "add":
        out = a.to(wide) + b.to(wide)
    elif OP == "triad":
        out = a.to(wide) + Q * b.to(wide)
    else:
        out = c.to(wide) + (a.to(wide) + Q * b.to(wide))
    return out.to(OUT)


@triton.jit
def _map_block(
    a_ptr, b_ptr, c_ptr, n, offsets,
    OP: tl.constexpr, Q: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    OUT: tl.constexpr = c_ptr.dtype.element_ty
    if OP == "write":
        out = tl.full((BLOCK,), Q, dtype=OUT)
    else:
        a = _loaded(a_ptr, offsets, n, EVEN)
        b = a
        c = a
        if OP == "add" or OP == "triad" or OP == "nstream":
            b = _loaded(b_ptr, offsets, n, EVEN)
        if OP == "nstream":
            c = _loaded(c_ptr, offsets, n, EVEN)
        out = _combined(a, b, c, OP, Q, OUT)
    if EVEN:
        tl.store(c_ptr + offsets, out)
    else:
        tl.store(c_ptr + offsets, out, mask=offsets < n)


@triton.jit
def map_kernel(
    a_ptr, b_ptr, c_ptr, n,
    OP: tl.constexpr, Q: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """c = Q (write), a (copy), Q·a (scale), a + b (add), a + Q·b (triad), c + a + Q·b (nstream)."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    _map_block(a_ptr, b_ptr, c_ptr, n, offsets, OP, Q, BLOCK, EVEN)


@triton.jit
def map_walk_kernel(
    a_ptr, b_ptr, c_ptr, n,
    OP: tl.constexpr, Q: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """As ``map_kernel``, every P-th block by the same program."""
    blocks = tl.cdiv(n, BLOCK)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=STAGES):
        offsets = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        _map_block(a_ptr, b_ptr, c_ptr, n, offsets, OP, Q, BLOCK, EVEN)


@triton.jit
def map_tma_kernel(
    a_desc, b_desc, c_desc, rows,
    OP: tl.constexpr, Q: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    STAGES: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """As ``map_walk_kernel`` through descriptors of (rows, COLUMNS) in boxes of (ROWS, COLUMNS)."""
    blocks = tl.cdiv(rows, ROWS)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=STAGES):
        row = block * ROWS
        if OP == "write":
            out = tl.full((ROWS, COLUMNS), Q, dtype=OUT)
        else:
            a = a_desc.load([row, 0])
            b = a
            c = a
            if OP == "add" or OP == "triad" or OP == "nstream":
                b = b_desc.load([row, 0])
            if OP == "nstream":
                c = c_desc.load([row, 0])
            out = _combined(a, b, c, OP, Q, OUT)
        c_desc.store([row, 0], out)


@triton.jit
def _terms(a_ptr, b_ptr, n, offsets, WIDE: tl.constexpr, OP: tl.constexpr, EVEN: tl.constexpr):
    terms = _loaded(a_ptr, offsets, n, EVEN).to(WIDE)
    if OP == "dot":
        terms *= _loaded(b_ptr, offsets, n, EVEN).to(WIDE)
    return terms


@triton.jit
def reduce_kernel(
    a_ptr, b_ptr, partials_ptr, n, OP: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr
):
    """partials[program] = sum of a block of a (read) or a·b (dot)."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    terms = _terms(a_ptr, b_ptr, n, offsets, partials_ptr.dtype.element_ty, OP, EVEN)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(terms, axis=0))


@triton.jit
def reduce_walk_kernel(
    a_ptr, b_ptr, partials_ptr, n,
    OP: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """partials[program] = sum of every P-th block of a or a·b."""
    WIDE: tl.constexpr = partials_ptr.dtype.element_ty
    blocks = tl.cdiv(n, BLOCK)
    sums = tl.zeros((BLOCK,), dtype=WIDE)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=STAGES):
        offsets = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        sums += _terms(a_ptr, b_ptr, n, offsets, WIDE, OP, EVEN)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(sums, axis=0))


@triton.jit
def reduce_tma_kernel(
    a_desc, b_desc, partials_ptr, rows,
    OP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """As ``reduce_walk_kernel`` through descriptors of (rows, COLUMNS); rows outside are zero."""
    WIDE: tl.constexpr = partials_ptr.dtype.element_ty
    blocks = tl.cdiv(rows, ROWS)
    sums = tl.zeros((ROWS, COLUMNS), dtype=WIDE)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=STAGES):
        terms = a_desc.load([block * ROWS, 0]).to(WIDE)
        if OP == "dot":
            terms *= b_desc.load([block * ROWS, 0]).to(WIDE)
        sums += terms
    tl.store(partials_ptr + tl.program_id(0), tl.sum(tl.sum(sums, axis=1), axis=0))


_KERNELS: dict[tuple[bool, str], Any] = {
    (False, "block"): map_kernel,
    (False, "walk"): map_walk_kernel,
    (False, "tma"): map_tma_kernel,
    (True, "block"): reduce_kernel,
    (True, "walk"): reduce_walk_kernel,
    (True, "tma"): reduce_tma_kernel,
}


def form_of(config: StreamConfig) -> str:
    """Return which of the three forms a configuration runs: ``block``, ``walk`` or ``tma``."""
    return "tma" if config.tma else "walk" if config.persistent else "block"


def problem(config: StreamConfig, dtype: str, n: int) -> str | None:
    """Say why a configuration cannot stream arrays of ``n`` elements of ``dtype``, or None."""
    if not config.tma:
        return None
    columns = ROW_BYTES // ITEM_BYTES[dtype]
    if n % columns:
        return f"tensor descriptors see rows of {columns} elements, and {n} are no whole rows"
    if not ROW_BYTES <= config.block_bytes <= MOST_ROWS * ROW_BYTES:
        return (
            f"a box of a tensor descriptor has {ROW_BYTES} to {MOST_ROWS * ROW_BYTES} bytes, "
            f"not {config.block_bytes}"
        )
    return None


def programs_for(n: int, dtype: str, config: StreamConfig, multiprocessors: int) -> int:
    """Return the grid over ``n`` elements, which is also how many partial sums there are."""
    return config.programs(-(-n // config.block(dtype)), multiprocessors)


def view(array: torch.Tensor, config: StreamConfig) -> Any:
    """Return the descriptor of an array as rows of 128 bytes, in boxes of one block."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    columns = ROW_BYTES // array.element_size()
    box = [config.block_bytes // ROW_BYTES, columns]
    return TensorDescriptor.from_tensor(array.view(-1, columns), box)


def launcher(
    kernel: str,
    arrays: tuple[torch.Tensor, ...],
    config: StreamConfig,
    *,
    multiprocessors: int,
    value: float = 0.0,
    partials: torch.Tensor | None = None,
) -> Callable[[], object]:
    """Return a call that enqueues one pass of ``kernel`` over its ``arrays`` of n elements each.

    The last array is the output, except of ``read`` and ``dot``, which leave their sums in
    ``partials`` (:func:`programs_for`). ``value`` is q. Descriptors are made here, once; the call
    allocates nothing on the device. Raises ``ValueError`` where the configuration cannot do it.
    """
    n, dtype = arrays[0].numel(), str(arrays[0].dtype).removeprefix("torch.")
    reason = problem(config, dtype, n)
    if reason is not None:
        raise ValueError(reason)
    reduces = kernel in REDUCTIONS
    output = arrays[-1] if partials is None else partials
    # A kernel touches only the operands that it needs; the others stand in for the signature.
    operands = [*arrays[: 2 if reduces else -1], arrays[0], arrays[0]][:2]
    size = n
    if config.tma:
        size = n // (ROW_BYTES // ITEM_BYTES[dtype])
        operands = [view(operand, config) for operand in operands]
    sink = view(output, config) if config.tma and not reduces else output
    compiled_for = constexprs(kernel, dtype, config, n, value)
    grid = (programs_for(n, dtype, config, multiprocessors),)
    device_code = _KERNELS[reduces, form_of(config)][grid]

    def launch_once() -> object:
        return device_code(
            *operands, sink, size,
            **compiled_for, num_warps=config.num_warps, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip

    return launch_once


_TRITON_TYPES = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def constexprs(
    kernel: str, dtype: str, config: StreamConfig, n: int, value: float
) -> dict[str, Any]:
    """Return the compile-time constants of a launch over ``n`` elements of ``dtype``."""
    found: dict[str, Any] = {"OP": kernel}
    if kernel in MAPS:
        found["Q"] = value
    if config.persistent:
        found["STAGES"] = config.num_stages
    if not config.tma:
        block = config.block(dtype)
        return found | {"BLOCK": block, "EVEN": n % block == 0}
    found |= {"ROWS": config.block_bytes // ROW_BYTES, "COLUMNS": ROW_BYTES // ITEM_BYTES[dtype]}
    if kernel in MAPS:
        found["OUT"] = getattr(tl, dtype)
    return found


def source(kernel: str, dtype: str, config: StreamConfig) -> Source:
    """Return what to compile ahead of time: ``kernel`` on whole blocks of ``dtype``."""
    reduces = kernel in REDUCTIONS
    item = _TRITON_TYPES[dtype]
    operand = f"*{item}"
    if config.tma:
        box = f"{config.block_bytes // ROW_BYTES}, {ROW_BYTES // ITEM_BYTES[dtype]}"
        operand = f"tensordesc<{item}[{box}]>"
    sums = "*fp64" if dtype == "float64" else "*fp32"
    names = ("a_desc", "b_desc", "c_desc") if config.tma else ("a_ptr", "b_ptr", "c_ptr")
    signature: Mapping[str, str] = {
        names[0]: operand,
        names[1]: operand,
        **({"partials_ptr": sums} if reduces else {names[2]: operand}),
        "rows" if config.tma else "n": "i32",
    }
    return Source(
        _KERNELS[reduces, form_of(config)],
        signature,
        constexprs(kernel, dtype, config, config.block(dtype), 0.4),
        config.num_warps,
    )
