"""The experts of a mixture: rows sent to the experts they chose, a gated MLP each, and back.

``tokens`` rows choose ``topk`` of ``experts`` each; of those, ``local_experts`` live on this
device, and only the pairs that chose one of them are computed: permute, x · [gate, up]ᵀ,
silu(gate) · up, · downᵀ, weighted and added up per token. Counted are

- 6 · pairs · hidden · inter operations (three products),
- the weights of the experts that somebody chose, once each, rows in and rows out. What passes
  between the products is an engine's own affair and is not counted.

The routing decides how many experts are read and how long the longest takes: ``balanced`` draws
each token's experts evenly, ``power-law-1.2`` with a probability that falls with rank^−1.2, experts
in random order. What came of it (pairs, distinct experts, rows of the largest) stands in the
configuration of the record.

Routes: ``grouped_mm`` is torch's grouped product (bf16, one launch for all experts), ``loop`` one
product after the other, as a plain model does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels import llm_check
from roofprobe.kernels.accuracy import poison
from roofprobe.kernels.attention import DTYPES
from roofprobe.kernels.rotation import require_room, sets_within
from roofprobe.kernels.routes import compute_capability
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

ROUTES = ("grouped_mm", "loop")
ROUTINGS: dict[str, float] = {"balanced": 0.0, "power-law-1.2": 1.2}  # name → exponent


@dataclass(frozen=True, slots=True)
class Experts:
    """Sizes of a layer of experts, and the tokens that enter it."""

    tokens: int
    experts: int
    topk: int
    hidden: int
    inter: int
    local_experts: int

    @property
    def problem(self) -> str | None:
        """Say why there is no such layer, or None."""
        sizes = (self.tokens, self.topk, self.hidden, self.inter, self.local_experts)
        if min(sizes) < 1:
            return "a layer of experts needs sizes of at least 1"
        if self.topk > self.experts or self.local_experts > self.experts:
            return f"there are {self.experts} experts, fewer than are chosen or local"
        return None


@dataclass(frozen=True, slots=True)
class Routing:
    """Which rows each local expert gets: ``rows`` and ``shares`` ordered by expert."""

    rows: torch.Tensor
    shares: torch.Tensor
    counts: tuple[int, ...]

    @property
    def pairs(self) -> int:
        """Return how many pairs of token and local expert there are."""
        return sum(self.counts)

    @property
    def distinct(self) -> int:
        """Return how many local experts got any row."""
        return sum(count > 0 for count in self.counts)


def unavailable(route: str, precision: str, target: Target) -> Unsupported | None:
    """Say why the experts have no such route on ``target``, or None when it can be tried."""
    import torch

    if route not in ROUTES:
        return Unsupported("unknown-route", f"the experts have no route {route!r}")
    if precision not in DTYPES:
        return Unsupported("precision", f"there are no experts of {precision} here")
    if route == "loop":
        return None
    if precision != "bf16":
        return Unsupported("precision", f"torch's grouped product takes bf16, not {precision}")
    capability = compute_capability(target.architecture)
    if target.kind == "cpu" or (capability is not None and capability < 80):
        return Unsupported(
            "architecture",
            f"torch's grouped product runs on GPUs of compute capability 8.0 or newer; this "
            f"device is {target.architecture or target.kind}",
        )
    if not hasattr(torch, "_grouped_mm"):
        return Unsupported(
            "torch-version",
            f"torch {torch.__version__} has no grouped product",
            "pip install --upgrade torch",
        )
    return None


def route_tokens(sizes: Experts, routing: str, seed: int) -> Routing:
    """Draw each token's experts without replacement, and order the local pairs by expert.

    Adding Gumbel noise to log-probabilities and taking the largest draws without replacement
    (Kool et al. 2019).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    ranks = torch.randperm(sizes.experts, generator=generator) + 1
    logits = -ROUTINGS[routing] * ranks.double().log()
    uniform = torch.rand(sizes.tokens, sizes.experts, dtype=torch.float64, generator=generator)
    noisy = logits - (-uniform.clamp(min=1e-300).log()).log()
    chosen = noisy.topk(sizes.topk, dim=1).indices.reshape(-1)
    shares = torch.rand(sizes.tokens, sizes.topk, generator=generator) + 0.5
    shares = (shares / shares.sum(dim=1, keepdim=True)).reshape(-1)
    order = chosen.argsort(stable=True)
    order = order[chosen[order] < sizes.local_experts]
    counts = torch.bincount(chosen[order], minlength=sizes.local_experts).tolist()
    return Routing(order // sizes.topk, shares[order], tuple(counts))


def prepare(
    sizes: Experts,
    route: str,
    precision: str,
    target: Target,
    *,
    routing: str,
    cache_bytes: int | None,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return one layer of experts on ``tokens`` rows; weights go round. Raises ``Unsupported``."""
    import torch

    reason = unavailable(route, precision, target)
    if reason is not None:
        raise reason
    if sizes.problem:
        raise Unsupported("shape", sizes.problem)
    if routing not in ROUTINGS:
        raise Unsupported("unknown-routing", f"there is no routing {routing!r}")
    if route == "grouped_mm" and (sizes.hidden % 8 or sizes.inter % 8):
        raise Unsupported("shape", "torch's grouped product needs sizes divisible by 8")
    device, dtype = torch.device(target.torch_device), getattr(torch, DTYPES[precision])
    rows_bytes = sizes.tokens * (
        (3 + 4 * sizes.topk) * max(sizes.hidden, sizes.inter) * dtype.itemsize + 32 * sizes.experts
    )
    each = 3 * sizes.hidden * sizes.inter * dtype.itemsize
    require_room(rows_bytes + each * sizes.local_experts + 64 * sizes.experts, limit_bytes)
    routed = route_tokens(sizes, routing, seed)
    generator = torch.Generator(device=device).manual_seed(seed)
    weights = [
        _weights(sizes, dtype, generator)
        for _ in range(
            _sets(each * sizes.local_experts, each * routed.distinct, cache_bytes, limit_bytes)
        )
    ]
    x = torch.empty(sizes.tokens, sizes.hidden, dtype=dtype, device=device)
    x.normal_(generator=generator)
    out = torch.empty_like(x)
    rows, shares = routed.rows.to(device), routed.shares.to(device, dtype)[:, None]
    ends = torch.tensor(routed.counts).cumsum(0).to(device, torch.int32)
    mlp = partial(_grouped, ends=ends) if route == "grouped_mm" else partial(_loop, routed.counts)

    def launch(gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        found = mlp(x[rows], gate_up, down)
        return out.zero_().index_add_(0, rows, found * shares)

    launches = tuple(partial(launch, *pair) for pair in weights)

    def check() -> Check:
        poison(out)
        launches[0]()
        wide = _loop(routed.counts, llm_check.wide(x[rows]), *weights[0])
        reference = wide.new_zeros(x.shape)
        reference.index_add_(0, rows.to(wide.device), wide * llm_check.wide(shares))
        return llm_check.check_rows(out, [reference], 2 * llm_check.TOLERANCES[precision])

    return Work(
        launches=launches,
        flops=6 * routed.pairs * sizes.hidden * sizes.inter,
        bytes_read=each * routed.distinct + x.nbytes,
        bytes_written=out.nbytes,
        array_bytes=each * sizes.local_experts,
        check=check,
        kernel="torch._grouped_mm" if route == "grouped_mm" else "F.linear per expert",
        config={
            "routing": routing,
            "pairs": routed.pairs,
            "distinct_experts": routed.distinct,
            "most_rows": max(routed.counts),
        },
    )


def _sets(
    stored_bytes: int, read_bytes: int, cache_bytes: int | None, limit_bytes: int | None
) -> int:
    """Return how many layers go round: what is *read* of each must fill the caches."""
    fitting = sets_within(stored_bytes, 1 << 62, limit_bytes)
    return min(fitting, sets_within(max(1, read_bytes), cache_bytes, None))


def _weights(
    sizes: Experts, dtype: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return [gate, up] (experts, 2 · inter, hidden) and down (experts, hidden, inter).

    Uniform with a deviation of 1/√k, so that what passes through keeps its size.
    """
    import torch

    made = []
    for rows, k in ((2 * sizes.inter, sizes.hidden), (sizes.hidden, sizes.inter)):
        weight = torch.empty(sizes.local_experts, rows, k, dtype=dtype, device=generator.device)
        bound = math.sqrt(3 / k)
        for expert in weight:
            expert.uniform_(-bound, bound, generator=generator)
        made.append(weight)
    return made[0], made[1]


def _gated(gate_up: torch.Tensor) -> torch.Tensor:
    import torch

    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def _loop(
    counts: tuple[int, ...], x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Return the rows' results, expert by expert, in the type of ``x``."""
    import torch
    from torch.nn.functional import linear

    parts, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            rows = x[start : start + count]
            hidden = _gated(linear(rows, gate_up[expert].to(x.device, x.dtype)))
            parts.append(linear(hidden, down[expert].to(x.device, x.dtype)))
            start += count
    return torch.cat(parts) if parts else x


def _grouped(
    x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, *, ends: torch.Tensor
) -> torch.Tensor:
    import torch

    multiply: Callable[..., torch.Tensor] = torch._grouped_mm
    hidden = _gated(multiply(x, gate_up.transpose(-2, -1), offs=ends))
    return multiply(hidden, down.transpose(-2, -1), offs=ends)
