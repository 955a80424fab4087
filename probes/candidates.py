"""Which shapes of a matrix product are worth trying when the fastest one is wanted.

A product C(m, n) = A(m, k) · B(k, n) is cut into tiles of C, and the tiles are dealt to the units
(SMs, CUs) in rounds, so-called waves. A last wave that is not full leaves units idle, which costs
up to half of a small product and little of a large one. Large products cost power instead, and the
clock falls. Long k spreads the cost of filling and draining the pipes over more work. So the best
shape fills few waves exactly and has a middling to long k; which one it is differs per device,
library and precision. Published best shapes bear this out: nearly all fill their waves to 97 %.

This module only proposes; the search measures. Nothing here knows a rate: a candidate is dropped
for its footprint, its number of operations, its alignment, or because its waves are badly filled,
and how many were dropped is part of the result. Filling is a pruner, not an oracle: most shapes
pass it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Shape = tuple[int, int, int]
Tile = tuple[int, int]
Kind = Literal["gpu", "cpu"]
Group = Literal["fp64", "fp32", "tf32", "narrow"]

# Tiles of C that the libraries' kernels use on current GPUs: 128, 192 or 256 on either side.
TILES: tuple[Tile, ...] = tuple((tm, tn) for tm in (128, 192, 256) for tn in (128, 192, 256))
# The tile that proposals are built from: multiples of it are multiples of most others too.
_PROPOSED_TILE: Tile = (128, 256)
_MIN_FILL = 0.97  # what nearly all published best shapes reach
_MIN_MODEL_FILL = 0.75  # a model's layer is what it is, but a half-empty wave cannot win


@dataclass(frozen=True, slots=True)
class Published:
    """A shape that somebody reported as the fastest on a GPU of ``family``."""

    family: str
    group: Group
    shape: Shape
    source: str


_MAMF = "stas00/ml-engineering 744d01e, compute/accelerator/README.md, MAMF tables"
_AZURE = "Azure/AI-benchmarking-guide 8fd0c6e, results of cuBLASLt"
_DEEPGEMM = "deepseek-ai/DeepGEMM 677143b, README.md"
PUBLISHED: tuple[Published, ...] = (
    Published("sm_80", "narrow", (1024, 10240, 5120), _MAMF),  # A100 SXM, bf16
    Published("sm_80", "narrow", (2048, 5120, 6144), _MAMF),  # A100 PCIe, bf16
    Published("sm_80", "narrow", (16384, 16384, 16384), _AZURE),  # A100, fp16
    Published("sm_90", "narrow", (2048, 2048, 13312), _MAMF),  # H100 SXM, bf16
    Published("sm_90", "narrow", (1024, 9216, 14336), _MAMF),  # H100 SXM, fp8
    Published("sm_90", "narrow", (1280, 4096, 12032), _MAMF),  # H200, fp8
    Published("sm_90", "narrow", (1024, 15360, 4096), _MAMF),  # GH200, bf16
    Published("sm_90", "narrow", (1024, 14336, 14336), _MAMF),  # GH200, fp8
    Published("sm_90", "narrow", (4096, 7168, 16384), _DEEPGEMM),  # H800, fp8
    Published("sm_90", "narrow", (16384, 16384, 16384), _AZURE),  # H200, fp8
    Published("sm_100", "narrow", (1792, 16128, 3072), _MAMF),  # B200, bf16
    Published("sm_100", "narrow", (15360, 4096, 3072), _MAMF),  # B200, fp8
    Published("sm_100", "narrow", (4096, 9728, 2048), _MAMF),  # GB200, bf16
    Published("sm_100", "narrow", (19456, 5120, 1536), _MAMF),  # GB200, fp8
    Published("sm_103", "narrow", (12288, 18432, 1024), _MAMF),  # B300, bf16
    Published("sm_103", "narrow", (3072, 6144, 7168), _MAMF),  # B300, fp8
    Published("gfx942", "narrow", (10240, 15360, 8192), _MAMF),  # MI300X, bf16
    Published("gfx942", "narrow", (13312, 10240, 8192), _MAMF),  # MI325X, bf16
    Published("gfx950", "narrow", (12288, 8192, 8192), _MAMF),  # MI355X, bf16
)

# (n, k) of the weight matrices of widely served models, from their published configurations:
# fused query-key-value, attention output, fused gate and up projection, down projection.
MODEL_LAYERS: dict[str, tuple[tuple[int, int], ...]] = {
    "Llama-2-7B": ((12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008)),
    "Llama-2-13B": ((15360, 5120), (5120, 5120), (27648, 5120), (5120, 13824)),
    "Llama-2-70B, Llama-3-70B": ((10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672)),
    "Llama-3-8B": ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)),
    "DeepSeek-V3": ((24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048)),
    "Qwen2.5-7B": ((4608, 3584), (3584, 3584), (37888, 3584), (3584, 18944)),
    "Qwen2.5-72B": ((10240, 8192), (8192, 8192), (59136, 8192), (8192, 29568)),
    "Qwen3-8B": ((6144, 4096), (4096, 4096), (24576, 4096), (4096, 12288)),
}
_MODEL_TOKENS = (4096, 8192)

_SQUARES: dict[Kind, tuple[int, ...]] = {
    "gpu": (1024, 2048, 3072, 4096, 6144, 8192, 12288, 16384),
    "cpu": (128, 192, 256, 384, 512, 640, 768, 1024, 1280),
}
_STEPS: dict[Kind, int] = {"gpu": 256, "cpu": 64}  # a tile's side; a few of a CPU's blocks
_WAVES = (1, 2, 4, 8, 16, 32)
_LOG2_ASPECTS = (-4, -2, 0, 2, 4)  # log2 of m/n
_UNKNOWN_UNITS_SIDES = (1024, 2048, 4096, 8192, 16384)
# Formats with few bytes per operation to load reach their rate at long k; wide ones do at short
# k already, and a long one only costs time there.
_DEPTHS: dict[Group, tuple[int, ...]] = {
    "narrow": (1024, 1536, 2048, 3072, 4096, 5120, 7168, 8192, 12288, 13312, 16384),
    "tf32": (1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288),
    "fp32": (512, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
    "fp64": (512, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
}
# A CPU's library packs panels of a few hundred k into the cache, and one launch already takes
# milliseconds: few shapes, sides and depths doubled.
_CPU_SIDES = (256, 512, 1024, 2048)
_CPU_DEPTHS = (256, 512, 1024, 2048)
_CPU_MIN_FLOPS = 2 * 128**3  # below, the call costs as much as the work


@dataclass(frozen=True, slots=True)
class Limits:
    """What a shape may cost and must be divisible by.

    ``max_set_bytes`` is the most that one set (A, B and C) may take; ``operand_bytes`` and
    ``output_bytes`` are the sizes of one element (half a byte is 0.5). ``align_n`` and
    ``align_k`` are what n and k must be divisible by, and m must be above ``min_m``.
    ``min_flops`` and ``max_flops`` bound the 2·m·n·k operations of one launch, ``max_side`` each
    of m, n and k. ``step`` is the grid on which a search may move them (None: what suits the
    kind of device, which ``space_for`` fills in).

    Raises ``ValueError`` for a size or an alignment that is not positive.
    """

    max_set_bytes: float
    operand_bytes: float
    output_bytes: float
    max_flops: float
    min_flops: float = 0.0
    align_n: int = 1
    align_k: int = 1
    min_m: int = 0
    max_side: int = 65536
    step: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that no shape could be held against."""
        positive = ("max_set_bytes", "operand_bytes", "output_bytes", "align_n", "align_k", "step")
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def refusal(self, shape: Shape) -> str | None:
        """Return the word for what forbids ``shape``, or None when nothing does."""
        m, n, k = shape
        if min(shape) < 1 or max(shape) > self.max_side or m <= self.min_m:
            return "side"
        if n % self.align_n or k % self.align_k:
            return "alignment"
        if not self.min_flops <= flops(shape) <= self.max_flops:
            return "operations"
        if footprint_bytes(shape, self.operand_bytes, self.output_bytes) > self.max_set_bytes:
            return "footprint"
        return None


@dataclass(frozen=True, slots=True)
class Space:
    """The shapes that a search may measure, and a sentence that says where they come from.

    ``shapes`` are distinct. ``pruned`` counts what was proposed and dropped. With ``limits``, a
    search may leave the list for neighbours within them; without, the list is all there is.
    """

    sentence: str
    shapes: tuple[Shape, ...]
    pruned: int
    limits: Limits | None = None

    def without(self, shapes: Sequence[Shape], reason: str) -> Space:
        """Return the space without ``shapes``, which count as dropped for ``reason``."""
        if not shapes:
            return self
        gone = set(shapes)
        return replace(
            self,
            sentence=f"{self.sentence[:-1]}; then {len(gone)} more dropped ({reason}).",
            shapes=tuple(shape for shape in self.shapes if shape not in gone),
            pruned=self.pruned + len(gone),
        )

    def neighbours(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shapes one move away from ``shape``, at most twelve, without ``shape``.

        A move changes one axis: to its half, its double, or one step up or down. In a space
        without limits it goes to the next smaller or larger value that the list has on that axis.
        """
        moved = self._within_limits(shape) if self.limits else self._within_list(shape)
        return tuple(dict.fromkeys(other for other in moved if other != shape))

    def _within_limits(self, shape: Shape) -> Iterator[Shape]:
        limits = self.limits
        assert limits is not None
        for axis, size in enumerate(shape):
            step = math.lcm(limits.step or _STEPS["cpu"], (1, limits.align_n, limits.align_k)[axis])
            for wanted in (size // 2, size * 2, size - step, size + step):
                moved = _with_axis(shape, axis, wanted // step * step)
                if limits.refusal(moved) is None:
                    yield moved

    def _within_list(self, shape: Shape) -> Iterator[Shape]:
        for axis, size in enumerate(shape):
            line = sorted(
                other[axis] for other in self.shapes if _with_axis(other, axis, size) == shape
            )
            for wanted in (
                max((value for value in line if value < size), default=size),
                min((value for value in line if value > size), default=size),
            ):
                yield _with_axis(shape, axis, wanted)


def flops(shape: Shape) -> int:
    """Return the 2·m·n·k operations of one product."""
    m, n, k = shape
    return 2 * m * n * k


def footprint_bytes(shape: Shape, operand_bytes: float, output_bytes: float) -> float:
    """Return the bytes of A (m, k), B (k, n) and C (m, n) together."""
    m, n, k = shape
    return (m * k + k * n) * operand_bytes + m * n * output_bytes


def wave_efficiency(m: int, n: int, units: int, tiles: Sequence[Tile] = TILES) -> float:
    """Return the share of the units' tile slots that a product of m × n outputs fills, 0 to 1.

    With a tile of tm × tn there are ⌈m/tm⌉·⌈n/tn⌉ tiles in ⌈tiles/units⌉ waves; slots that hold
    no output (the rest of a border tile, an idle unit of the last wave) are lost. The best of
    ``tiles`` counts, since the library may choose any. Raises ``ValueError`` when a size is not
    positive or there is no tile.
    """
    if min(m, n, units) < 1 or not tiles:
        raise ValueError(f"sizes must be positive, got m={m}, n={n}, units={units}, {tiles=}")
    best = 0.0
    for tm, tn in tiles:
        waves = -(-(-(-m // tm) * -(-n // tn)) // units)
        best = max(best, m * n / (tm * tn * units * waves))
    return best


def space_for(
    *,
    kind: Kind,
    group: Group,
    limits: Limits,
    units: int | None = None,
    family: str | None = None,
) -> Space:
    """Return the shapes to try on a device, distinct and in a fixed order.

    ``units`` counts SMs or CUs (None when unknown: waves cannot be filled on purpose then);
    ``family`` is the architecture (``sm_90``, ``gfx942``), whose published shapes come first.
    On a CPU units play no part: a library deals much finer blocks to its threads than waves.
    """
    limits = replace(limits, step=limits.step or _STEPS[kind])
    if kind == "cpu":
        named: dict[str, Iterable[Shape]] = {
            "squares": _squares("cpu"),
            "panels": _panels(),
        }
        limits = replace(limits, min_flops=max(limits.min_flops, _CPU_MIN_FLOPS))
    else:
        filled = f"shapes that fill the waves of {units} units"
        named = {
            "published best shapes": _published(group, family),
            "squares": _squares("gpu"),
            "layers of served models": _model_layers(),
            filled if units else "rectangles": _rectangles(units, _DEPTHS[group]),
        }
    return _pruned(named, limits, units if kind == "gpu" else None)


def _pruned(named: dict[str, Iterable[Shape]], limits: Limits, units: int | None) -> Space:
    kept: dict[Shape, None] = {}
    dropped: dict[Shape, str] = {}
    used: list[str] = []
    for name, shapes in named.items():
        before = len(kept)
        for shape in shapes:
            if shape in kept or shape in dropped:
                continue
            reason = limits.refusal(shape)
            if reason is None and units and name == "layers of served models":
                fill = wave_efficiency(shape[0], shape[1], units)
                reason = "waves" if fill < _MIN_MODEL_FILL else None
            if reason is None:
                kept[shape] = None
            else:
                dropped[shape] = reason
        if len(kept) > before:
            used.append(f"{name} ({len(kept) - before})")
    reasons = ", ".join(
        f"{word} {count}" for word, count in sorted(Counter(dropped.values()).items())
    )
    sentence = f"{len(kept)} shapes: {', '.join(used) or 'none fits'}; {len(dropped)} dropped"
    sentence += f" ({reasons})." if reasons else "."
    return Space(sentence, tuple(kept), len(dropped), limits)


def _published(group: Group, family: str | None) -> Iterator[Shape]:
    """Yield published shapes: of the family and group, of the family, then all others."""
    ranked = sorted(PUBLISHED, key=lambda row: (row.family != family, row.group != group))
    yield from (row.shape for row in ranked)


def _squares(kind: Kind) -> Iterator[Shape]:
    yield from ((side, side, side) for side in _SQUARES[kind])


def _panels() -> Iterator[Shape]:
    for m in _CPU_SIDES:
        for n in _CPU_SIDES:
            yield from ((m, n, k) for k in _CPU_DEPTHS)


def _model_layers() -> Iterator[Shape]:
    for layers in MODEL_LAYERS.values():
        for n, k in layers:
            yield from ((m, n, k) for m in _MODEL_TOKENS)


def _rectangles(units: int | None, depths: Sequence[int]) -> Iterator[Shape]:
    """Yield (m, n) pairs crossed with every second depth, in turn the even and the odd ones.

    A checkerboard covers both axes with half of the shapes; a search that finds a good cell moves
    to the ones between.
    """
    pairs = _filled_pairs(units) if units else _plain_pairs()
    for index, (m, n) in enumerate(dict.fromkeys(pairs)):
        yield from ((m, n, k) for k in depths[index % 2 :: 2])


def _filled_pairs(units: int) -> Iterator[tuple[int, int]]:
    """Yield m × n that fill whole waves, per number of waves the nearest to each aspect.

    With a tiles along m there are ⌊waves·units/a⌋ along n, so that no unit count (a prime one
    included) is left without pairs.
    """
    tm, tn = _PROPOSED_TILE
    for waves in _WAVES:
        slots = waves * units
        filled = [
            (rows * tm, slots // rows * tn)
            for rows in range(1, slots + 1)
            if rows * (slots // rows) >= _MIN_FILL * slots
        ]
        for wanted in _LOG2_ASPECTS:
            yield min(filled, key=lambda pair: abs(math.log2(pair[0] / pair[1]) - wanted))


def _plain_pairs() -> Iterator[tuple[int, int]]:
    for m in _UNKNOWN_UNITS_SIDES:
        yield from ((m, n) for n in _UNKNOWN_UNITS_SIDES)


def _with_axis(shape: Shape, axis: int, size: int) -> Shape:
    m, n, k = (size if index == axis else old for index, old in enumerate(shape))
    return m, n, k
