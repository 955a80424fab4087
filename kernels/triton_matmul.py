"""Our own matrix product in Triton: C(m, n) = A(m, k) · B(n, k)ᵀ, for all precisions.

Three kernels compute it; a configuration (``kernels/triton_configs.py``) says which one:

* ``tiled``, here: one program per tile of C, walking along k. Software pipelining keeps loads in
  flight while the matrix unit works. It runs anywhere.
* ``persistent`` and ``persistent-tma``, in ``kernels/triton_persistent.py``: as many programs as
  the device holds, each walking over many tiles.

All of them order tiles in groups of rows, so that tiles that share operands run close together and
find them in L2, and keep the partial sums in fp32 (fp64 for ``fp64``, int32 for ``int8``, fp16 for
``fp16-acc16``).

FP8 on Ada and Hopper has two ways to add up. The tensor unit itself adds e4m3 products with about
14 bits; the rows with fast sums leave the running sum there for the whole length of k, the others
add each step's sum (128 products, the interval of CUTLASS) to fp32 registers. The second is what
training needs, and it costs registers and time: two rows, never one number.

Rows are those of ``kernels/rows.py``: a row says the types, the scaling and how sums are kept.

What a tile lowers to (``wgmma``, ``tcgen05``, ``mma.sync``, ``v_mfma``, or plain FMA) depends on
architecture, type and tile: ``kernels/lowering.py`` has the table, and tests compile each
configuration ahead of time to hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from roofprobe.kernels import triton_persistent
from roofprobe.kernels.aot import Source
from roofprobe.kernels.lowering import TYPES, element_types, kind_of
from roofprobe.kernels.lowering import unsupported_reason as unsupported_reason
from roofprobe.kernels.rows import BY_NAME
from roofprobe.kernels.triton_configs import Config
from roofprobe.kernels.triton_configs import config_for as config_for
from roofprobe.kernels.triton_configs import config_named as config_named
from roofprobe.kernels.triton_configs import configs_for as configs_for
from roofprobe.kernels.triton_tiles import accumulated, scaled, tile_at

if TYPE_CHECKING:
    import torch


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, out_ptr, scale_a_ptr, scale_b_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr, ACC: tl.constexpr, INPUT_PRECISION: tl.constexpr,
    FULL_SUMS: tl.constexpr, SCALING: tl.constexpr,
):  # fmt: skip
    """Compute one BLOCK_M x BLOCK_N tile of C; A is (m, k), B is (n, k), C is (m, n), row-major.

    Rows and columns beyond the edge are clamped when loading, which needs no mask in the inner
    loop, and masked when storing.
    """
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    pid_m, pid_n = tile_at(tl.program_id(0), tiles_m, tiles_n, GROUP_M)
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
        acc = accumulated(a, b, acc, ACC, INPUT_PRECISION, FULL_SUMS)
        a_tile += BLOCK_K
        b_tile += BLOCK_K
    acc = scaled(acc, scale_a_ptr, scale_b_ptr, row0, col0, m, n, BLOCK_M, BLOCK_N, SCALING)
    out_tile = out_ptr + row0 * n + col0
    mask = (offs_m[:, None] < left_m) & (offs_n[None, :] < left_n)
    offsets = offs_m[:, None] * n + offs_n[None, :]
    tl.store(out_tile + offsets, acc.to(out_ptr.dtype.element_ty), mask=mask)


_KERNELS = {
    "tiled": matmul_kernel,
    "persistent": triton_persistent.persistent_kernel,
    "persistent-tma": triton_persistent.persistent_tma_kernel,
}
# Everything else: float32.
_ACCUMULATORS = {"fp64": tl.float64, "int8": tl.int32, "fp16-acc16": tl.float16}
_LANGUAGE_TYPES = {
    "fp64": tl.float64, "fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16,
    "i32": tl.int32,
}  # fmt: skip
_ITEM_BYTES = {
    "fp64": 8, "fp32": 4, "i32": 4, "bf16": 2, "fp16": 2, "i8": 1, "fp8e4nv": 1, "fp8e4b8": 1,
}  # fmt: skip


def constexprs(row: str, k: int, config: Config) -> dict[str, object]:
    """Return the kernel's compile-time arguments for a product with inner length ``k``."""
    kind = kind_of(row)
    compute_row = BY_NAME[row]
    arguments: dict[str, object] = {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "GROUP_M": config.group_m,
        "ACC": _ACCUMULATORS.get(kind, tl.float32),
        "INPUT_PRECISION": "tf32" if kind == "tf32" else "ieee",
        "FULL_SUMS": config.full_sums,
        "SCALING": compute_row.scaling or "none",
    }
    if config.kernel == "persistent-tma":
        arguments["PARTS"] = config.epilogue_parts
        arguments["WARP_SPECIALIZE"] = config.warp_specialize
        arguments["OUT"] = _LANGUAGE_TYPES[TYPES[kind][1]]
    else:
        arguments["EVEN_K"] = k % config.block_k == 0
    return arguments


def source(row: str, arch: str, config: Config, *, k: int = 4096) -> Source:
    """Return what to compile ahead of time for this product on ``arch`` (``sm_90``, ``gfx942``)."""
    operand, output = element_types(row, arch)
    if config.kernel == "persistent-tma":
        columns = config.block_n // config.epilogue_parts
        tensors = {
            "a_desc": f"tensordesc<{operand}[{config.block_m}, {config.block_k}]>",
            "b_desc": f"tensordesc<{operand}[{config.block_n}, {config.block_k}]>",
            "out_desc": f"tensordesc<{output}[{config.block_m}, {columns}]>",
        }
    else:
        tensors = {"a_ptr": f"*{operand}", "b_ptr": f"*{operand}", "out_ptr": f"*{output}"}
    return Source(
        _KERNELS[config.kernel],
        {
            **tensors,
            "scale_a_ptr": "*fp32",
            "scale_b_ptr": "*fp32",
            "m": "i32",
            "n": "i32",
            "k": "i32",
        },
        constexprs(row, k, config),
        config.num_warps,
        config.num_stages,
    )


def shape_problem(config: Config, row: str, m: int, n: int, k: int) -> str | None:
    """Say in a sentence why ``config`` cannot compute the shape, or return None.

    Tensor descriptors need rows of A, B and C whose length in bytes is a multiple of 16 (CUDA
    driver API, ``cuTensorMapEncodeTiled``).
    """
    if config.kernel != "persistent-tma":
        return None
    operand, output = (_ITEM_BYTES[name] for name in TYPES[kind_of(row)])
    for axis, size, item_bytes in (("k", k, operand), ("n", n, output)):
        if size * item_bytes % 16:
            return (
                f"{config.name} uses tensor descriptors, which need rows of a multiple of 16 "
                f"bytes; {axis} = {size} gives {size * item_bytes}"
            )
    return None


def launcher(
    a: torch.Tensor,
    b_nk: torch.Tensor,
    out: torch.Tensor,
    *,
    row: str,
    config: Config,
    scale_a: torch.Tensor | None = None,
    scale_b: torch.Tensor | None = None,
    multiprocessors: int | None = None,
) -> Callable[[], object]:
    """Return a call that enqueues out (m, n) = a (m, k) · b_nk (n, k)ᵀ, times the scales.

    All three are contiguous. The scales are float32 on the device: one number each, or one per row
    of A (m,) and one per row of B (n,), as the row's scaling says. ``multiprocessors`` sizes the
    grid of a persistent kernel; without it the device of ``a`` is asked. The call allocates nothing
    on the device, so that it can be recorded into a graph; descriptors are made here, once.
    Raises ``ValueError`` where the configuration cannot compute the shape.
    """
    (m, k), (n, k_b) = a.shape, b_nk.shape
    assert k == k_b, f"{a.shape=}, {b_nk.shape=}"
    assert out.shape == (m, n), f"{a.shape=}, {b_nk.shape=}, {out.shape=}"
    assert a.is_contiguous(), a.stride()
    assert b_nk.is_contiguous(), b_nk.stride()
    assert out.is_contiguous(), out.stride()
    problem = shape_problem(config, row, m, n, k)
    if problem is not None:
        raise ValueError(problem)
    _check_scales(row, m, n, scale_a, scale_b)
    tensors: tuple[object, ...] = (a, b_nk, out)
    if config.kernel == "persistent-tma":
        tensors = _descriptors(a, b_nk, out, config)
    tiles = triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n)
    grid = (programs_for(tiles, config, a, multiprocessors),)
    compiled_for = constexprs(row, k, config)
    kernel = _KERNELS[config.kernel][grid]

    def launch_once() -> object:
        return kernel(
            *tensors,
            a if scale_a is None else scale_a,
            b_nk if scale_b is None else scale_b,
            m,
            n,
            k,
            **compiled_for,
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            enable_fp_fusion=True,
        )

    return launch_once


def launch(
    a: torch.Tensor,
    b_nk: torch.Tensor,
    out: torch.Tensor,
    *,
    row: str,
    config: Config,
    scale_a: torch.Tensor | None = None,
    scale_b: torch.Tensor | None = None,
    multiprocessors: int | None = None,
) -> None:
    """Enqueue one product: :func:`launcher` and its call in one go."""
    launcher(
        a,
        b_nk,
        out,
        row=row,
        config=config,
        scale_a=scale_a,
        scale_b=scale_b,
        multiprocessors=multiprocessors,
    )()


def _check_scales(
    row: str, m: int, n: int, scale_a: torch.Tensor | None, scale_b: torch.Tensor | None
) -> None:
    wanted = {None: None, "tensorwise": ((), ()), "rowwise": ((m,), (n,))}[BY_NAME[row].scaling]
    given = (
        None if scale_a is None or scale_b is None else (tuple(scale_a.shape), tuple(scale_b.shape))
    )
    assert given == wanted, f"{row} takes scales of shape {wanted}, got {given}"


def _descriptors(
    a: torch.Tensor, b_nk: torch.Tensor, out: torch.Tensor, config: Config
) -> tuple[object, object, object]:
    from triton.tools.tensor_descriptor import TensorDescriptor

    columns = config.block_n // config.epilogue_parts
    return (
        TensorDescriptor.from_tensor(a, [config.block_m, config.block_k]),
        TensorDescriptor.from_tensor(b_nk, [config.block_n, config.block_k]),
        TensorDescriptor.from_tensor(out, [config.block_m, columns]),
    )


def programs_for(tiles: int, config: Config, a: torch.Tensor, multiprocessors: int | None) -> int:
    """Return the grid: a program per tile, or for persistent kernels what fits at one time."""
    if config.kernel == "tiled":
        return tiles
    if multiprocessors is None:
        multiprocessors = _multiprocessors(a.device.index or 0)
    return min(tiles, multiprocessors * config.programs_per_sm)


@lru_cache
def _multiprocessors(device_index: int) -> int:
    import torch

    return int(torch.cuda.get_device_properties(device_index).multi_processor_count)
