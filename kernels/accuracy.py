"""How right a result must be before it is timed: one error measure, one tolerance table.

A matrix product is checked whole without forming a second product (Freivalds 1977): with a random
vector v, C·v must equal A·(B·v). For an error matrix E the expectation of ‖E·v‖² is ‖E‖²_F times
the mean square of v, so ‖C·v − A·(B·v)‖ / ‖A·(B·v)‖ estimates the relative Frobenius error over
all elements at the cost of three matrix-vector products in float64. v holds non-zero integers
below 128: few are equal, so swapped columns show, which signs would hide every second time, and
an integer product stays exact. Products of up to 2^20 multiplications are formed whole instead:
with few elements the estimate itself would scatter.

One wrong tile among thousands drowns in a norm over all elements: 64 x 64 zeros in 16384 x 16384
change it by 4e-3. So every row is held to a limit as well: with r = C·v − A·(B·v), no |rᵢ| may
exceed 3 · tolerance · max(rms(A·(B·v)), √Σⱼ(cᵢⱼ·vⱼ)²); where products are formed whole, rows of
C − A·B are held against the rms row and their own norm. Rounding stays below: with many columns rᵢ
is nearly normal, with the deviation of a single rounding (1.7e-3 in bf16) times the row's own norm,
nine deviations from the limit; with few, each of n elements is off by 2^-8 of itself at most, which
makes √n · 2^-8 of the row's norm. (Against the rms row alone, one large element would be an alarm.)

The smallest wrong part that shows: let n elements of a row have the deviation s. Then A·(B·v) has
the deviation √n · s · rms(v), w elements with other, independent values put √(2w) · s · rms(v) into
rᵢ, and that is twice the limit for w = 18 · tolerance² · n, where a row shows with a probability of
0.6 and one of the rows of a tile as good as certainly. That is 7 elements of 16384 in bf16, and 265
with the short sums of fp8. A tolerance of 0 leaves nothing to add.

Tolerances, for operands uniform in [−1, 1] and the reference made from the operands as stored:

===========  ==========================================================  =========
precision    what limits the error                                       tolerance
===========  ==========================================================  =========
fp64         53-bit rounding, summed over k ≤ 32768                      1e-13
fp32         24-bit rounding; TF32 operands would give about 3e-4        5e-6
tf32         11-bit operands, truncated (≤ 2^-10 each)                   2e-3
bf16         rounding of the bf16 result, 2^-9/√3 rms                    5e-3
fp16         rounding of the fp16 result, 2^-11/√3 rms                   1.5e-3
fp16-acc16   running sums in fp16 grow the error with √k                 1e-1
fp8          exact products, rounding of the bf16 result                 5e-3
fp8 (fast)   sums kept in the tensor core at about 14 bits, k ≤ 2^14     3e-2
mxfp8        as fp8; block scales are powers of two, exact               5e-3
nvfp4        as fp8; 4-bit products scaled by e4m3 are exact             5e-3
int8         nothing: products and sums are exact                        0
===========  ==========================================================  =========

Sums that the FP8 unit itself keeps (e8m13: it cuts, it does not round) lose the same way at each
step, so the error grows with their number. A simulation gives 0.0065 · k / 8192, which is 0.013 at
k = 16384, less than half of the tolerance; beyond, the tolerance grows with k and keeps that ratio.

TF32 also has a floor: a result as good as IEEE float32 says that the library declined TF32 and
ran something else under its name. Nothing is wrong then, but nothing of TF32 was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.kernels.operands import Stored
from roofprobe.kernels.work import Check

if TYPE_CHECKING:
    import torch

INT32_POISON = -(2**31)
# Of float64 temporaries at a time. On a processor they shall stay in its caches: larger ones are
# new memory each time, whose pages take longer to fault in than the arithmetic (nine times in all).
# A GPU rather has few launches.
_CHUNK_ELEMENTS, _CHUNK_ELEMENTS_CPU = 1 << 24, 1 << 18
_WHOLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The greatest relative error that passes, and the least that is still believable.

    Beyond ``steady_k`` products per sum the greatest grows with their number.
    """

    error: float
    floor: float = 0.0
    steady_k: int | None = None

    def error_at(self, k: int) -> float:
        """Return the greatest relative error of sums over ``k`` products."""
        return self.error if self.steady_k is None else self.error * max(1.0, k / self.steady_k)


TOLERANCES: dict[str, Tolerance] = {
    "fp64": Tolerance(1e-13),
    "fp32": Tolerance(5e-6),
    "tf32": Tolerance(2e-3, floor=1e-5),
    "bf16": Tolerance(5e-3),
    "fp16": Tolerance(1.5e-3),
    "fp16-acc16": Tolerance(1e-1),
    "fp8": Tolerance(5e-3),
    "fp8-fast": Tolerance(3e-2, steady_k=16384),
    "mxfp8": Tolerance(5e-3),
    "nvfp4": Tolerance(5e-3),
    "int8": Tolerance(0.0),
}

# How far above the tolerance a single row may lie.
_ROW_FACTOR = 3.0

MATMUL_MEASURE = "‖C·v − A·(B·v)‖ / ‖A·(B·v)‖ in float64, v random integers"
WHOLE_MEASURE = "‖C − A·B‖ / ‖A·B‖ in float64"
STREAM_MEASURE = "max |out − ref| / max |ref| in float64"
SUM_MEASURE = "|sum − ref| / Σ|terms| in float64"
PARTIALS_MEASURE = "max |partial sum − ref| / Σ|its terms| in float64"


def chunk_elements(device: torch.device) -> int:
    """Return how many elements to compare at a time on ``device``."""
    return _CHUNK_ELEMENTS_CPU if device.type == "cpu" else _CHUNK_ELEMENTS


def poison(out: torch.Tensor) -> None:
    """Fill ``out`` with NaN (the least int32 for integers), so that unwritten parts show."""
    if out.dtype.is_floating_point:
        out.fill_(float("nan"))
    else:
        out.fill_(INT32_POISON)


def unwritten(out: torch.Tensor) -> int:
    """Count the elements of ``out`` (any shape) that are still poison, NaN or infinite."""
    import torch

    total = 0
    for chunk in out.reshape(-1).split(chunk_elements(out.device)):
        floating = chunk.dtype.is_floating_point
        total += int(((~torch.isfinite(chunk)) if floating else chunk == INT32_POISON).sum())
    return total


def check_matmul(
    a: torch.Tensor | Stored,
    b_nk: torch.Tensor | Stored,
    out: torch.Tensor,
    *,
    precision: str,
    seed: int,
    scale: float = 1.0,
    floor: bool = True,
) -> Check:
    """Compare ``out`` (m, n) with ``scale`` · a (m, k) · b_nk (n, k)ᵀ, operands' scales applied.

    Operands are taken as stored (after rounding to their type), so the error is the kernel's
    alone. Without ``floor`` a result that is too good passes: on integers or zeros every format
    is exact. Every row is held to its own limit too, see above; the figure stays that of the whole.
    Works on the tensors' device where it has float64, else on the host.
    """
    import torch

    stored_a = a if isinstance(a, Stored) else Stored(a)
    stored_b = b_nk if isinstance(b_nk, Stored) else Stored(b_nk)
    tolerance = TOLERANCES[precision]
    greatest = tolerance.error_at(stored_a.shape[1])
    missing = unwritten(out)
    if missing:
        return Check(
            error=1.0,
            tolerance=greatest,
            measure=MATMUL_MEASURE,
            checked_elements=out.numel(),
            problem=f"{missing} of {out.numel()} elements were not written or are not finite",
        )
    device = out.device if out.device.type in ("cpu", "cuda") else torch.device("cpu")
    line = "row"
    if out.numel() * stored_a.shape[1] <= _WHOLE:
        wide_a, wide_b = (s.rows64(0, s.shape[0], device) for s in (stored_a, stored_b))
        reference = scale * (wide_a @ wide_b.t())
        result = out.to(device).double()
        own = torch.linalg.vector_norm(result, dim=1)
        measure = WHOLE_MEASURE
    else:
        reference, result, own = _projected(stored_a, stored_b, out, scale, seed, device)
        measure = MATMUL_MEASURE
        line = "row" if out.shape[0] >= out.shape[1] else "column"
    norm = float(torch.linalg.vector_norm(reference))
    off = torch.linalg.vector_norm((result - reference).reshape(reference.shape[0], -1), dim=1)
    difference = float(torch.linalg.vector_norm(off))
    error = difference / norm if norm > 0 else difference
    problem = None
    if not error <= greatest:
        problem = f"the error {error:.2g} is above the tolerance {greatest:.2g}"
    else:
        typical = norm / math.sqrt(off.numel())
        problem = _wrong_line(off, own.clamp(min=typical), _ROW_FACTOR * greatest, line)
    too_good = floor and problem is None and error < tolerance.floor
    return Check(
        error=error,
        tolerance=greatest,
        measure=measure,
        checked_elements=out.numel(),
        problem=problem,
        declined=(
            f"the error {error:.2g} is below {tolerance.floor:.2g}: the library declined this "
            "precision and computed in a higher one"
        )
        if too_good
        else None,
    )


def _wrong_line(off: torch.Tensor, size: torch.Tensor, limit: float, line: str) -> str | None:
    """Say which row (or column) of C is wrong by itself: ``off`` has errors, ``size`` norms."""
    shares = off / size.masked_fill(size == 0, 1.0)  # of zeros the error is absolute
    worst = int(shares.argmax())
    share = float(shares[worst])
    if share <= limit:
        return None
    return (
        f"{line} {worst} is off by {share:.2g} of its norm, above the limit {limit:.2g} for one "
        f"{line}"
    )


def _projected(
    a: Stored, b: Stored, out: torch.Tensor, scale: float, seed: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``scale`` · A·(Bᵀ·v), C·v and √(C²·v²) in float64 for a random vector of integers v.

    Of the two sides on which v can stand, the one is taken that leaves the longer vector: its norm
    is the better estimate, and with one row the other side would leave a single number.
    """
    import torch

    if out.shape[0] < out.shape[1]:
        a, b, out = b, a, out.t()
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 128, (out.shape[1],), generator=generator)
    signs = torch.randint(0, 2, (out.shape[1],), generator=generator) * 2 - 1
    v = (signs * sizes).to(device, torch.float64)
    b_v = _transposed_matvec(b, v, device)
    product = [(block @ v, block.square() @ v.square()) for _, block in _rows(Stored(out), device)]
    result, squares = (torch.cat(parts) for parts in zip(*product, strict=True))
    return scale * _matvec(a, b_v, device), result, squares.sqrt()


def check_elementwise(
    out: torch.Tensor, reference_of: Callable[[int, int], torch.Tensor], tolerance: float
) -> Check:
    """Compare a stream kernel's output with ``reference_of(start, stop)`` in float64, in chunks.

    ``reference_of`` returns the float64 values of elements [start, stop); the error is the
    greatest difference over the greatest reference value.
    """
    missing = unwritten(out)
    worst = 0.0
    scale = 0.0
    step = chunk_elements(out.device)
    for start in range(0, out.numel(), step):
        stop = min(out.numel(), start + step)
        reference = reference_of(start, stop)
        difference = (out[start:stop].double() - reference).abs().max()
        worst = max(worst, float(difference)) if not missing else 1.0
        scale = max(scale, float(reference.abs().max()))
    error = worst / scale if scale > 0 else worst
    problem = None
    if missing:
        problem = f"{missing} of {out.numel()} elements were not written or are not finite"
    elif error > tolerance:
        problem = f"the error {error:.2g} is above the tolerance {tolerance:.2g}"
    return Check(error, tolerance, STREAM_MEASURE, out.numel(), problem)


def check_sum(value: float, reference: float, magnitude: float, count: int, tol: float) -> Check:
    """Compare a reduction's ``value`` with its float64 ``reference``; ``magnitude`` is Σ|terms|."""
    if not math.isfinite(value):
        return Check(1.0, tol, SUM_MEASURE, count, "the sum was not written or is not finite")
    error = abs(value - reference) / magnitude if magnitude > 0 else abs(value - reference)
    problem = None
    if error > tol:
        problem = f"the error {error:.2g} is above the tolerance {tol:.2g}"
    return Check(error, tol, SUM_MEASURE, count, problem)


def check_partials(
    partials: torch.Tensor,
    reference: torch.Tensor,
    magnitude: torch.Tensor,
    count: int,
    tolerance: float,
) -> Check:
    """Compare each of a reduction's partial sums with its own; all three are (programs,).

    ``reference`` is float64, ``magnitude`` each program's Σ|terms|, ``count`` all terms together.
    """
    import torch

    missing = unwritten(partials)
    if missing:
        told = f"{missing} of {partials.numel()} partial sums were not written or are not finite"
        return Check(1.0, tolerance, PARTIALS_MEASURE, count, told)
    difference = (partials.double() - reference).abs()
    # A program without terms leaves zero, and then the difference itself is the error.
    error = float((difference / torch.where(magnitude > 0, magnitude, 1.0)).max())
    problem = None
    if not error <= tolerance:
        problem = f"the error {error:.2g} is above the tolerance {tolerance:.2g}"
    return Check(error, tolerance, PARTIALS_MEASURE, count, problem)


def _rows(matrix: Stored, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (start, block) with float64 blocks of rows of ``matrix`` on ``device``."""
    rows, columns = matrix.shape
    step = max(1, chunk_elements(device) // columns)
    for start in range(0, rows, step):
        yield start, matrix.rows64(start, min(rows, start + step), device)


def _matvec(matrix: Stored, v: torch.Tensor, device: torch.device) -> torch.Tensor:
    import torch

    return torch.cat([block @ v for _, block in _rows(matrix, device)])


def _transposed_matvec(matrix: Stored, v: torch.Tensor, device: torch.device) -> torch.Tensor:
    import torch

    total = torch.zeros(matrix.shape[1], dtype=torch.float64, device=device)
    for start, block in _rows(matrix, device):
        total += v[start : start + block.shape[0]] @ block
    return total
