"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): one compressed cache for all heads.

The cache holds ``kv_rank + rope_dim`` elements per token, whatever the number of heads.

- **decode, absorbed**: the projections of keys and values are folded into the query and the output,
  so that all heads read the compressed cache itself: 2 · ((kv_rank + rope_dim) + kv_rank)
  operations per head and cached token on (kv_rank + rope_dim) elements. Many heads share one cache,
  so this decode is not bound by bandwidth alone. The route ``bmm`` is two batched products and a
  softmax by torch (its scores pass through memory); counted is the cache, once.
- **prefill, not absorbed**: ordinary attention with keys of nope_dim + rope_dim and values of v_dim
  elements: 2 · (nope_dim + rope_dim + v_dim) operations per pair.

The two forms differ 3.4 times in operations, so a record says which one ran.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels import llm_check
from roofprobe.kernels.attention import DTYPES, Heads, reference, require
from roofprobe.kernels.rotation import require_room, sets_within
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch


def prefill_backends(target: Target) -> tuple[str, ...]:
    """Return SDPA's backends that may take values narrower than keys."""
    return ("cudnn", "efficient") if target.is_gpu else ("default",)


def prepare_decode(
    precision: str,
    target: Target,
    *,
    batch: int,
    kv_len: int,
    heads: int,
    kv_rank: int,
    rope_dim: int,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return the absorbed decode of one token per sequence; caches go round.

    Raises ``Unsupported``.
    """
    import torch

    dtype = _dtype(precision)
    if min(batch, kv_len, heads, kv_rank, rope_dim) < 1:
        raise Unsupported("shape", "latent attention needs sizes of at least 1")
    device = torch.device(target.torch_device)
    generator = torch.Generator(device=device).manual_seed(seed)
    wide = kv_rank + rope_dim
    size = batch * kv_len * wide * dtype.itemsize
    beside = batch * heads * (2 * wide + 6 * kv_len) * dtype.itemsize  # with scores and weights
    sets = sets_within(size, cache_bytes, limit_bytes, beside_bytes=beside)
    q = torch.empty(batch, heads, wide, dtype=dtype, device=device).normal_(generator=generator)
    q.mul_(1 / math.sqrt(wide))  # the factor of the scores, which a projection can bring along
    caches = [
        torch.empty(batch, kv_len, wide, dtype=dtype, device=device).normal_(generator=generator)
        for _ in range(sets)
    ]
    launches = tuple(partial(_absorbed, q, cache, kv_rank) for cache in caches)
    shape = Heads(batch, 1, kv_len, heads, 1, wide)

    def check() -> Check:
        out = llm_check.fresh(launches[0])
        keys = caches[0].unsqueeze(1)
        rows = reference(shape, q.unsqueeze(2), keys, keys[..., :kv_rank], 1.0)
        return llm_check.check_rows(out.reshape(-1, kv_rank), rows, llm_check.TOLERANCES[precision])

    return Work(
        launches=launches,
        flops=2 * batch * heads * kv_len * (wide + kv_rank),
        bytes_read=q.nbytes + caches[0].nbytes,
        bytes_written=batch * heads * kv_rank * dtype.itemsize,
        array_bytes=caches[0].nbytes,
        check=check,
        kernel="torch.bmm, softmax, torch.bmm",
        config={"form": "absorbed"},
    )


def _absorbed(q: torch.Tensor, cache: torch.Tensor, rank: int) -> torch.Tensor:
    import torch

    scores = torch.bmm(q, cache.transpose(1, 2))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.bmm(weights, cache[..., :rank])


def prepare_prefill(
    precision: str,
    target: Target,
    *,
    batch: int,
    query_len: int,
    kv_len: int,
    heads: int,
    nope_dim: int,
    rope_dim: int,
    v_dim: int,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return causal attention with keys wider than values through SDPA; raises ``Unsupported``."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    dtype = _dtype(precision)
    wide = nope_dim + rope_dim
    shape = Heads(batch, query_len, kv_len, heads, heads, wide)
    require(shape)
    if query_len != kv_len:
        raise Unsupported("shape", "latent prefill is measured without a prefix")
    require_room(2 * batch * kv_len * heads * (wide + v_dim) * dtype.itemsize, limit_bytes)
    device = torch.device(target.torch_device)
    generator = torch.Generator(device=device).manual_seed(seed)
    q, k, v = (
        torch.empty(batch, kv_len, heads, width, dtype=dtype, device=device)
        .normal_(generator=generator)
        .transpose(1, 2)
        for width in (wide, wide, v_dim)
    )
    launch = partial(scaled_dot_product_attention, q, k, v, is_causal=True)

    def check() -> Check:
        out = llm_check.fresh(launch)
        rows = reference(shape, q, k, v)
        return llm_check.check_rows(out.reshape(-1, v_dim), rows, llm_check.TOLERANCES[precision])

    return Work(
        launches=(launch,),
        flops=2 * (wide + v_dim) * shape.pairs * heads * batch,
        bytes_read=q.nbytes + k.nbytes + v.nbytes,
        bytes_written=v.nbytes,
        array_bytes=k.nbytes + v.nbytes,
        check=check,
        kernel="SDPA",
        config={"form": "not absorbed"},
    )


def _dtype(precision: str) -> torch.dtype:
    import torch

    name = DTYPES.get(precision)
    if name is None:
        raise Unsupported("precision", f"there is no attention in {precision} here")
    found: torch.dtype = getattr(torch, name)
    return found
