"""Operands of matrix products: how they are stored, filled, scaled, pruned, and read back.

One arena per row holds all of them: three stretches of memory (A, B, C) that are filled once and
cut into views, so that trying a shape allocates nothing. Several sets of views go round, at
least two and as many as exceed twice the last-level cache, so that operands come from memory.

Data decides power, and power decides clocks: on zeros nothing toggles and a GPU may run 15 %
faster than on random numbers (the CUTLASS measurement guide asks for uniform values in [-1, 1],
which is ``uniform`` here and the pattern of every figure that does not say otherwise). The other
patterns exist to show how much a flattering input would have gained.

``LAYOUT`` letters are BLAS's, column-major: A is contiguous along k when its letter is T, B is when
its letter is N. ``TN``, both along k, is the layout that every precision's fast path takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.kernels.rows import ComputeRow, Scaling
from roofprobe.kernels.work import Target, Unsupported

if TYPE_CHECKING:
    import torch

PATTERNS = ("uniform", "normal", "small-integers", "constant", "zeros")
LAYOUTS = ("TN", "NN", "NT", "TT")

# Bits of an element as stored.
_BITS = {
    "float64": 64, "float32": 32, "bfloat16": 16, "float16": 16, "float8_e4m3fn": 8, "int8": 8,
    "int32": 32, "uint4": 4, "int4": 4,
}  # fmt: skip
_ALIGN = 256  # elements: every view begins at a multiple of 128 bytes or more
_PIECE = 1 << 26  # elements that are filled at a time: a wide copy of all would not fit
_SCALE_PIECE = 1 << 16  # scales that one seeding of the generator draws
# (rows, columns along k) that share one scale: of A, of B.
_BLOCKS: dict[Scaling, tuple[tuple[int, int], tuple[int, int]]] = {
    "blockwise": ((1, 128), (128, 128)),
    "mx32": ((1, 32), (1, 32)),
    "nv16": ((1, 16), (1, 16)),
}
# The values of the sixteen e2m1 codes (OCP Microscaling 1.0, table 5).
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


@dataclass(frozen=True, slots=True)
class Stored:
    """One operand: ``values`` (rows, k) as stored elements, ``scales`` as the route takes them.

    ``values`` of packed 4-bit codes is (rows, k/2) bytes, low nibble first.
    """

    values: torch.Tensor
    scales: torch.Tensor | None = None
    scaling: Scaling | None = None
    block: tuple[int, int] = (1, 1)
    packed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, k) in elements."""
        rows, columns = self.values.shape
        return rows, columns * 2 if self.packed else columns

    def rows64(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Return rows [start, stop) in float64, scales applied, on ``device``."""
        import torch

        block = self.values[start:stop].to(device)
        if self.packed:
            table = torch.tensor(E2M1, dtype=torch.float64, device=device)
            codes = torch.stack((block & 0xF, block >> 4), dim=-1).reshape(block.shape[0], -1)
            wide = table[codes.long()]
        else:
            if block.element_size() == 1 and block.dtype.is_floating_point:
                block = block.to(torch.float32)
            wide = block.to(torch.float64)
        if self.scales is None:
            return wide
        scales = self.scales.to(device)
        if self.scaling == "tensorwise":
            return wide * scales.double()
        if self.scaling == "rowwise":
            return wide * scales.reshape(-1, 1)[start:stop].double()
        tall, long = self.block
        picked = torch.arange(start, stop, device=device) // tall
        decoded = scales.view(torch.uint8) if scales.element_size() == 1 else scales
        if self.scaling == "mx32":
            factors = torch.exp2(decoded[picked].double() - 127)
        elif self.scaling == "nv16":
            factors = scales[picked].to(torch.float32).double()
        else:
            factors = scales[picked].double()
        return wide * factors.repeat_interleave(long, dim=1)[:, : wide.shape[1]]


@dataclass(frozen=True, slots=True)
class Operands:
    """One set: A (m, k), B as (n, k), and C (m, n); ``index`` counts the sets."""

    a: Stored
    b: Stored
    out: torch.Tensor
    index: int
    layout: str = "TN"

    @property
    def a_mk(self) -> torch.Tensor:
        """Return A's values as an (m, k) tensor, whatever its layout."""
        return self.a.values

    @property
    def b_kn(self) -> torch.Tensor:
        """Return B's values as a (k, n) tensor, whatever its layout."""
        return self.b.values.t()


def item_bytes(row: ComputeRow) -> tuple[float, float]:
    """Return the bytes of one element of A or B, and of one of C (4-bit codes: 0.5)."""
    return _BITS[row.operand] / 8, _BITS[row.output] / 8


def set_bytes(row: ComputeRow, m: int, n: int, k: int) -> int:
    """Return the bytes of one set of A, B and C, scales not counted (at most 1/16 of it)."""
    operand, output = _BITS[row.operand], _BITS[row.output]
    return -(-(m * k + n * k) * operand // 8) + -(-m * n * output // 8)


def sets_wanted(row: ComputeRow, shape: tuple[int, int, int], cache_bytes: int | None) -> int:
    """Return how many sets make twice the last-level cache; at least 2, at most 64."""
    return min(64, max(2, -(-2 * (cache_bytes or 0) // max(1, set_bytes(row, *shape)))))


def fitting(
    row: ComputeRow, shapes: tuple[tuple[int, int, int], ...], limit_bytes: int | None
) -> tuple[tuple[int, int, int], ...]:
    """Return those of ``shapes`` that one arena of at most ``limit_bytes`` holds together.

    An arena takes the largest A, the largest B and the largest C, which belong to different shapes.
    What does not fit by itself goes first. While the rest is too much, the shape is dropped that
    has the largest of the part which takes most (of several the one with the largest set), so that
    what stays depends on nothing else.
    """
    if limit_bytes is None:
        return shapes
    kept = [shape for shape in shapes if _bytes(row, list(_parts(shape, 1))) <= limit_bytes]
    while kept:
        parts = [_parts(shape, 1) for shape in kept]
        least = [max(part[side] for part in parts) for side in range(3)]
        if _bytes(row, least) <= limit_bytes:
            break
        alone = [_bytes(row, [size * (side == other) for other, size in enumerate(least)])
                 for side in range(3)]  # fmt: skip
        side = alone.index(max(alone))
        kept.remove(
            max(kept, key=lambda shape: (_parts(shape, 1)[side], set_bytes(row, *shape), shape))
        )
    return tuple(kept)


class Arena:
    """The memory of one row's operands, filled once, cut into views for any shape that fits.

    Scales lie in a stretch per side, drawn once as well; a shape outside of ``shapes`` that takes
    more of them has them drawn on. They are few and not counted among the bytes.

    ``shapes`` are those that must fit with ``sets_wanted`` sets; memory above ``limit_bytes``
    is not taken, so that a shape may get fewer sets, but never less than one. Raises
    ``Unsupported`` (``memory``) when not even one set of the smallest fits, and whatever torch
    raises when memory runs out.
    """

    def __init__(
        self,
        row: ComputeRow,
        target: Target,
        shapes: tuple[tuple[int, int, int], ...],
        *,
        cache_bytes: int | None,
        limit_bytes: int | None,
        pattern: str = "uniform",
        seed: int = 0,
    ) -> None:
        """Allocate and fill; ``seed`` decides every element."""
        import torch

        self.row, self.target, self.pattern = row, target, pattern
        self._cache_bytes = cache_bytes
        self._device = torch.device(target.torch_device)
        self._dtype = _torch_dtype(row.operand, target)
        self._packed = row.operand == "uint4"
        self._seed = seed
        self._generator = torch.Generator(device=self._device).manual_seed(seed)
        sizes = [self._sizes(shape, self.sets_wanted(shape)) for shape in shapes]
        wanted = [max(size[part] for size in sizes) for part in range(3)]
        total = self._bytes(wanted)
        if limit_bytes is not None:
            least = [max(_parts(s, 1)[part] for s in shapes) for part in range(3)]
            if self._bytes(least) > limit_bytes:
                raise Unsupported(
                    "memory",
                    f"one set of operands needs {self._bytes(least) / 2**30:.1f} GiB and "
                    f"{limit_bytes / 2**30:.1f} GiB may be used",
                    "free memory on the device, or choose a smaller tier",
                )
            if total > limit_bytes:
                share = limit_bytes / total
                wanted = [
                    max(low, int(high * share)) for low, high in zip(least, wanted, strict=True)
                ]
                if self._bytes(wanted) > limit_bytes:
                    wanted = least
        # Where memory is short, a shape may get fewer sets than wanted; never less is asked again.
        self.limit_sets = 64 if limit_bytes is None or total <= limit_bytes else 1
        per_byte = 2 if self._packed else 1
        self._a = self._filled(wanted[0] // per_byte)
        self._b = self._filled(wanted[1] // per_byte)
        if row.sparsity:
            _prune(self._a)
        self._out = torch.empty(
            wanted[2], dtype=_torch_dtype(row.output, target), device=self._device
        )
        none = torch.empty(0, device=self._device)
        self._scales = [_as_scales(none, row.scaling), _as_scales(none, row.scaling)]
        self._draw_scales(shapes)

    def sets_wanted(self, shape: tuple[int, int, int]) -> int:
        """Return how many sets of a shape should go round."""
        return sets_wanted(self.row, shape, self._cache_bytes)

    def _sizes(self, shape: tuple[int, int, int], sets: int) -> tuple[int, int, int]:
        """Return the elements of A, B and C that so many sets take."""
        return _parts(shape, sets)

    def _places(self, index: int) -> tuple[int, int, int]:
        """Return which A, which B and which C the set with this number has."""
        return index, index, index

    @property
    def nbytes(self) -> int:
        """Return the bytes of all three stretches."""
        return self._a.nbytes + self._b.nbytes + self._out.nbytes

    def capacity(self, shape: tuple[int, int, int]) -> int:
        """Return how many sets of this shape fit."""
        per_byte = 2 if self._packed else 1
        have = (self._a.numel() * per_byte, self._b.numel() * per_byte, self._out.numel())
        return min(most // part for part, most in zip(_parts(shape, 1), have, strict=True))

    def sets(self, shape: tuple[int, int, int], layout: str = "TN") -> tuple[Operands, ...]:
        """Return the views of a shape (m, n, k): as many sets as wanted and as fit."""
        m, n, k = shape
        assert self.capacity(shape), f"{shape} does not fit into the arena of {self.row.name}"
        per_byte = 2 if self._packed else 1
        steps = [part // per_byte for part in _parts(shape, 1)[:2]]
        step_out = _parts(shape, 1)[2]
        count = min(self.sets_wanted(shape), self.capacity(shape))
        self._draw_scales((shape,))
        made = []
        for index in range(count):
            of_a, of_b, of_c = self._places(index)
            a = self._view(self._a, of_a * steps[0], m, k // per_byte, layout[0] == "T")
            b = self._view(self._b, of_b * steps[1], n, k // per_byte, layout[1] == "N")
            out = self._out[of_c * step_out :][: m * n].view(m, n)
            stored = (self._stored(a, 0, of_a, k), self._stored(b, 1, of_b, k))
            made.append(Operands(*stored, out, index, layout))
        return tuple(made)

    def _stored(self, values: torch.Tensor, side: int, index: int, k: int) -> Stored:
        scaling = self.row.scaling
        if scaling is None:
            return Stored(values)
        size = _scale_shape(scaling, side, values.shape[0], k)
        start = index * aligned(math.prod(size))
        scales = self._scales[side][start:][: math.prod(size)].view(size)
        block = _BLOCKS[scaling][side] if scaling in _BLOCKS else (1, 1)
        return Stored(values, scales, scaling, block, self._packed)

    def _draw_scales(self, shapes: tuple[tuple[int, int, int], ...]) -> None:
        """Let both stretches be long enough for each of ``shapes`` and its sets.

        Piece by piece, each seeded by its place: a longer stretch begins like a shorter one, so
        that the scales of a shape do not depend on what was asked before.
        """
        import torch

        row = self.row
        if row.scaling is None:
            return
        plain = self.pattern in ("constant", "zeros") or row.sparsity is not None
        for side in (0, 1):
            wanted = max(
                min(self.sets_wanted(shape), self.capacity(shape))
                * aligned(math.prod(_scale_shape(row.scaling, side, shape[side], shape[2])))
                for shape in shapes
            )
            have = self._scales[side].numel()
            if wanted <= have:
                continue
            drawn = [self._scales[side]]
            for piece in range(have // _SCALE_PIECE, -(-wanted // _SCALE_PIECE)):
                values = torch.ones(_SCALE_PIECE, device=self._device)
                if not plain:
                    generator = torch.Generator(device=self._device)
                    place = ((self._seed * 2 + side) << 24) + piece
                    generator.manual_seed(place % (1 << 63))
                    values.uniform_(0.25, 1, generator=generator)
                drawn.append(_as_scales(values, row.scaling))
            # By bits: not every torch joins tensors of e4m3.
            bits = torch.cat([part.view(torch.uint8) for part in drawn])
            self._scales[side] = bits.view(drawn[0].dtype)

    @staticmethod
    def _view(
        flat: torch.Tensor, start: int, rows: int, columns: int, along_k: bool
    ) -> torch.Tensor:
        part = flat[start:][: rows * columns]
        return part.view(rows, columns) if along_k else part.view(columns, rows).t()

    def _bytes(self, parts: list[int]) -> int:
        return _bytes(self.row, parts)

    def _filled(self, count: int) -> torch.Tensor:
        return fill(count, self.row, self._dtype, self.pattern, self._generator)


def aligned(count: int) -> int:
    """Return ``count`` elements rounded up to where the next view may begin."""
    return -(-count // _ALIGN) * _ALIGN


def _parts(shape: tuple[int, int, int], sets: int) -> tuple[int, int, int]:
    """Return the elements of A, B and C for ``sets`` sets, each set aligned."""
    m, n, k = shape
    a, b, c = (aligned(size) * sets for size in (m * k, n * k, m * n))
    return a, b, c


def _bytes(row: ComputeRow, parts: list[int]) -> int:
    """Return the bytes of as many elements of A, B and C."""
    operand, output = _BITS[row.operand], _BITS[row.output]
    return (parts[0] + parts[1]) * operand // 8 + parts[2] * output // 8


def fill(
    count: int,
    row: ComputeRow,
    dtype: torch.dtype,
    pattern: str,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return ``count`` elements of ``pattern`` on the generator's device.

    Floats: ``uniform`` in [-1, 1], ``normal`` with deviation 1, ``small-integers`` in -4…4 (the
    default of NVIDIA's cutlass_profiler), ``constant`` 1, ``zeros``. Integers: uniform in
    -127…127, normal with deviation 32. Packed 4-bit codes: every code equally often for
    ``uniform`` (values in [-1, 1] would use three of the eight magnitudes only).
    """
    import torch

    device = generator.device
    if row.operand == "uint4":
        return _codes(count, pattern, generator)
    if dtype == torch.int8:
        if pattern == "normal":
            whole = torch.empty(count, dtype=torch.int8, device=device)
            for part in whole.split(_PIECE):
                wide = torch.empty(part.numel(), device=device).normal_(0, 32, generator=generator)
                part.copy_(wide.round_().clamp_(-127, 127))
            return whole
        low, high = {"zeros": (0, 0), "constant": (1, 1), "small-integers": (-4, 4)}.get(
            pattern, (-127, 127)
        )
        return torch.randint(
            low, high + 1, (count,), dtype=torch.int8, device=device, generator=generator
        )
    kind = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    values = torch.empty(count, dtype=dtype, device=device)
    # In pieces: a wide copy of the whole would need up to five times the arena's memory.
    for start in range(0, count, _PIECE):
        piece = torch.empty(min(_PIECE, count - start), dtype=kind, device=device)
        if pattern == "uniform":
            piece.uniform_(-1, 1, generator=generator)
        elif pattern == "normal":
            piece.normal_(0, 1, generator=generator)
        elif pattern == "small-integers":
            piece.random_(0, 9, generator=generator).sub_(4)
        else:
            piece.fill_(1.0 if pattern == "constant" else 0.0)
        values[start : start + piece.numel()].copy_(piece)
    return values


def _codes(count: int, pattern: str, generator: torch.Generator) -> torch.Tensor:
    """Return ``count`` bytes of two e2m1 codes each."""
    import torch

    device = generator.device
    if pattern in ("zeros", "constant"):
        return torch.full(
            (count,), 0 if pattern == "zeros" else 0x22, dtype=torch.uint8, device=device
        )
    if pattern == "uniform":
        return torch.randint(
            0, 256, (count,), dtype=torch.uint8, device=device, generator=generator
        )
    table = torch.tensor(E2M1, device=device)
    spread = 2.0 if pattern == "normal" else 0.0
    low, high = torch.zeros(2, count, dtype=torch.uint8, device=device)
    for half in (low, high):
        for start in range(0, count, 1 << 22):
            size = min(1 << 22, count - start)
            wanted = (
                torch.empty(size, device=device).normal_(0, spread, generator=generator)
                if spread
                else torch.randint(-4, 5, (size,), device=device, generator=generator).float()
            )
            half[start : start + size] = (
                (wanted[:, None] - table[None, :]).abs().argmin(1).to(torch.uint8)
            )
    packed: torch.Tensor = low | (high << 4)
    return packed


def _scale_shape(scaling: Scaling, side: int, rows: int, k: int) -> tuple[int, ...]:
    """Return the shape of an operand's scales in the plain layout (rows / tall, k / long)."""
    if scaling == "tensorwise":
        return ()
    if scaling == "rowwise":
        return (rows,)
    tall, long = _BLOCKS[scaling][side]
    return (-(-rows // tall), -(-k // long))


def _as_scales(values: torch.Tensor, scaling: Scaling | None) -> torch.Tensor:
    """Return float32 ``values`` in [1/4, 1] as the scales of a recipe are stored.

    Not 1 everywhere, or a route that forgets its scales would pass the check; 1 everywhere for
    ``constant`` and ``zeros``, and for sparse products, whose library takes none: there is nothing
    to forget, and the check says nothing about scales.
    """
    import torch

    if scaling == "mx32":
        return (torch.floor(torch.log2(values)) + 127).to(torch.uint8)
    return values.to(torch.float8_e4m3fn) if scaling == "nv16" else values


def _prune(flat: torch.Tensor) -> None:
    """Zero two of every four elements of ``flat``, positions by a fixed rotation of all six pairs.

    Rows are multiples of four long, so the groups of four lie along k in every view. In place, by
    strided views: masks over the groups would take several times the operand's memory.
    """
    import torch

    pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    # By bits: a zero is all zero bits in each of these types, and not all of them can be zeroed.
    bits = flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[flat.element_size()])
    groups = bits[: bits.numel() // 4 * 4].view(-1, 4)
    for index, pair in enumerate(pairs):
        for column in pair:
            groups[index :: len(pairs), column].zero_()


def _torch_dtype(name: str, target: Target) -> torch.dtype:
    import torch

    if name in ("uint4", "int4"):
        return torch.uint8
    if name == "float8_e4m3fn" and target.architecture == "gfx942":
        name = "float8_e4m3fnuz"  # CDNA 3 knows only the variant without negative zero
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise Unsupported(
            "torch-version",
            f"torch {torch.__version__} has no type {name}",
            "pip install --upgrade torch",
        )
    return dtype
