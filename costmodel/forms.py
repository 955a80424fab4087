"""How long an operation takes, in closed form: counted work over efficient rates, plus fixed terms.

Every class of operation is counted (`Work`: FLOPs, bytes, how well the work fills the device, what
its extra terms multiply) and timed by one formula,

    t = max(host, t0 + [(F / (e_c P u^w))^r + (B (1 + a/p) / (e_m W))^r]^(1/r) + sum c_i x_i)

with P the dense peak (FLOP/s) and W the memory bandwidth (byte/s) of the datasheet, e_c and e_m the
efficiencies of this kernel, t0 its launch and prologue, r how sharply the slower of the two decides
(infinite: a hard maximum), u the share of the last wave of tiles that is filled, p the number of
independent streams, and c_i x_i what else grows with the shape. Which terms a class has stands in
`OP_CLASSES`; all others are zero. Only the products e_c P and e_m W are identified by timings, so a
calibration keeps the peaks that its efficiencies belong to.

The counts are those of Williams et al., "Roofline" (CACM 2009), with the corrections for launch
floors and waves that published op tables need. Shapes are numpy-broadcastable; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Tiles (rows x columns) that matrix-product libraries choose from; the choice is not published, so
# the best filled one counts.
TILES: Final = ((64, 128), (128, 128), (128, 256), (64, 256), (256, 128))
_ATTENTION_ROWS: Final = 128  # query rows of one attention tile
_EXPERT_ROWS: Final = 64  # token rows of one grouped-GEMM tile; shorter groups are padded to it


@dataclass(frozen=True, slots=True)
class Format:
    """How a matrix product's precision stores its operands, bytes per element, and its pipe."""

    activation_bytes: float
    weight_bytes: float
    output_bytes: float
    peak: str  # the precision whose dense peak bounds the arithmetic


# Block-scaled formats carry their scales: one byte per 16 (NVFP4) or 32 (MXFP8) elements. int4 is
# weight-only: weights are expanded and multiplied in bf16, one 16-bit scale per 128 weights.
FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "fp32": Format(4, 4, 4, "fp32"),
        "bf16": Format(2, 2, 2, "bf16"),
        "fp16": Format(2, 2, 2, "fp16"),
        "fp8": Format(1, 1, 2, "fp8"),
        "fp8-block": Format(1, 1, 2, "fp8"),
        "int8": Format(1, 1, 2, "int8"),
        "mxfp8": Format(1 + 1 / 32, 1 + 1 / 32, 2, "mxfp8"),
        "nvfp4": Format(0.5 + 1 / 16, 0.5 + 1 / 16, 2, "nvfp4"),
        "int4": Format(2, 0.5 + 1 / 64, 2, "bf16"),
    }
)
KV_BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one operation has to do; arrays of one broadcast shape.

    ``flops`` and ``bytes`` count once what must be computed and moved. ``fill`` is u, ``streams``
    is p of the module's formula; ``terms`` are the x_i in seconds per unit of the coefficient,
    named like it. ``on_link`` says that the bytes cross links, not memory.
    """

    flops: FloatArray
    bytes: FloatArray
    fill: FloatArray
    streams: FloatArray
    terms: Mapping[str, FloatArray] = field(default_factory=dict)
    on_link: bool = False


@dataclass(frozen=True, slots=True)
class Rates:
    """The peaks that efficiencies are relative to: FLOP/s, memory and link byte/s, units, L2."""

    flops: float
    bandwidth: float
    link: float | None = None
    units: int | None = None
    l2_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The constants of one class, precision and kernel; see the module's formula.

    Times are seconds; ``terms`` are in the units of their names. ``l2_efficiency`` replaces
    ``memory_efficiency`` (both relative to the memory's bandwidth) while the bytes fit
    `L2_KEEPS`; 0 means that there is no such regime.
    """

    compute_efficiency: float
    memory_efficiency: float
    t0_s: float = 0.0
    exponent: float = float("inf")
    wave: float = 0.0
    contention: float = 0.0
    host_floor_s: float = 0.0
    l2_efficiency: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)


# Bytes up to 0.6 of L2 stay there from one launch to the next, beyond twice that nothing does; the
# knee of decode attention in published tables of L40S (96 MB) and RTX PRO 6000 (128 MB).
L2_KEEPS: Final = 0.6


def seconds(work: Work, c: Coefficients, rates: Rates) -> FloatArray:
    """Return the time of ``work`` in seconds by the module's formula."""
    compute = work.flops / (c.compute_efficiency * rates.flops)
    if c.wave:
        compute = compute / work.fill**c.wave
    speed = rates.link if work.on_link else rates.bandwidth
    if speed is None:
        raise ValueError("a collective needs the link's bandwidth")
    memory = work.bytes / (c.memory_efficiency * speed)
    if c.l2_efficiency and rates.l2_bytes:
        share = np.clip(2 - work.bytes / (L2_KEEPS * rates.l2_bytes), 0.0, 1.0)
        memory = memory / (1 + share * (c.l2_efficiency / c.memory_efficiency - 1))
    if c.contention:
        memory = memory * (1 + c.contention / work.streams)
    slower = np.maximum(compute, memory)
    if np.isfinite(c.exponent):
        faster = np.minimum(compute, memory) / np.maximum(slower, 1e-300)
        slower = slower * (1 + faster**c.exponent) ** (1 / c.exponent)
    total = c.t0_s + slower
    for name, weight in c.terms.items():
        total = total + weight * work.terms[name]
    return np.maximum(total, c.host_floor_s)


def bound_s(work: Work, rates: Rates) -> FloatArray:
    """Return the physical least time, max(F/P, B/W), in seconds: nothing runs faster.

    At most as many bytes as L2 holds may come from there and not from memory.
    """
    speed = rates.link if work.on_link else rates.bandwidth
    if speed is None:
        raise ValueError("a collective needs the link's bandwidth")
    cached = 0.0 if work.on_link else rates.l2_bytes or 0.0
    memory = np.maximum(work.bytes - cached, 0.0) / speed
    bound: FloatArray = np.maximum(work.flops / rates.flops, memory)
    return bound


def gemm(precision: str, rates: Rates, *, m: FloatArray, n: FloatArray, k: FloatArray) -> Work:
    """Count y[m, n] = x[m, k] · w[k, n]: F = 2mnk, B = b_a·mk + b_w·nk + b_y·mn.

    Compute-bound for large m, limited by reading the weights for small m, by t0 for small
    weights. ``quantise_passes`` multiplies 3mk/W: dynamic quantisation reads two bytes and writes
    one per element of x. ``us_per_kilodepth`` multiplies k/1024: one tile walks through k alone.
    """
    f = FORMATS[precision]
    return Work(
        flops=2 * m * n * k,
        bytes=f.activation_bytes * m * k + f.weight_bytes * n * k + f.output_bytes * m * n,
        fill=wave_fill(m, n, rates.units),
        streams=np.ones_like(m),
        terms={
            "quantise_passes": 3 * m * k / rates.bandwidth,
            "us_per_kilodepth": k / 1024 * 1e-6,
        },
    )


def wave_fill(m: FloatArray, n: FloatArray, units: int | None) -> FloatArray:
    """Return the best share of filled waves over `TILES`: T / (ceil(T/S)·S), T tiles on S units."""
    if not units:
        return np.ones_like(m * n)
    tiles = [np.ceil(m / rows) * np.ceil(n / columns) for rows, columns in TILES]
    fill: FloatArray = np.max([_filled(t, units) for t in tiles], axis=0)
    return fill


def _filled(tiles: FloatArray, units: int | None) -> FloatArray:
    if not units:
        return np.ones_like(tiles)
    fill: FloatArray = tiles / (np.ceil(tiles / units) * units)
    return fill


def attention_prefill(
    precision: str,
    kv_precision: str,
    rates: Rates,
    *,
    batch: FloatArray,
    query_len: FloatArray,
    kv_len: FloatArray,
    heads: FloatArray,
    kv_heads: FloatArray,
    head_dim: FloatArray,
) -> Work:
    """Count causal attention of ``query_len`` new tokens over ``kv_len``, prefix included.

    F = 2·b·h·d·q·(2s − q + 128): the visible half and one diagonal tile. B = q, k, v and o once.
    Compute-bound for long queries. ``us_per_kilotoken`` multiplies s/1024, the walk over the KV
    blocks of one row, which nothing can split.
    """
    act = FORMATS[precision].activation_bytes
    tiles = batch * heads * np.ceil(query_len / _ATTENTION_ROWS)
    return Work(
        flops=2 * batch * heads * head_dim * query_len
        * (2 * kv_len - query_len + _ATTENTION_ROWS),
        bytes=batch * head_dim
        * (2 * act * heads * query_len + 2 * KV_BYTES[kv_precision] * kv_heads * kv_len),
        fill=_filled(tiles, rates.units),
        streams=tiles,
        terms={"us_per_kilotoken": kv_len / 1024 * 1e-6 * np.ones_like(tiles)},
    )  # fmt: skip


def attention_decode(
    precision: str,
    kv_precision: str,
    rates: Rates,
    *,
    batch: FloatArray,
    kv_len: FloatArray,
    heads: FloatArray,
    kv_heads: FloatArray,
    head_dim: FloatArray,
) -> Work:
    """Count one query token per sequence over ``kv_len``: B = 2·b_kv·b·s·h_kv·d + 4bhd, F = 4bhds.

    Limited by reading the KV cache, and at small batch by t0. Few sequences times KV heads do not
    load all memory channels: ``contention`` / (b·h_kv). ``us_per_query_head`` multiplies b·h,
    the merging of partial results.
    """
    act = FORMATS[precision].activation_bytes
    return Work(
        flops=4 * batch * heads * head_dim * kv_len,
        bytes=2 * KV_BYTES[kv_precision] * batch * kv_len * kv_heads * head_dim
        + 2 * act * batch * heads * head_dim,
        fill=np.ones_like(batch * heads),
        streams=batch * kv_heads,
        terms={"us_per_query_head": batch * heads * 1e-6},
    )


def mla_prefill(
    precision: str,
    kv_precision: str,
    rates: Rates,
    *,
    batch: FloatArray,
    query_len: FloatArray,
    kv_len: FloatArray,
    heads: FloatArray,
    kv_rank: FloatArray,
    rope_dim: FloatArray,
    nope_dim: FloatArray,
    v_dim: FloatArray,
) -> Work:
    """Count multi-head latent attention of new tokens, keys and values expanded (not absorbed).

    F = b·h·(d_nope + d_rope + d_v)·q·(2s − q + 128); the expansion itself is a matrix product of
    its own and not counted here.
    """
    act = FORMATS[precision].activation_bytes
    width = nope_dim + rope_dim + v_dim
    tiles = batch * heads * np.ceil(query_len / _ATTENTION_ROWS) * np.ones_like(kv_rank)
    return Work(
        flops=batch * heads * width * query_len * (2 * kv_len - query_len + _ATTENTION_ROWS),
        bytes=act * batch * heads * width * (query_len + kv_len),
        fill=_filled(tiles, rates.units),
        streams=tiles,
        terms={"us_per_kilotoken": kv_len / 1024 * 1e-6 * np.ones_like(tiles)},
    )


def mla_decode(
    precision: str,
    kv_precision: str,
    rates: Rates,
    *,
    batch: FloatArray,
    kv_len: FloatArray,
    heads: FloatArray,
    kv_rank: FloatArray,
    rope_dim: FloatArray,
) -> Work:
    """Count latent attention of one token per sequence, absorbed: the cache holds r + d_rope.

    F = 2·b·h·s·(2r + d_rope), B = (r + d_rope)·b_kv·b·s + 2·b·h·(2r + d_rope). With many heads it
    is compute-bound.
    """
    act = FORMATS[precision].activation_bytes
    width = 2 * kv_rank + rope_dim
    return Work(
        flops=2 * batch * heads * kv_len * width,
        bytes=(kv_rank + rope_dim) * KV_BYTES[kv_precision] * batch * kv_len
        + act * batch * heads * width,
        fill=np.ones_like(batch * heads * width),
        streams=batch * np.ones_like(width),
        terms={"us_per_query_head": batch * heads * 1e-6},
    )


def touched_experts(
    tokens: FloatArray, experts: FloatArray, topk: FloatArray, local_experts: FloatArray
) -> FloatArray:
    """Return the expected number of distinct local experts of balanced routing.

    E_l·(1 − (1 − k/E)^m).
    """
    missed = np.maximum(0.0, 1 - topk / experts) ** tokens
    touched: FloatArray = local_experts * (1 - missed)
    return touched


def grouped_gemm(
    precision: str,
    rates: Rates,
    *,
    tokens: FloatArray,
    experts: FloatArray,
    topk: FloatArray,
    hidden: FloatArray,
    inter: FloatArray,
    local_experts: FloatArray,
) -> Work:
    """Count a gated expert layer: gate and up, activation, down, over the experts that are touched.

    T = m·k·E_l/E token-expert pairs, A distinct experts: F = 6·T·H·I·z with z the padding of each
    group to 64 rows, B = A·3·H·I·b_w + 4mH + 6TI. Limited by the weights of the touched experts
    until each has hundreds of tokens. ``us_per_pair`` multiplies m·k, the sorting of pairs.
    """
    f = FORMATS[precision]
    pairs = tokens * topk * local_experts / experts
    touched = np.maximum(touched_experts(tokens, experts, topk, local_experts), 1e-9)
    padded = _EXPERT_ROWS * touched * np.ceil(pairs / (_EXPERT_ROWS * touched))
    return Work(
        flops=6 * hidden * inter * np.maximum(pairs, padded),
        bytes=touched * 3 * hidden * inter * f.weight_bytes + 4 * tokens * hidden
        + 6 * pairs * inter,
        fill=np.ones_like(pairs * hidden * inter),
        streams=touched,
        terms={"us_per_pair": tokens * topk * 1e-6},
    )  # fmt: skip


# Bytes per element of (rows x width): rmsnorm with residual reads x and the residual and writes
# both in 16 bits; silu_mul reads gate and up; rope reads and writes; quantize reads 16, writes 8
# bits; sample reads 32-bit logits. The rest are copies and sums that eager code makes by
# themselves: a sum of two, a cache that is written or copied, a row looked up, cos and sin.
ELEMENTWISE_BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "rmsnorm": 8,
        "silu_mul": 6,
        "rope": 4,
        "quantize": 3,
        "sample": 4,
        "add": 6,
        "kv_store": 4,
        "kv_append": 4,
        "embed": 4,
        "angles": 4,
    }
)


def elementwise(op: str, *, rows: FloatArray, width: FloatArray) -> Work:
    """Count an operation that only streams: bytes = rows · width · `ELEMENTWISE_BYTES`."""
    elements = rows * width
    return Work(
        flops=np.zeros_like(elements),
        bytes=ELEMENTWISE_BYTES[op] * elements,
        fill=np.ones_like(elements),
        streams=np.ones_like(elements),
    )


def _ring(ranks: FloatArray) -> FloatArray:
    share: FloatArray = (ranks - 1) / ranks
    return share


# Share of the message that each rank sends over its link (nccl-tests, doc/PERFORMANCE.md).
LINK_SHARES: Final[Mapping[str, Callable[[FloatArray], FloatArray]]] = MappingProxyType(
    {
        "all_reduce": lambda ranks: 2 * _ring(ranks),
        "all_gather": _ring,
        "reduce_scatter": _ring,
        "all_to_all": _ring,
        "p2p": lambda ranks: np.minimum(1.0, ranks - 1),
    }
)


def collective(op: str, *, bytes: FloatArray, ranks: FloatArray) -> Work:
    """Count what each rank sends: message bytes (as nccl-tests count them) times `LINK_SHARES`.

    ``us_per_hop`` multiplies N − 1, the steps of a ring. With one rank there is nothing to do.
    """
    sent = LINK_SHARES[op](ranks) * bytes
    return Work(
        flops=np.zeros_like(sent),
        bytes=sent,
        fill=np.ones_like(sent),
        streams=np.ones_like(sent),
        terms={"us_per_hop": np.maximum(ranks - 1, 0.0) * 1e-6 * np.ones_like(sent)},
        on_link=True,
    )


@dataclass(frozen=True, slots=True)
class OpClass:
    """A class of operations as data.

    ``site`` are the keywords that name a weight or a head geometry; the others sweep one site.
    Errors of the closed form are alike along ``size_axes`` for all sites, along ``site_axes`` for
    neighbouring sites, and along ``joint_axes`` (what decides the tiling); each axis is the log2
    of a product of keywords. Intervals are kept by ranges of the product ``band``. ``kv`` says
    that there is a KV cache with a precision of its own.
    """

    name: str
    shape: tuple[str, ...]
    site: tuple[str, ...]
    size_axes: tuple[tuple[str, ...], ...]
    band: tuple[str, ...]
    joint_axes: tuple[tuple[str, ...], ...] = ()
    kind: str = ""
    kv: bool = False

    @property
    def counts(self) -> str:
        """Name of the function that counts the work."""
        return self.kind or self.name

    @property
    def sizes(self) -> tuple[str, ...]:
        """The keywords along which one site is swept."""
        return tuple(name for name in self.shape if name not in self.site)


_HEADS: Final = ("heads", "kv_heads", "head_dim")
_MLA: Final = ("heads", "kv_rank", "rope_dim")
_CACHED: Final = ("batch", "kv_len")
_MOE: Final = ("experts", "topk", "hidden", "inter", "local_experts")
OP_CLASSES: Final[Mapping[str, OpClass]] = MappingProxyType(
    {
        op.name: op
        for op in (
            OpClass("gemm", ("m", "n", "k"), ("n", "k"), (("m",),), ("m",), (("m", "n"), ("k",))),
            OpClass("attention_prefill", ("batch", "query_len", "kv_len", *_HEADS), _HEADS,
                    (("batch", "heads"), ("query_len",), ("kv_len",)), _CACHED, kv=True),
            OpClass("attention_decode", (*_CACHED, *_HEADS), _HEADS,
                    (("batch", "kv_heads"), ("kv_len",)), _CACHED, kv=True),
            OpClass("mla_prefill",
                    ("batch", "query_len", "kv_len", *_MLA, "nope_dim", "v_dim"),
                    (*_MLA, "nope_dim", "v_dim"),
                    (("batch", "heads"), ("query_len",), ("kv_len",)), _CACHED, kv=True),
            OpClass("mla_decode", (*_CACHED, *_MLA), _MLA, (("batch",), ("kv_len",)), _CACHED,
                    kv=True),
            OpClass("grouped_gemm", ("tokens", *_MOE), _MOE, (("tokens",),), ("tokens",)),
            *(OpClass(name, ("rows", "width"), ("width",), (("rows",),), ("rows", "width"),
                      kind="elementwise")
              for name in ELEMENTWISE_BYTES),
            *(OpClass(name, ("bytes", "ranks"), ("ranks",), (("bytes",),), ("bytes",),
                      kind="collective")
              for name in LINK_SHARES),
        )
    }
)  # fmt: skip

_COUNTERS: Final[Mapping[str, Callable[..., Work]]] = MappingProxyType(
    {
        "gemm": gemm,
        "attention_prefill": attention_prefill,
        "attention_decode": attention_decode,
        "mla_prefill": mla_prefill,
        "mla_decode": mla_decode,
        "grouped_gemm": grouped_gemm,
        "elementwise": elementwise,
        "collective": collective,
    }
)


def count(
    op: str,
    precision: str,
    shape: Mapping[str, Any],
    rates: Rates,
    *,
    kv_precision: str | None = None,
) -> Work:
    """Count the work of ``op`` at ``shape`` (arrays or numbers, broadcast together).

    Raises `KeyError` for an unknown op or precision and `ValueError` naming missing or unknown
    shape keywords.
    """
    row = OP_CLASSES[op]
    if set(shape) != set(row.shape):
        raise ValueError(f"{op} takes {', '.join(row.shape)}; got {', '.join(shape) or 'nothing'}")
    arrays = dict(
        zip(
            row.shape,
            np.broadcast_arrays(*(np.asarray(shape[name], dtype=float) for name in row.shape)),
            strict=True,
        )
    )
    counter = _COUNTERS[row.counts]
    if row.counts in ("elementwise", "collective"):
        return counter(op, **arrays)
    if row.kv:
        return counter(precision, kv_precision or precision, rates, **arrays)
    return counter(precision, rates, **arrays)
