"""Is an operation of a language model right: the whole result against float64, row by row.

Every element counts in ``‖out − ref‖ / ‖ref‖``, and every row (one head of one query, one token) is
held by itself to four times the tolerance of the larger of its own norm and the typical row's: a
single wrong row among thousands would drown in the norm of the whole.

Tolerances say what the format must lose: the rounding of the result (2⁻⁹/√3 relative in bf16) and
of what is rounded on the way (the softmax weights of attention, the hidden activations of an MLP);
float32 loses to the order of sums and to exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import poison, unwritten
from roofprobe.kernels.work import Check

if TYPE_CHECKING:
    import torch

MEASURE = "‖out − ref‖ / ‖ref‖ in float64, and row by row"
TOLERANCES: dict[str, float] = {"fp64": 1e-12, "fp32": 2e-5, "bf16": 1.2e-2, "fp16": 2e-3}
_ROW_FACTOR = 4.0


def check_rows(out: torch.Tensor, references: Iterable[torch.Tensor], tolerance: float) -> Check:
    """Compare ``out`` (rows, width) with float64 blocks of rows that come in order."""
    import torch

    total = out.numel()
    missing = unwritten(out)
    if missing:
        told = f"{missing} of {total} elements were not written or are not finite"
        return Check(1.0, tolerance, MEASURE, total, told)
    off, norms, start = [], [], 0
    for reference in references:
        stop = start + reference.shape[0]
        difference = out[start:stop].to(reference.device).double() - reference
        off.append(torch.linalg.vector_norm(difference, dim=1))
        norms.append(torch.linalg.vector_norm(reference, dim=1))
        start = stop
    assert start == out.shape[0], "the reference has other rows than the result"
    each, size = torch.cat(off), torch.cat(norms)
    norm = float(torch.linalg.vector_norm(size))
    error = float(torch.linalg.vector_norm(each)) / (norm or 1.0)
    problem = None
    if not error <= tolerance:
        problem = f"the error {error:.2g} is above the tolerance {tolerance:.2g}"
    else:
        typical = norm / math.sqrt(size.numel())
        shares = each / size.clamp(min=typical or 1.0)
        worst = int(shares.argmax())
        if float(shares[worst]) > _ROW_FACTOR * tolerance:
            problem = (
                f"row {worst} is off by {float(shares[worst]):.2g} of its norm, above the limit "
                f"{_ROW_FACTOR * tolerance:.2g} for one row"
            )
    return Check(error, tolerance, MEASURE, total, problem)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` in float64, on the host where its device has none."""
    import torch

    narrow = tensor.element_size() == 1 and tensor.dtype.is_floating_point
    near = tensor.device.type in ("cpu", "cuda")
    tensor = tensor if near else tensor.to(torch.device("cpu"))
    return (tensor.float() if narrow else tensor).double()


def fresh(launch: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Launch into memory that holds poison where the call allocates its own result.

    torch's allocators give the block that was freed last to the next result of that size.
    """
    first = launch()
    poison(first)
    del first
    return launch()
