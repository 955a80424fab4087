"""Attention of language models, as work to be measured: prefill and decode with grouped heads.

With h query heads and h_kv heads in the cache, each of d elements, a query attends to the keys
before it and to its own:

- **prefill**: q tokens at the end of a sequence of s; the last token sees s keys, the first
  s − q + 1. A sequence has q·s − q(q−1)/2 pairs of query and key, and each costs 4·d operations
  per head (2·d for the score, 2·d for the sum). Kernels work in tiles and do a little more along
  the diagonal; what must be done is counted, not what a tile wastes.
- **decode**: one token against s keys: 4·d·s operations per head on 2·s·h_kv·d elements of the
  cache, about h/h_kv operations per byte in bf16. It is bound by the stream of the cache.

Bytes count each tensor once: queries, keys, values read, the result written. The library's kernels
are torch's SDPA backends; ours, for caches in pages and in fp8, is in ``triton_decode``. Values are
normally distributed: scores then have a deviation of 1 and a softmax that prefers some keys, so
that a key left out shows in the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from roofprobe.kernels import llm_check
from roofprobe.kernels.rotation import sets_within
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_CHUNK_ELEMENTS = 1 << 24
_HALVES = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of an attention: sequences, tokens asked, tokens in the cache, heads, their width."""

    batch: int
    query_len: int
    kv_len: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def pairs(self) -> int:
        """Return the pairs of query and visible key of one sequence and head."""
        q = self.query_len
        return q * self.kv_len - q * (q - 1) // 2

    @property
    def flops(self) -> int:
        """Return 4 · d operations per pair, head and sequence."""
        return 4 * self.head_dim * self.pairs * self.heads * self.batch

    @property
    def problem(self) -> str | None:
        """Say why there is no such attention, or None."""
        sizes = (self.batch, self.query_len, self.heads, self.kv_heads, self.head_dim)
        if min(sizes) < 1 or self.kv_len < self.query_len:
            return "attention needs sizes of at least 1 and kv_len of at least query_len"
        if self.heads % self.kv_heads:
            return f"{self.heads} heads cannot share {self.kv_heads} heads of the cache evenly"
        return None


def require(heads: Heads) -> None:
    """Raise ``Unsupported`` (``shape``) where the sizes make no attention."""
    if heads.problem:
        raise Unsupported("shape", heads.problem)


def backends(target: Target, heads: Heads, precision: str) -> tuple[str, ...]:
    """Return the names of SDPA's backends worth trying on ``target``, the likeliest best first.

    On a processor torch has one choice of its own. Grouped heads are done by the flash and cuDNN
    kernels (and by plain products); the memory-efficient one has none, and none of the first two
    does float32.
    """
    if not target.is_gpu:
        return ("default",)
    fused = ("flash", "cudnn") if precision in _HALVES else ()
    efficient = ("efficient",) if heads.heads == heads.kv_heads else ()
    return (*fused, *efficient) or ("math",)


def prepare_prefill(
    heads: Heads,
    precision: str,
    target: Target,
    *,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return causal attention of the last ``query_len`` tokens through SDPA.

    Without a prefix everything has just been computed and nothing goes round; with one, the cache
    does. Raises ``Unsupported``.
    """
    require(heads)
    tensors = _Tensors(heads, precision, target, seed)
    cold = heads.kv_len > heads.query_len
    sets = tensors.sets(cache_bytes if cold else 0, limit_bytes)
    q = tensors.queries()
    caches = [tensors.cache() for _ in range(sets)]
    mask, causal = _mask(heads, q, target)
    launches = tuple(_launch(heads, q, k, v, mask, causal) for k, v in caches)
    return _work(heads, precision, q, caches, launches)


def prepare_decode(
    heads: Heads,
    precision: str,
    target: Target,
    *,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return the attention of one token per sequence through SDPA; caches go round.

    Raises ``Unsupported``.
    """
    require(heads)
    tensors = _Tensors(heads, precision, target, seed)
    sets = tensors.sets(cache_bytes, limit_bytes)
    q = tensors.queries()
    caches = [tensors.cache() for _ in range(sets)]
    launches = tuple(_launch(heads, q, k, v, None, False) for k, v in caches)
    return _work(heads, precision, q, caches, launches)


class _Tensors:
    """Makes queries and caches of one attention from one seed."""

    def __init__(self, heads: Heads, precision: str, target: Target, seed: int) -> None:
        import torch

        name = DTYPES.get(precision)
        if name is None:
            raise Unsupported("precision", f"there is no attention in {precision} here")
        self._heads = heads
        self._dtype: torch.dtype = getattr(torch, name)
        self._device = torch.device(target.torch_device)
        self._generator = torch.Generator(device=self._device).manual_seed(seed)
        each, item = heads.batch * heads.head_dim, self._dtype.itemsize
        self.cache_bytes = 2 * each * heads.kv_len * heads.kv_heads * item
        masked = heads.query_len * heads.kv_len * (heads.kv_len > heads.query_len > 1)
        self.beside_bytes = (2 * each * heads.query_len * heads.heads + 3 * masked) * item

    def sets(self, cache_bytes: int | None, limit_bytes: int | None) -> int:
        """Return how many caches go round; raises ``Unsupported`` where none has room."""
        return sets_within(
            self.cache_bytes, cache_bytes, limit_bytes, beside_bytes=self.beside_bytes
        )

    def queries(self) -> torch.Tensor:
        """Return (batch, heads, query_len, head_dim), laid out as a projection leaves it."""
        h = self._heads
        return self._normal(h.batch, h.query_len, h.heads, h.head_dim).transpose(1, 2)

    def cache(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values (batch, kv_heads, kv_len, head_dim), as torch models keep them."""
        h = self._heads
        shape = (h.batch, h.kv_heads, h.kv_len, h.head_dim)
        return self._normal(*shape), self._normal(*shape)

    def _normal(self, *shape: int) -> torch.Tensor:
        import torch

        return torch.empty(shape, dtype=self._dtype, device=self._device).normal_(
            generator=self._generator
        )


def _mask(heads: Heads, q: torch.Tensor, target: Target) -> tuple[Any, bool]:
    """Return (mask, is_causal): torch's own flag means the first keys, not the last ones."""
    import torch

    if heads.query_len == heads.kv_len:
        return None, heads.query_len > 1
    if heads.query_len == 1:
        return None, False
    if target.is_gpu:
        from torch.nn.attention.bias import causal_lower_right

        return causal_lower_right(heads.query_len, heads.kv_len), False
    seen = torch.ones(heads.query_len, heads.kv_len, dtype=torch.bool)
    hidden = ~seen.tril(heads.kv_len - heads.query_len)
    return torch.zeros(hidden.shape, dtype=q.dtype).masked_fill_(hidden, -math.inf), False


def _launch(
    heads: Heads, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, causal: bool
) -> Callable[[], torch.Tensor]:
    from torch.nn.functional import scaled_dot_product_attention

    grouped = {"enable_gqa": True} if heads.heads != heads.kv_heads else {}
    return partial(
        scaled_dot_product_attention, q, k, v, attn_mask=mask, is_causal=causal, **grouped
    )


def _work(
    heads: Heads,
    precision: str,
    q: torch.Tensor,
    caches: list[tuple[torch.Tensor, torch.Tensor]],
    launches: tuple[Callable[[], torch.Tensor], ...],
) -> Work:
    k, v = caches[0]

    def check() -> Check:
        out = llm_check.fresh(launches[0])
        return check_attention(heads, q, k, v, out, llm_check.TOLERANCES[precision])

    return Work(
        launches=launches,
        flops=heads.flops,
        bytes_read=q.nbytes + k.nbytes + v.nbytes,
        bytes_written=q.nbytes,
        array_bytes=k.nbytes + v.nbytes,
        check=check,
        kernel="SDPA",
    )


def by_backend(work: Work, backend: str) -> Work:
    """Return attention through SDPA as ``backend`` does it; ``default`` leaves the choice."""
    return replace(
        work,
        kernel=f"SDPA {backend}",
        config={**work.config, "backend": backend},
        settings=partial(selected, backend),
    )


def selected(backend: str) -> AbstractContextManager[None]:
    """Return a context in which SDPA takes this backend and no other."""
    if backend == "default":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kinds = {
        "flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH,
    }  # fmt: skip
    return sdpa_kernel([kinds[backend]])


def check_attention(
    heads: Heads,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    tolerance: float,
) -> Check:
    """Compare ``out`` (batch, heads, query_len, d) with float64; k and v are as they count.

    ``q`` is as ``out``, ``k`` and ``v`` (batch, kv_heads, kv_len, d); v may be of another width.
    """
    rows = out.reshape(-1, out.shape[-1])
    return llm_check.check_rows(rows, reference(heads, q, k, v), tolerance)


def reference(
    heads: Heads, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> Iterator[torch.Tensor]:
    """Yield float64 blocks of rows of the result, ordered by batch, head and query."""
    scale = 1 / math.sqrt(heads.head_dim) if scale is None else scale
    group, length = heads.heads // heads.kv_heads, heads.query_len
    each = heads.kv_len * max(heads.heads * length, heads.kv_heads * k.shape[-1])
    if each > _CHUNK_ELEMENTS:
        for sequence in range(heads.batch):
            for head in range(heads.heads):
                keys, values = (llm_check.wide(t[sequence, head // group]) for t in (k, v))
                asked = q[sequence, head]
                for first in range(0, length, step := max(1, _CHUNK_ELEMENTS // heads.kv_len)):
                    part = llm_check.wide(asked[first : first + step])
                    yield _attended(heads, part, keys, values, scale, first)
        return
    together = max(1, _CHUNK_ELEMENTS // each)
    for start in range(0, heads.batch, together):
        keys, values = (llm_check.wide(t[start : start + together]) for t in (k, v))
        keys, values = (t.repeat_interleave(group, dim=1) for t in (keys, values))
        found = _attended(
            heads, llm_check.wide(q[start : start + together]), keys, values, scale, 0
        )
        yield found.reshape(-1, found.shape[-1])


def _attended(
    heads: Heads, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, first: int
) -> torch.Tensor:
    """Return the result of the queries from ``first`` on; the last two axes are rows and width."""
    import torch

    scores = q @ k.transpose(-2, -1) * scale
    places = torch.arange(heads.kv_len, device=q.device)
    seen = torch.arange(first, first + q.shape[-2], device=q.device)
    seen += heads.kv_len - heads.query_len
    scores.masked_fill_(places[None, :] > seen[:, None], -math.inf)
    return torch.softmax(scores, dim=-1) @ v
