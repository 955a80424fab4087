"""What a language model does row by row between its products: norms, rotations, gates, sampling.

A row is one token's vector; none of these operations has more than a few operations per byte, so
their time is a launch and the stream of their bytes, each tensor counted once:

===========  ==================================================  ================================
operation    does, for rows of ``width`` elements                counts
===========  ==================================================  ================================
rmsnorm      r += x; y = r / rms(r) · weight                     x, r read; r, y written; weight
rope         rotates pairs of each head by its position          x, cos, sin read; y written
silu_mul     y = silu(gate) · up, from rows of 2 · width         2 read, 1 written
quantize     y = fp8(x / scale), scale = max |x| / 448 per row   x read; y, scales written
sample       the most likely token, or one of the nucleus        logits read; one token written
===========  ==================================================  ================================

``width`` of rope is that of all rotated heads together. The routes are ``torch``, the operations as
an eager model calls them (several kernels each), and ``triton``, one fused kernel as serving
engines have it. Operands stay where they are from launch to launch: what a model reads here, the
operation before has just written.

Zhang and Sennrich 2019 (RMSNorm), Su et al. 2021 (RoPE, in the halves form of GPT-NeoX and Llama),
Shazeer 2020 (SwiGLU), Holtzman et al. 2019 (nucleus sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from roofprobe.kernels import llm_check
from roofprobe.kernels.accuracy import poison
from roofprobe.kernels.rotation import require_room
from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

if TYPE_CHECKING:
    import torch

OPERATIONS = ("rmsnorm", "rope", "silu_mul", "quantize", "sample")
ROUTES: dict[str, tuple[str, ...]] = {
    "rmsnorm": ("torch", "triton"),
    "rope": ("torch", "triton"),
    "silu_mul": ("torch", "triton"),
    "quantize": ("torch", "triton"),
    "sample": ("argmax", "top-p"),
}
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
EPSILON = 1e-5
TOP_P = 0.9
_ROPE_BASE = 10000.0
HEAD_DIM = {"cpu": 64}  # of the heads that rope rotates; elsewhere 128
E4M3_MAX = 448.0
_PAST_NUCLEUS = 1e-4  # how far a sum of float32 may lie beyond the nucleus

Launch = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _Made:
    """A launch, what it reads and writes, its check, and what else a record should know."""

    launch: Launch
    read: int
    written: int
    check: Callable[[], Check]
    kernel: str
    config: dict[str, int | str | bool | None]


def prepare(
    op: str,
    route: str,
    precision: str,
    target: Target,
    *,
    rows: int,
    width: int,
    limit_bytes: int | None,
    seed: int,
) -> Work:
    """Return one operation over ``rows`` rows of ``width``; raises ``Unsupported``."""
    import torch

    if op not in OPERATIONS or route not in ROUTES[op]:
        raise Unsupported("unknown-route", f"{op} has no route {route!r}")
    if precision not in DTYPES:
        raise Unsupported("precision", f"there is no {op} of {precision} here")
    if min(rows, width) < 1 or (op == "rope" and width % head_dim(target)):
        raise Unsupported("shape", f"{op} cannot be done on {rows} rows of {width}")
    reason = _no_triton(target) if route == "triton" else None
    if reason is not None:
        raise reason
    require_room(16 * rows * width, limit_bytes)
    device = torch.device(target.torch_device)
    generator = torch.Generator(device=device).manual_seed(seed)
    x = torch.empty(
        rows, 2 * width if op == "silu_mul" else width,
        dtype=getattr(torch, DTYPES[precision]), device=device,
    ).normal_(generator=generator)  # fmt: skip
    made = _MAKERS[op](x, route, precision, target, generator)
    return Work(
        launches=(made.launch,),
        flops=0,
        bytes_read=made.read,
        bytes_written=made.written,
        array_bytes=x.nbytes,
        check=made.check,
        kernel=made.kernel,
        config=made.config,
    )


def head_dim(target: Target) -> int:
    """Return how wide the heads are that rope rotates on this kind of device."""
    return HEAD_DIM.get(target.kind, 128)


def _no_triton(target: Target) -> Unsupported | None:
    if not target.is_gpu or target.architecture is None:
        return Unsupported(
            "no-triton-target",
            f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a {target.kind}",
        )
    return without_triton()


def rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Add ``x`` to ``residual`` in place and return the normalised sum, as an eager model does."""
    import torch

    residual += x
    return torch.nn.functional.rms_norm(residual, (residual.shape[-1],), weight, EPSILON)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """Return silu of the first half of each row times the second, as an eager model does."""
    import torch

    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate heads (rows, heads, d) by cos and sin (rows, 1, d), as an eager model does."""
    import torch

    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def angles(
    rows: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cos and sin (rows, 1, width) of the positions 0 … rows − 1."""
    import torch

    half = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    turned = torch.arange(rows, device=device, dtype=torch.float32)[:, None] * _ROPE_BASE**-half
    both = torch.cat((turned, turned), dim=-1)[:, None, :]
    return both.cos().to(dtype), both.sin().to(dtype)


def quantise(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``x`` in fp8 and one scale per row (rows, 1), as an eager model does."""
    import torch

    largest = float(torch.finfo(dtype).max)
    scales = x.abs().amax(dim=-1, keepdim=True).float().clamp_(min=1e-12) / largest
    return (x / scales).clamp_(-largest, largest).to(dtype), scales


def nucleus(logits: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return one token per row of those that make ``TOP_P`` of the probability.

    ``drawn`` (rows, 1) in [0, 1) decides which; no generator takes part, so that it can be
    recorded in a graph.
    """
    import torch

    ordered, tokens = torch.softmax(logits.float(), dim=-1).sort(dim=-1, descending=True)
    below = ordered.cumsum(dim=-1)
    kept = torch.where(below - ordered < TOP_P, ordered, 0.0).cumsum(dim=-1)
    place = torch.searchsorted(kept, drawn * kept[:, -1:], right=True)
    return tokens.gather(-1, place.clamp_(max=logits.shape[-1] - 1))


def _norm(
    x: torch.Tensor, route: str, precision: str, target: Target, generator: torch.Generator
) -> _Made:
    import torch

    width = x.shape[1]
    residual = torch.empty_like(x).normal_(generator=generator)
    weight = torch.empty(width, dtype=x.dtype, device=x.device).uniform_(
        0.5, 1.5, generator=generator
    )
    x.mul_(2.0**-20)  # each launch adds it once more, and the sum must not run away
    out = torch.empty_like(x)
    if route == "triton":
        from roofprobe.kernels import triton_rows

        launch: Launch = triton_rows.rms_norm(x, residual, weight, out, EPSILON)
    else:
        launch = partial(rms_norm, x, residual, weight)

    def check() -> Check:
        kept, steps = residual.clone(), x.clone()
        x.copy_(kept.flip(-1))  # as large as the residual, for adding it must show
        wide = (llm_check.wide(kept) + llm_check.wide(x)).to(x.dtype).double()
        norm = wide * (wide.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()
        if route == "triton":
            poison(out)
        else:
            poison(launch())
            residual.copy_(kept)
        found = torch.cat((launch(), residual))
        residual.copy_(kept)
        x.copy_(steps)
        references = [norm * llm_check.wide(weight), wide]
        return llm_check.check_rows(found, references, llm_check.TOLERANCES[precision])

    return _Made(
        launch, 2 * x.nbytes + weight.nbytes, 2 * x.nbytes, check,
        "rmsnorm (triton)" if route == "triton" else "add_, F.rms_norm", {},
    )  # fmt: skip


def _rope(
    x: torch.Tensor, route: str, precision: str, target: Target, generator: torch.Generator
) -> _Made:
    import torch

    wide = head_dim(target)
    heads = x.view(x.shape[0], -1, wide)
    cos, sin = angles(x.shape[0], wide, x.dtype, x.device)
    out = torch.empty_like(heads)
    if route == "triton":
        from roofprobe.kernels import triton_rows

        launch: Launch = triton_rows.rotate(heads, cos, sin, out)
    else:
        launch = partial(rotate, heads, cos, sin)

    def check() -> Check:
        found = _result(launch, out if route == "triton" else None)
        reference = rotate(*(llm_check.wide(each) for each in (heads, cos, sin)))
        return llm_check.check_rows(
            found.reshape(x.shape), [reference.reshape(x.shape)], llm_check.TOLERANCES[precision]
        )

    return _Made(
        launch, x.nbytes + cos.nbytes + sin.nbytes, x.nbytes, check,
        "rope (triton)" if route == "triton" else "rotate by halves", {"head_dim": wide},
    )  # fmt: skip


def _silu_mul(
    x: torch.Tensor, route: str, precision: str, target: Target, generator: torch.Generator
) -> _Made:
    import torch

    out = torch.empty(x.shape[0], x.shape[1] // 2, dtype=x.dtype, device=x.device)
    if route == "triton":
        from roofprobe.kernels import triton_rows

        launch: Launch = triton_rows.silu_mul(x, out)
    else:
        launch = partial(silu_mul, x)

    def check() -> Check:
        found = _result(launch, out if route == "triton" else None)
        return llm_check.check_rows(
            found, [silu_mul(llm_check.wide(x))], llm_check.TOLERANCES[precision]
        )

    kernel = "silu_mul (triton)" if route == "triton" else "F.silu, mul"
    return _Made(launch, x.nbytes, out.nbytes, check, kernel, {})


def _quantize(
    x: torch.Tensor, route: str, precision: str, target: Target, generator: torch.Generator
) -> _Made:
    import torch

    dtype = torch.float8_e4m3fnuz if target.architecture == "gfx942" else torch.float8_e4m3fn
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    scales = torch.empty(x.shape[0], 1, device=x.device)
    if route == "triton":
        from roofprobe.kernels import triton_rows

        launch: Launch = triton_rows.quantise(x, out, scales)
    else:
        launch = partial(quantise, x, dtype)

    def check() -> Check:
        out.view(torch.uint8).fill_(0x80 if dtype == torch.float8_e4m3fnuz else 0x7F)  # NaN
        poison(scales)
        found, factors = launch()
        return check_quantised(x, found, factors)

    kernel = "quantise (triton)" if route == "triton" else "amax, div, to"
    return _Made(launch, x.nbytes, out.nbytes + scales.nbytes, check, kernel, {"scale": "per row"})


def check_quantised(x: torch.Tensor, found: torch.Tensor, scales: torch.Tensor) -> Check:
    """Hold fp8 values times their row's scale against ``x``: half of the last of 4 bits, rms."""
    import torch

    narrow = torch.finfo(found.dtype)
    expected = llm_check.wide(x).abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / narrow.max
    told = llm_check.check_rows(
        llm_check.wide(found.float() * scales), [llm_check.wide(x)], 2.0**-4 / 3**0.5
    )
    off = float(((llm_check.wide(scales) - expected) / expected).abs().max())
    if told.problem is None and not off <= 1e-2:
        problem = f"a scale is off by {off:.2g} of itself"
        return Check(told.error, told.tolerance, told.measure, told.checked_elements, problem)
    return told


def _sample(
    x: torch.Tensor, route: str, precision: str, target: Target, generator: torch.Generator
) -> _Made:
    import torch

    if route == "argmax":
        launch: Launch = partial(torch.argmax, x, dim=-1, keepdim=True)
    else:
        drawn = torch.rand(x.shape[0], 1, device=x.device, generator=generator)
        launch = partial(nucleus, x, drawn)

    def check() -> Check:
        tokens = llm_check.fresh(launch)
        return check_tokens(x, tokens, top_p=None if route == "argmax" else TOP_P)

    kernel = "argmax" if route == "argmax" else "softmax, sort, cumsum, searchsorted"
    return _Made(launch, x.nbytes, 8 * x.shape[0], check, kernel, {"top_p": str(TOP_P)}
                 if route == "top-p" else {})  # fmt: skip


def check_tokens(logits: torch.Tensor, tokens: torch.Tensor, *, top_p: float | None) -> Check:
    """Say whether each row's token may be taken: the likeliest, or one of the nucleus."""
    import torch

    vocabulary = logits.shape[-1]
    measure = "the probability that tokens before it have, in float64"
    if int(((tokens < 0) | (tokens >= vocabulary)).sum()):
        return Check(1.0, 0.0, measure, tokens.numel(), "a token is not in the vocabulary")
    shares = torch.softmax(llm_check.wide(logits), dim=-1)
    taken = shares.gather(-1, tokens.to(shares.device))
    before = float(torch.where(shares > taken, shares, 0.0).sum(dim=-1).max())
    most = 0.0 if top_p is None else top_p + _PAST_NUCLEUS
    problem = None
    if before > most:
        problem = f"tokens with {before:.3f} of the probability come before one that was taken"
    return Check(before, most, measure, tokens.numel(), problem)


def _result(launch: Launch, out: torch.Tensor | None) -> torch.Tensor:
    """Launch once into poison: into ``out``, or into what the call allocates."""
    if out is None:
        return llm_check.fresh(launch)
    poison(out)
    launch()
    return out


_MAKERS: dict[str, Callable[..., _Made]] = {
    "rmsnorm": _norm, "rope": _rope, "silu_mul": _silu_mul, "quantize": _quantize,
    "sample": _sample,
}  # fmt: skip
