"""Whether a stream did what it says, in float64: every element of a map, every sum of a reduction.

A reduction leaves few numbers, and one number forgives much: with values around zero, a pass over
half of an array has a sum as good as any. So what each part should have left is compared, a sum
per program or per column, and a block that was skipped, read twice or read elsewhere shows up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import (
    check_elementwise,
    check_partials,
    check_sum,
    chunk_elements,
    poison,
)
from roofprobe.kernels.stream_rows import StreamKernel
from roofprobe.kernels.work import Check

if TYPE_CHECKING:
    import torch

SCALAR = 0.4
"""The factor q of scale and triad and the value of write: BabelStream's 0.4, inexact in binary."""

_RELATIVE_TOLERANCE = {"float64": 1e-14, "float32": 2e-7, "bfloat16": 8e-3, "float16": 1e-3}
_SUM_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
# Sums of many terms, against the greatest of them: one after the other in float32, or rounded to
# the array's own type at the end.
_COLUMN_TOLERANCE = {"float64": 1e-12, "float32": 1e-4, "bfloat16": 8e-3, "float16": 2e-3}

Launch = Callable[[], object]
Formula = Callable[..., "torch.Tensor"]

# What a map leaves, of the float64 values of the arrays that it reads (in place: the last one).
FORMULAS: dict[str, Formula] = {
    "copy": lambda a: a,
    "scale": lambda a: SCALAR * a,
    "add": lambda a, b: a + b,
    "triad": lambda a, b: a + SCALAR * b,
    "nstream": lambda a, b, c: c + (a + SCALAR * b),
    "addcmul": lambda a, b, c: c + SCALAR * a * b,
}


def check_map(
    row: StreamKernel, formula: str, arrays: tuple[torch.Tensor, ...], launch: Launch
) -> Check:
    """Poison the output, launch once, compare every element with ``formula``."""
    out, dtype = arrays[-1], str(arrays[0].dtype).removeprefix("torch.")
    if row.in_place:
        return _check_in_place(FORMULAS[formula], arrays, launch, _RELATIVE_TOLERANCE[dtype])
    poison(out)
    launch()
    if row.reads == 0:
        constant = _constant(out)
        return check_elementwise(out, lambda start, stop: constant[: stop - start], 0.0)

    def reference_of(start: int, stop: int) -> torch.Tensor:
        return FORMULAS[formula](*(array[start:stop].double() for array in arrays[: row.reads]))

    tolerance = 0.0 if formula == "copy" else _RELATIVE_TOLERANCE[dtype]
    return check_elementwise(out, reference_of, tolerance)


def _check_in_place(
    formula: Formula, arrays: tuple[torch.Tensor, ...], launch: Launch, tolerance: float
) -> Check:
    """Check a map whose output is also read, without a copy of it.

    Poison would be read, and a second array may not fit. So the output is set to minus half the
    first operand, which is exact in binary: what it was can be told from what is still there.
    """
    first, out = arrays[0], arrays[-1]
    out.copy_(first).mul_(-0.5)
    launch()

    def reference_of(start: int, stop: int) -> torch.Tensor:
        reads = [array[start:stop].double() for array in arrays[:-1]]
        return formula(*reads, -0.5 * reads[0])

    return check_elementwise(out, reference_of, tolerance)


def _constant(out: torch.Tensor) -> torch.Tensor:
    """Return a chunk of the value of ``write`` as the array's type holds it, in float64."""
    import torch

    value = torch.tensor(SCALAR, dtype=out.dtype).double().to(out.device)
    return value.expand(min(out.numel(), chunk_elements(out.device)))


def check_scalar(total: torch.Tensor, arrays: tuple[torch.Tensor, ...], launch: Launch) -> Check:
    """Poison the one sum that a library leaves, launch once, compare."""
    poison(total)
    launch()
    count = arrays[0].numel()
    block = chunk_elements(total.device)
    sums, magnitudes = sums_by_program(products(arrays), count, block, 1, total.device)
    dtype = str(arrays[0].dtype).removeprefix("torch.")
    return check_sum(
        float(total.double()), float(sums), float(magnitudes), count, _SUM_TOLERANCE[dtype]
    )


def check_total(
    total: Callable[[], float], arrays: tuple[torch.Tensor, ...], launch: Launch
) -> Check:
    """Launch once and compare the sum that ``total()`` then gives."""
    launch()
    count = arrays[0].numel()
    device = arrays[0].device
    sums, magnitudes = sums_by_program(products(arrays), count, chunk_elements(device), 1, device)
    dtype = str(arrays[0].dtype).removeprefix("torch.")
    return check_sum(total(), float(sums), float(magnitudes), count, _SUM_TOLERANCE[dtype])


def check_columns(
    launch: Callable[[], torch.Tensor], reference: Callable[[], torch.Tensor], count: int
) -> Check:
    """Launch once and compare each of the sums that it returns with ``reference()``."""
    found = launch()
    wanted = reference().reshape(-1)
    tolerance = _COLUMN_TOLERANCE[str(found.dtype).removeprefix("torch.")]
    check = check_elementwise(found.reshape(-1), lambda start, stop: wanted[start:stop], tolerance)
    return Check(check.error, tolerance, check.measure, count, check.problem)


def check_programs(
    partials: torch.Tensor, terms_of: Terms, count: int, block: int, launch: Launch
) -> Check:
    """Poison ``partials`` (programs,), launch once, compare what each program left.

    Program p sums blocks p, p + P, p + 2P, … of ``block`` terms each. Products and sums are formed
    in the type of the partial sums, whatever the array holds.
    """
    wanted = partial(sums_by_program, terms_of, count, block, partials.numel(), partials.device)
    return check_sums(partials, wanted, count, launch)


def check_sums(
    partials: torch.Tensor,
    wanted: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    count: int,
    launch: Launch,
) -> Check:
    """Poison ``partials`` (programs,), launch once, compare with (Σ, Σ|·|) of ``wanted()``."""
    poison(partials)
    launch()
    sums, magnitudes = wanted()
    tolerance = _SUM_TOLERANCE[str(partials.dtype).removeprefix("torch.")]
    return check_partials(partials, sums, magnitudes, count, tolerance)


Terms = Callable[[int, int], "torch.Tensor"]
"""The float64 terms [start, stop) of a reduction, in the order in which blocks count them."""


def products(arrays: tuple[torch.Tensor, ...]) -> Terms:
    """Return the terms of a sum (one array) or of a dot product (two)."""

    def terms_of(start: int, stop: int) -> torch.Tensor:
        terms = arrays[0][start:stop].double()
        for other in arrays[1:]:
            terms = terms * other[start:stop].double()
        return terms

    return terms_of


def runs_of(array: torch.Tensor, index: torch.Tensor | None, run: int, step: int) -> Terms:
    """Return the terms of runs of ``run`` elements that begin at step · index[i], or step · i."""
    whole = array[: array.numel() // step * step].view(-1, step)[:, :run]

    def terms_of(start: int, stop: int) -> torch.Tensor:
        assert start % run == 0, f"{start=}, {run=}"
        numbers = slice(start // run, -(-stop // run))
        rows = whole[numbers] if index is None else whole[index[numbers].long()]
        return rows.double().reshape(-1)[: stop - start]

    return terms_of


def sums_by_program(
    terms_of: Terms, count: int, block: int, programs: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (Σ terms, Σ|terms|) of each program in float64, in chunks of many blocks."""
    import torch

    sums: list[torch.Tensor] = []
    magnitudes: list[torch.Tensor] = []
    step = max(block, chunk_elements(device) // block * block)
    for start in range(0, count, step):
        terms = terms_of(start, min(count, start + step))
        terms = _padded(terms, block).view(-1, block)
        sums.append(terms.sum(dim=1))
        magnitudes.append(terms.abs().sum(dim=1))
    if not sums:
        return (torch.zeros(programs, dtype=torch.float64, device=device),) * 2
    by_program = [
        _padded(torch.cat(blocks), programs).view(-1, programs).sum(dim=0)
        for blocks in (sums, magnitudes)
    ]
    return by_program[0], by_program[1]


def _padded(values: torch.Tensor, multiple: int) -> torch.Tensor:
    """Return ``values`` with zeros up to a multiple, as a copy only where needed."""
    import torch

    missing = -values.numel() % multiple
    return values if not missing else torch.cat((values, values.new_zeros(missing)))
