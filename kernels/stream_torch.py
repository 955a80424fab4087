"""The streaming kernels as torch runs them: one operation each, no copy in between.

* ``nstream``: torch has no single operation for a + q·b added in place. ``addcmul_`` computes
  c += q·a·b: the same three reads and one write in one pass, one multiplication more, which memory
  does not notice. Two operations would move six streams, not four.
* ``gather``: ``index_select`` would write a copy of all pages and read it again. ``embedding_bag``
  adds up the pages that an index names while it reads them; it leaves one page of sums for each
  bag, of which there are a few per unit, so that they stay in cache.
* ``strided``: the sum of a view with a stride, which torch reduces in place. It does so a sector at
  a time, and on a CPU the loop around it, not memory, can be what limits the rate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from roofprobe.kernels import stream_check
from roofprobe.kernels.accuracy import poison
from roofprobe.kernels.stream_check import SCALAR
from roofprobe.kernels.stream_rows import StreamKernel
from roofprobe.kernels.work import Check, Target

if TYPE_CHECKING:
    import torch

Config = dict[str, int | str | bool | None]
_LEAST_BAGS = 64
_BAGS_PER_UNIT = 4

# What the operation is called where it is not called like the kernel.
OPERATIONS = {
    "copy": "copy_", "nstream": "addcmul_", "gather": "embedding_bag", "strided": "sum",
}  # fmt: skip


def bind(
    row: StreamKernel,
    arrays: tuple[torch.Tensor, ...],
    target: Target,
    *,
    index: torch.Tensor | None,
    run: int,
    step: int,
) -> tuple[Callable[[], object], Callable[[], Check], Config]:
    """Return a launch over ``arrays``, its check, and what is worth recording of it.

    ``run`` and ``step`` are in elements: what is read of every so many; see ``stream.prepare``.
    """
    if row.group == "gather":
        assert index is not None
        return _gather(row, arrays[0], target, index, run)
    if row.group == "strided":
        return _strided(arrays[0], run, step)
    if row.writes == 0:
        total = arrays[0].new_full((), float("nan"))
        launch = partial(_REDUCTIONS[row.name], *arrays, total)
        return launch, partial(stream_check.check_scalar, total, arrays, launch), {}
    launch = partial(_MAPS[row.name], *arrays)
    formula = "addcmul" if row.name == "nstream" else row.name
    return launch, partial(stream_check.check_map, row, formula, arrays, launch), {}


def _read(a: torch.Tensor, total: torch.Tensor) -> None:
    import torch

    torch.sum(a, dim=0, out=total)


def _dot(a: torch.Tensor, b: torch.Tensor, total: torch.Tensor) -> None:
    import torch

    torch.dot(a, b, out=total)


def _write(a: torch.Tensor) -> None:
    a.fill_(SCALAR)


def _copy(a: torch.Tensor, c: torch.Tensor) -> None:
    c.copy_(a)


def _scale(a: torch.Tensor, c: torch.Tensor) -> None:
    import torch

    torch.mul(a, SCALAR, out=c)


def _add(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
    import torch

    torch.add(a, b, out=c)


def _triad(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
    import torch

    torch.add(a, b, alpha=SCALAR, out=c)


def _nstream(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
    c.addcmul_(a, b, value=SCALAR)


_REDUCTIONS: dict[str, Callable[..., None]] = {"read": _read, "dot": _dot}
_MAPS: dict[str, Callable[..., None]] = {
    "write": _write, "copy": _copy, "scale": _scale, "add": _add, "triad": _triad,
    "nstream": _nstream,
}  # fmt: skip


def _gather(
    row: StreamKernel, array: torch.Tensor, target: Target, index: torch.Tensor, page: int
) -> tuple[Callable[[], object], Callable[[], Check], Config]:
    import torch
    from torch.nn.functional import embedding_bag

    pages = array[: array.numel() // page * page].view(-1, page)
    bags = min(index.numel(), max(_LEAST_BAGS, _BAGS_PER_UNIT * (target.unit_count or 1)))
    starts = torch.arange(bags, dtype=torch.int64) * index.numel() // bags
    offsets = starts.to(index.device, index.dtype)

    def launch() -> torch.Tensor:
        sums: torch.Tensor = embedding_bag(index, pages, offsets, mode="sum")
        return sums

    def poisoned_launch() -> torch.Tensor:
        # torch makes the result anew; the likeliest place is the memory that was just given back.
        array.new_full((bags, page), float("nan"))
        return launch()

    def reference() -> torch.Tensor:
        edges = [*starts.tolist(), index.numel()]
        return torch.stack(
            [pages[index[first:last].long()].double().sum(dim=0) for first, last in pairwise(edges)]
        )

    check = partial(stream_check.check_columns, poisoned_launch, reference, index.numel() * page)
    config: Config = {"bags": bags, "result_bytes": bags * page * array.element_size()}
    return launch, check, config


def _strided(
    array: torch.Tensor, run: int, step: int
) -> tuple[Callable[[], object], Callable[[], Check], Config]:
    import torch

    sectors = array[: array.numel() // step * step].view(-1, step)[:, :run]
    sums = array.new_full((run,), float("nan"))

    def launch() -> torch.Tensor:
        return torch.sum(sectors, dim=0, out=sums)

    def poisoned_launch() -> torch.Tensor:
        poison(sums)
        return launch()

    def reference() -> torch.Tensor:
        total = torch.zeros(run, dtype=torch.float64, device=sums.device)
        for chunk in sectors.split(max(1, (1 << 24) // run)):
            total += chunk.double().sum(dim=0)
        return total

    return (
        launch,
        partial(stream_check.check_columns, poisoned_launch, reference, sectors.numel()),
        {},
    )
