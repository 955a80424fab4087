"""Bit stability: the same product from the same operands, again and again, must be the same bits.

Libraries compute a product in a fixed order of operations on one kind of device (cuBLAS
documentation, "Results reproducibility"), so two runs that differ in a bit did not differ in
rounding: something computed wrong and nobody was told. Silent data corruption of this kind is rare,
sits in single units of single devices, and spoils training and serving alike. A product large
enough to fill every unit, repeated while the device warms up, is the cheapest way to see it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import poison
from roofprobe.kernels.work import Check, Work

if TYPE_CHECKING:
    import torch

MEASURE = "share of elements whose bits differ from the first of {} products"


def check_bits(
    work: Work,
    *,
    seconds: float,
    least: int = 4,
    now: Callable[[], float] = time.monotonic,
) -> Check:
    """Repeat the first launch of ``work`` for ``seconds`` and compare every product's bits.

    Outputs are poisoned before each repeat. The launch must return the tensor (m, n) of its
    product. The error is the share of elements that ever differed in the worst repeat.
    """
    launch: Callable[[], torch.Tensor] = work.launches[0]  # type: ignore[assignment]
    product = launch()
    first = product.clone()
    poison(product)
    begun, repeats, worst, worst_at = now(), 1, 0, 0
    where = ""
    while repeats < least or now() - begun < seconds:
        product = launch()
        repeats += 1
        differing = _bits(product) != _bits(first)
        count = int(differing.sum())
        if count > worst:
            worst, worst_at = count, repeats
            rows, columns = (int(axis.unique().numel()) for axis in differing.nonzero().t())
            row, column = (int(value) for value in differing.nonzero()[0])
            where = f"{rows} rows and {columns} columns, the first at ({row}, {column})"
        poison(product)
    problem = None
    if worst:
        problem = (
            f"{worst} of {first.numel()} elements had other bits in repeat {worst_at} of {repeats} "
            f"({where}): the same inputs must give the same bits"
        )
    return Check(
        error=worst / first.numel(),
        tolerance=0.0,
        measure=MEASURE.format(repeats),
        checked_elements=first.numel() * repeats,
        problem=problem,
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(integers[tensor.element_size()])
