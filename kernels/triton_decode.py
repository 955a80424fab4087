"""Decode attention over long caches in Triton: flash-decoding with the keys split among programs.

One query token per sequence gives a GPU little to do in parallel: batch × heads of the cache. So
each sequence's keys are split, a program takes one split of one head of the cache with all query
heads that share it, and a second kernel joins the partial results by their log-sum-exp (Dao et al.,
"Flash-Decoding for long-context inference", 2023). The query heads of a group are the rows of one
matrix product, padded to the 16 that ``tl.dot`` takes: the cache is read once for all of them.

The cache is token by token, (tokens, kv_heads, head_dim), one sequence after the other or in pages
through a table, as serving engines keep it. Its elements may be fp8: they are widened on the way to
the product, with one scale each for keys and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source

if TYPE_CHECKING:
    import torch

LOG2E = 1.4426950408889634
_LEAST_ROWS = 16  # of a tl.dot
_LEAST_SPLIT = 256  # keys: below, joining the parts costs more than it gives
_MOST_SPLITS = 128
_PROGRAMS_PER_UNIT = 4


@triton.jit
def decode_split_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, out_ptr, sums_ptr, scale_log2, v_scale,
    kv_len, split_len, table_stride,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
    KEYS: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """Attend to one split: partial results (float32, normalised) and their log2 of sums.

    ``out_ptr`` is (batch · heads, splits, WIDTH), ``sums_ptr`` (batch · heads, splits).
    """
    pair, split = tl.program_id(0), tl.program_id(1)
    splits = tl.num_programs(1)
    sequence, kv_head = pair // KV_HEADS, pair % KV_HEADS
    rows, columns = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    heads = pair * GROUP + rows  # batch · heads, all that share this head of the cache
    real = rows < GROUP
    q = tl.load(q_ptr + heads[:, None] * WIDTH + columns[None, :], mask=real[:, None], other=0.0)
    first = split * split_len
    last = tl.minimum(first + split_len, kv_len)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    acc = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in tl.range(first, last, KEYS):
        places = start + tl.arange(0, KEYS)
        known = places < last
        if PAGE > 0:
            page = tl.load(
                table_ptr + sequence * table_stride + places // PAGE, mask=known, other=0
            )  # fmt: skip
            tokens = page.to(tl.int64) * PAGE + places % PAGE
        else:
            tokens = sequence.to(tl.int64) * kv_len + places
        offsets = (tokens * KV_HEADS + kv_head)[:, None] * WIDTH + columns[None, :]
        k = tl.load(k_ptr + offsets, mask=known[:, None], other=0.0).to(q.dtype)
        scores = tl.dot(q, tl.trans(k)) * scale_log2
        scores = tl.where(known[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(weights, axis=1)
        v = tl.load(v_ptr + offsets, mask=known[:, None], other=0.0).to(q.dtype)
        acc = acc * shrink[:, None] + tl.dot(weights.to(q.dtype), v)
        top = higher
    acc = acc / total[:, None] * v_scale
    place = heads * splits + split
    tl.store(
        out_ptr + place[:, None] * WIDTH + columns[None, :],
        acc.to(out_ptr.dtype.element_ty), mask=real[:, None],
    )  # fmt: skip
    tl.store(sums_ptr + place, top + tl.log2(total), mask=real)


@triton.jit
def decode_join_kernel(
    parts_ptr, sums_ptr, out_ptr, splits, WIDTH: tl.constexpr, SPLITS: tl.constexpr
):  # fmt: skip
    """out[head] = parts of all splits of a head, weighted by 2 to their log2 of sums."""
    head = tl.program_id(0)
    places, columns = tl.arange(0, SPLITS), tl.arange(0, WIDTH)
    known = places < splits
    sums = tl.load(sums_ptr + head * splits + places, mask=known, other=float("-inf"))
    weights = tl.exp2(sums - tl.max(sums, axis=0))
    offsets = (head * splits + places)[:, None] * WIDTH + columns[None, :]
    parts = tl.load(parts_ptr + offsets, mask=known[:, None], other=0.0)
    joined = tl.sum(parts * weights[:, None], axis=0) / tl.sum(weights, axis=0)
    tl.store(out_ptr + head * WIDTH + columns, joined.to(out_ptr.dtype.element_ty))


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """Keys per step, warps, and stages of loads under way."""

    keys: int
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """Return the name: ``k64-w4-s3``."""
        return f"k{self.keys}-w{self.num_warps}-s{self.num_stages}"


# Starting points, not tuned on hardware yet: as many bytes of keys and values under way as an
# architecture needs, within its shared memory.
_CONFIGS: dict[str, tuple[DecodeConfig, DecodeConfig]] = {
    "sm_80": (DecodeConfig(64, 4, 3), DecodeConfig(64, 4, 3)),
    "sm_86": (DecodeConfig(64, 4, 2), DecodeConfig(64, 4, 2)),
    "sm_89": (DecodeConfig(64, 4, 2), DecodeConfig(64, 4, 3)),
    "sm_90": (DecodeConfig(64, 4, 3), DecodeConfig(128, 4, 3)),
    "sm_100": (DecodeConfig(64, 8, 3), DecodeConfig(64, 8, 3)),
    "gfx942": (DecodeConfig(64, 4, 1), DecodeConfig(64, 4, 1)),
}
_OTHER = (DecodeConfig(32, 4, 2), DecodeConfig(32, 4, 2))


def config_for(architecture: str, *, narrow: bool) -> DecodeConfig:
    """Return the configuration for a cache of 2-byte or (``narrow``) 1-byte elements."""
    return _CONFIGS.get(architecture, _OTHER)[narrow]


def splits_for(pairs: int, kv_len: int, units: int) -> int:
    """Return into how many parts each sequence's keys go: enough programs to fill the device."""
    wanted = -(-_PROGRAMS_PER_UNIT * units // max(1, pairs))
    return max(1, min(wanted, -(-kv_len // _LEAST_SPLIT), _MOST_SPLITS))


def launcher(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    table: torch.Tensor | None,
    out: torch.Tensor,
    *,
    kv_len: int,
    config: DecodeConfig,
    units: int,
    page: int = 0,
    scale: float,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Callable[[], torch.Tensor]:
    """Return a call that attends with ``q`` (batch, heads, width) and writes ``out`` like it.

    ``k`` and ``v`` are (tokens, kv_heads, width); ``table`` (batch, pages) says which page of
    ``page`` tokens comes where, None where a sequence's tokens follow each other. The width is a
    power of two of at least 16. Raises ``ValueError`` where it is not.
    """
    import torch

    batch, heads, width = q.shape
    kv_heads = k.shape[1]
    if width & (width - 1) or width < _LEAST_ROWS:
        raise ValueError(f"heads are a power of two wide, at least {_LEAST_ROWS}, not {width}")
    splits = splits_for(batch * kv_heads, kv_len, units)
    step = max(config.keys, page)
    split_len = -(-kv_len // splits // step) * step
    splits = -(-kv_len // split_len)
    alone = splits == 1
    wide = torch.float32
    parts = out if alone else torch.empty(batch * heads, splits, width, dtype=wide, device=q.device)
    sums = torch.empty(batch * heads, splits, dtype=wide, device=q.device)
    constants = split_constants(heads, kv_heads, width, config, page)
    split_kernel: Any = decode_split_kernel
    join_kernel: Any = decode_join_kernel
    stride = 0 if table is None else table.shape[1]
    index = k if table is None else table

    def launch() -> torch.Tensor:
        split_kernel[(batch * kv_heads, splits)](
            q, k, v, index, parts, sums, scale * k_scale * LOG2E, v_scale,
            kv_len, split_len, stride,
            **constants, num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip
        if not alone:
            join_kernel[(batch * heads,)](
                parts, sums, out, splits,
                WIDTH=width, SPLITS=triton.next_power_of_2(splits), num_warps=4,
            )  # fmt: skip
        return out

    return launch


def split_constants(
    heads: int, kv_heads: int, width: int, config: DecodeConfig, page: int
) -> dict[str, int]:
    """Return the compile-time constants of the splitting kernel."""
    group = heads // kv_heads
    return {
        "KV_HEADS": kv_heads,
        "GROUP": group,
        "ROWS": max(_LEAST_ROWS, triton.next_power_of_2(group)),
        "WIDTH": width,
        "KEYS": config.keys,
        "PAGE": page,
    }


def sources(
    architecture: str, kv_type: str, *, heads: int, kv_heads: int, width: int, page: int
) -> tuple[Source, Source]:
    """Return what to compile ahead of time: both kernels; ``kv_type`` is ``bf16`` or an fp8."""
    config = config_for(architecture, narrow=kv_type != "bf16")
    split = {
        "q_ptr": "*bf16", "k_ptr": f"*{kv_type}", "v_ptr": f"*{kv_type}", "table_ptr": "*i32",
        "out_ptr": "*fp32", "sums_ptr": "*fp32", "scale_log2": "fp32", "v_scale": "fp32",
        "kv_len": "i32", "split_len": "i32", "table_stride": "i32",
    }  # fmt: skip
    join = {"parts_ptr": "*fp32", "sums_ptr": "*fp32", "out_ptr": "*bf16", "splits": "i32"}
    constants = split_constants(heads, kv_heads, width, config, page)
    return (
        Source(decode_split_kernel, split, constants, config.num_warps, config.num_stages),
        Source(decode_join_kernel, join, {"WIDTH": width, "SPLITS": 32}, num_warps=4),
    )
