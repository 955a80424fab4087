"""Decode attention by our own kernel: caches in pages or in one piece, of 2-byte or fp8 elements.

What ``triton_decode`` computes, as work to be measured: caches that go round, their accounting
(scales and page tables are a thousandth of the cache and not counted), and the check, whose
reference reads the cache as it is stored, so that only the kernel's own error shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels import llm_check
from roofprobe.kernels.accuracy import poison
from roofprobe.kernels.attention import DTYPES, Heads, check_attention, require
from roofprobe.kernels.rotation import sets_within
from roofprobe.kernels.routes import compute_capability
from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

if TYPE_CHECKING:
    import torch

PAGE_TOKENS = 16  # of a page, the usual size in serving engines
K_SCALE, V_SCALE = 0.5, 0.75  # of an fp8 cache; not 1, or a kernel that forgets them would pass
KV_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
_AMD_FP8 = ("gfx942", "gfx950", "gfx1200", "gfx1201")


def unavailable(target: Target, precision: str, kv_precision: str) -> Unsupported | None:
    """Say why our kernel does not run on ``target``, or return None when it can be tried."""
    if not target.is_gpu or target.architecture is None:
        return Unsupported(
            "no-triton-target",
            f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a {target.kind}",
        )
    if kv_precision not in KV_BYTES or precision not in ("bf16", "fp16"):
        return Unsupported(
            "precision", f"our kernel has no {precision} attention over a {kv_precision} cache"
        )
    capability = compute_capability(target.architecture)
    if capability is not None and capability < (80 if precision == "bf16" else 75):
        return Unsupported(
            "architecture",
            f"our decode kernel needs {precision} products in tensor units, this device is "
            f"{target.architecture}",
            "a GPU of compute capability 8.0 or newer",
        )
    if kv_precision == "fp8":
        old = capability is not None and capability < 89
        if old or (target.kind == "rocm" and target.architecture not in _AMD_FP8):
            return Unsupported(
                "architecture",
                f"{target.architecture} has no conversion from fp8 (e4m3)",
                "a GPU of compute capability 8.9 or newer, or gfx942",
            )
    return without_triton()


def prepare(
    heads: Heads,
    precision: str,
    kv_precision: str,
    target: Target,
    *,
    paged: bool,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return the attention of one token per sequence over caches that go round.

    Raises ``Unsupported``.
    """
    import torch

    from roofprobe.kernels import triton_decode

    reason = unavailable(target, precision, kv_precision)
    if reason is not None:
        raise reason
    require(heads)
    assert target.architecture is not None, target
    device = torch.device(target.torch_device)
    generator = torch.Generator(device=device).manual_seed(seed)
    pages = -(-heads.kv_len // PAGE_TOKENS)
    tokens = heads.batch * (pages * PAGE_TOKENS if paged else heads.kv_len)
    shape = (tokens, heads.kv_heads, heads.head_dim)
    set_bytes = 2 * math.prod(shape) * KV_BYTES[kv_precision]
    dtype = getattr(torch, DTYPES[precision])
    stored = _fp8_type(target) if kv_precision == "fp8" else dtype
    beside = 2 * heads.batch * heads.heads * heads.head_dim * dtype.itemsize
    sets = sets_within(set_bytes, cache_bytes, limit_bytes, beside_bytes=beside)
    q = torch.empty(heads.batch, heads.heads, heads.head_dim, dtype=dtype, device=device)
    q.normal_(generator=generator)
    out = torch.empty_like(q)
    config = triton_decode.config_for(target.architecture, narrow=kv_precision == "fp8")
    table = _table(heads.batch, pages, device, seed) if paged else None
    scales = {"k_scale": K_SCALE, "v_scale": V_SCALE} if kv_precision == "fp8" else {}
    caches = [tuple(_normal(shape, stored, generator) for _ in "kv") for _ in range(sets)]
    try:
        launches = tuple(
            triton_decode.launcher(
                q, k, v, table, out, kv_len=heads.kv_len, config=config,
                units=target.unit_count or 1, page=PAGE_TOKENS if paged else 0,
                scale=1 / math.sqrt(heads.head_dim), **scales,
            )
            for k, v in caches
        )  # fmt: skip
    except ValueError as error:
        raise Unsupported("shape", str(error)) from error
    item = KV_BYTES[kv_precision]
    counted = 2 * heads.batch * heads.kv_len * heads.kv_heads * heads.head_dim * item
    return Work(
        launches=launches,
        flops=heads.flops,
        bytes_read=counted + q.nbytes,
        bytes_written=out.nbytes,
        array_bytes=set_bytes,
        check=partial(_check, heads, precision, q, caches[0], table, out, launches[0], scales),
        kernel="flash-decoding (triton)",
        config={
            "config": config.name,
            "page_tokens": PAGE_TOKENS if paged else 0,
            **{name: str(value) for name, value in scales.items()},
        },
    )


def _fp8_type(target: Target) -> torch.dtype:
    import torch

    if target.architecture == "gfx942":
        return torch.float8_e4m3fnuz
    return torch.float8_e4m3fn


def _normal(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Return normal values, rounded to ``dtype``; in pieces, for float32 of all might not fit."""
    import torch

    values = torch.empty(shape, dtype=dtype, device=generator.device)
    flat = values.view(-1)
    for start in range(0, flat.numel(), 1 << 26):
        part = flat[start : start + (1 << 26)]
        part.copy_(torch.empty(part.numel(), device=part.device).normal_(generator=generator))
    return values


def _table(batch: int, pages: int, device: torch.device, seed: int) -> torch.Tensor:
    """Return which page comes where (batch, pages): all pages of all sequences, shuffled."""
    import torch

    order = torch.randperm(batch * pages, generator=torch.Generator().manual_seed(seed))
    return order.view(batch, pages).to(device, torch.int32)


def _check(
    heads: Heads,
    precision: str,
    q: torch.Tensor,
    cache: tuple[torch.Tensor, ...],
    table: torch.Tensor | None,
    out: torch.Tensor,
    launch: Callable[[], object],
    scales: dict[str, float],
) -> Check:
    poison(out)
    launch()
    k, v = (_in_order(part, table, heads) for part in cache)
    if scales:
        k, v = (part.float() * scales[name] for part, name in ((k, "k_scale"), (v, "v_scale")))
    tolerance = llm_check.TOLERANCES[precision]
    return check_attention(heads, q.unsqueeze(2), k, v, out.unsqueeze(2), tolerance)


def _in_order(part: torch.Tensor, table: torch.Tensor | None, heads: Heads) -> torch.Tensor:
    """Return (batch, kv_heads, kv_len, width) of a cache as its table orders it."""
    import torch

    width = part.shape[-1]
    if table is not None:
        # by bytes: not every torch takes fp8 elements by an index
        pages = part.view(torch.uint8).view(-1, PAGE_TOKENS, heads.kv_heads, width * part.itemsize)
        part = pages[table.long()].view(part.dtype)
    rows = part.reshape(heads.batch, -1, heads.kv_heads, width)[:, : heads.kv_len]
    return rows.transpose(1, 2)
