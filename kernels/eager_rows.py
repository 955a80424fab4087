"""What transformers' eager Llama does between its products, call by call, each as work of its own.

A serving engine fuses these; the reference code of Hugging Face transformers (models/llama,
cache_utils; version 5) makes several kernels of each, and that is what a model run with it pays:

===========  =====================================================================================
operation    calls, for rows of ``width`` elements (one token's vector, or its part)
===========  =====================================================================================
rmsnorm      to float32, pow, mean, add, rsqrt, multiply, back, multiply by the weight
rope         x · cos + cat(−x₂, x₁) · sin on heads that a projection left behind (one of q and k)
silu_mul     silu(gate) · up of two tensors
add          residual + x
kv_store     a prompt's keys and values, transposed, into a cache that is empty: two torch.cat
kv_append    a new token's behind those of ``rows`` − 1: two torch.cat that copy the whole cache
embed        rows of a table looked up
angles       cos and sin of the positions, once per step
===========  =====================================================================================

Operands have just been written and stay where they are; only a cache that a token is appended to
was last touched a step ago, so caches go round. Each tensor is counted once, as the model has to
move it, not as often as these calls do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from roofprobe.kernels import llm_check
from roofprobe.kernels.rotation import require_room, sets_within
from roofprobe.kernels.rows_work import DTYPES, EPSILON
from roofprobe.kernels.work import Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

ROUTE = "transformers"
_TABLE_ROWS = 8192  # of the table that embed looks up
_BASE = 10000.0

Launch = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _Sizes:
    rows: int
    width: int
    head_dim: int
    cache_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class _Made:
    """Launches, the bytes of each, what the first one must give (float64) and which of it."""

    launches: tuple[Launch, ...]
    read: int
    written: int
    reference: Callable[[], torch.Tensor]


class _Fresh:
    """Makes normally distributed tensors of one type from one seed."""

    def __init__(self, precision: str, target: Target, seed: int) -> None:
        import torch

        self.dtype: torch.dtype = getattr(torch, DTYPES[precision])
        self.device = torch.device(target.torch_device)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)

    def __call__(self, *shape: int) -> torch.Tensor:
        import torch

        return torch.empty(shape, dtype=self.dtype, device=self.device).normal_(
            generator=self.generator
        )


def prepare(
    op: str,
    precision: str,
    target: Target,
    *,
    rows: int,
    width: int,
    head_dim: int,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return one operation over ``rows`` rows of ``width``; raises ``Unsupported``.

    ``head_dim`` counts where heads do. Caches go round until they exceed four ``cache_bytes``.
    """
    if op not in _MAKERS:
        raise Unsupported("unknown-route", f"transformers has no operation {op!r} of its own")
    if precision not in DTYPES:
        raise Unsupported("precision", f"there is no {op} of {precision} here")
    if min(rows, width) < 1 or (op in _BY_HEADS and width % head_dim):
        raise Unsupported("shape", f"{op} cannot be done on {rows} rows of {width}")
    require_room(24 * rows * width, limit_bytes)
    sizes = _Sizes(rows, width, head_dim, cache_bytes, limit_bytes)
    made = _MAKERS[op](_Fresh(precision, target, seed), sizes)
    tolerance = llm_check.TOLERANCES[precision]

    def check() -> Any:
        reference = made.reference().reshape(-1, made.reference().shape[-1])
        found = llm_check.fresh(lambda: _joined(made.launches[0]()).reshape(reference.shape))
        return llm_check.check_rows(found, [reference], tolerance)

    return Work(
        launches=made.launches,
        flops=0,
        bytes_read=made.read,
        bytes_written=made.written,
        array_bytes=made.read,
        check=check,
        kernel=f"{op} ({ROUTE})",
    )


def _joined(found: Any) -> torch.Tensor:
    """Return a pair of tensors as one."""
    import torch

    return torch.stack(found) if isinstance(found, tuple) else found


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x / rms(x) · weight by the calls of LlamaRMSNorm."""
    import torch

    dtype = x.dtype
    wide = x.to(torch.float32)
    variance = wide.pow(2).mean(-1, keepdim=True)
    wide = wide * torch.rsqrt(variance + EPSILON)
    return weight * wide.to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate heads (batch, heads, tokens, d) by the calls of apply_rotary_pos_emb."""
    import torch

    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    low, high = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return (x * cos) + (torch.cat((-high, low), dim=-1) * sin)


def angles(
    positions: torch.Tensor, frequencies: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cos and sin (1, tokens, d) by the calls of LlamaRotaryEmbedding."""
    import torch

    turned = positions[..., None].float() * frequencies.to(positions.device, torch.float)
    both = torch.cat((turned, turned), dim=-1)
    return (both.cos() * 1.0).to(dtype), (both.sin() * 1.0).to(dtype)


def _norm(new: _Fresh, s: _Sizes) -> _Made:
    x, weight = new(1, s.rows, s.width), new(s.width)

    def reference() -> torch.Tensor:
        wide = llm_check.wide(x)
        scale = (wide.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()
        return wide * scale * llm_check.wide(weight)

    return _Made((partial(rms_norm, x, weight),), x.nbytes + weight.nbytes, x.nbytes, reference)


def _rope(new: _Fresh, s: _Sizes) -> _Made:
    x = new(1, s.rows, s.width // s.head_dim, s.head_dim).transpose(1, 2)
    cos, sin = angles(*_positions(new, s.rows, s.head_dim), new.dtype)

    def reference() -> torch.Tensor:
        return rotate(*(llm_check.wide(each) for each in (x, cos, sin)))

    read = x.nbytes + cos.nbytes + sin.nbytes
    return _Made((partial(rotate, x, cos, sin),), read, x.nbytes, reference)


def _silu_mul(new: _Fresh, s: _Sizes) -> _Made:
    import torch

    gate, up = new(1, s.rows, s.width), new(1, s.rows, s.width)

    def launch() -> torch.Tensor:
        return torch.nn.functional.silu(gate) * up

    def reference() -> torch.Tensor:
        return torch.nn.functional.silu(llm_check.wide(gate)) * llm_check.wide(up)

    return _Made((launch,), 2 * gate.nbytes, gate.nbytes, reference)


def _add(new: _Fresh, s: _Sizes) -> _Made:
    residual, x = new(1, s.rows, s.width), new(1, s.rows, s.width)
    return _Made(
        (lambda: residual + x,), 2 * x.nbytes, x.nbytes,
        lambda: llm_check.wide(residual) + llm_check.wide(x),
    )  # fmt: skip


def _kv_store(new: _Fresh, s: _Sizes) -> _Made:
    import torch

    heads = s.width // 2 // s.head_dim
    k, v = (new(1, s.rows, heads, s.head_dim).transpose(1, 2) for _ in range(2))
    empty = torch.tensor([], dtype=new.dtype, device=new.device)

    def launch() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([empty, k], dim=-2), torch.cat([empty, v], dim=-2)

    return _Made(
        (launch,), 2 * k.nbytes, 2 * k.nbytes, lambda: torch.stack((k, v)).to(torch.float64)
    )


def _kv_append(new: _Fresh, s: _Sizes) -> _Made:
    import torch

    heads = s.width // 2 // s.head_dim
    item = new.dtype.itemsize
    sets = sets_within(s.rows * s.width * item, s.cache_bytes, s.limit_bytes)
    k, v = (new(1, 1, heads, s.head_dim).transpose(1, 2) for _ in range(2))
    kept = [tuple(new(1, heads, s.rows - 1, s.head_dim) for _ in range(2)) for _ in range(sets)]

    def launch(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([keys, k], dim=-2), torch.cat([values, v], dim=-2)

    def reference() -> torch.Tensor:
        keys, values = kept[0]
        both = (torch.cat([keys, k], dim=-2), torch.cat([values, v], dim=-2))
        return torch.stack(both).to(torch.float64)

    moved = 2 * s.rows * s.width // 2 * item
    return _Made(tuple(partial(launch, *pair) for pair in kept), moved, moved, reference)


def _embed(new: _Fresh, s: _Sizes) -> _Made:
    import torch

    table = new(_TABLE_ROWS, s.width)
    tokens = torch.randint(_TABLE_ROWS, (1, s.rows), device=new.device, generator=new.generator)
    size = s.rows * s.width * new.dtype.itemsize
    return _Made(
        (lambda: torch.nn.functional.embedding(tokens, table),), size, size,
        lambda: llm_check.wide(table[tokens]),
    )  # fmt: skip


def _angles(new: _Fresh, s: _Sizes) -> _Made:
    import torch

    positions, frequencies = _positions(new, s.rows, s.width)

    def reference() -> torch.Tensor:
        turned = positions[..., None].double() * frequencies.double()
        both = torch.cat((turned, turned), dim=-1)
        return torch.stack((both.cos(), both.sin()))

    size = 2 * s.rows * s.width * new.dtype.itemsize
    return _Made((partial(angles, positions, frequencies, new.dtype),), 0, size, reference)


def _positions(new: _Fresh, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    half = torch.arange(0, width, 2, device=new.device, dtype=torch.float32) / width
    return torch.arange(rows, device=new.device).unsqueeze(0), _BASE**-half


_BY_HEADS = ("rope", "kv_store", "kv_append")
_MAKERS: dict[str, Callable[[_Fresh, _Sizes], _Made]] = {
    "rmsnorm": _norm, "rope": _rope, "silu_mul": _silu_mul, "add": _add, "kv_store": _kv_store,
    "kv_append": _kv_append, "embed": _embed, "angles": _angles,
}  # fmt: skip
OPERATIONS = tuple(_MAKERS)
