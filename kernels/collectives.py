"""Collective operations: what several devices exchange when one model is spread over them.

Each rank (one process with one device) holds a buffer, and all ranks call the same operation on
theirs. The size S of an operation is that of the larger buffer of one rank, as nccl-tests counts:
for all-gather, reduce-scatter and all-to-all that is the number of elements per pair of ranks
times the number of ranks n, not the part of one rank. S over the time is the *algorithm*
bandwidth, which falls with n though the links are as busy as ever. Times the factor below it is
the *bus* bandwidth: what must have crossed each rank's links in each direction if every byte went
the shortest way, which can be held against the rate of a link whatever n is:

=================  ==========================================  ===========
operation          what a rank has in the end                  factor
=================  ==========================================  ===========
``all_reduce``     the sum of all ranks' buffers               2·(n − 1)/n
``all_gather``     the parts of all ranks, one after another   (n − 1)/n
``reduce_scatter`` its part of the sum of all ranks' buffers   (n − 1)/n
``all_to_all``     from each rank the part meant for it        (n − 1)/n
=================  ==========================================  ===========

The bus bandwidth is no count of bytes on a wire. Where switches add up on the way (NVLink SHARP),
an all-reduce sends each byte once instead of twice and the figure passes the wire's rate, which
proves nothing wrong; where a library does more than it must, the wire carried more.

Inputs are small integers that depend on the rank, the position and the destination, so that each
element of the result is known exactly, in bfloat16 too and in whatever order the ranks are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import check_elementwise, chunk_elements, poison
from roofprobe.kernels.work import Check, Unsupported

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
ITEM_BYTES = {"fp32": 4, "bf16": 2}

_PART_ALIGNMENT_BYTES = 16
"""Parts are whole 16-byte words, as in nccl-tests: libraries take a slower way with others."""

_GREATEST_EXACT = {"fp32": 2**24, "bf16": 2**8}
"""All integers up to here are values of the type, so sums that stay below are exact."""

_MOVED_PERIOD = 251
_SUMMED_PERIODS = (251, 127, 61, 31, 13, 7, 5, 3)
"""Odd primes. No length of a buffer is a multiple of one by habit, so shifted data shows."""
_SOURCE_STEP, _DESTINATION_STEP = 37, 101

MEASURE = "max |out − exact| / max |exact|, every element on every rank"


@dataclass(frozen=True, slots=True)
class Collective:
    """An operation as data.

    ``crossings`` is how often each byte must cross a rank's links when the others' share is left
    out. ``sends_whole`` and ``receives_whole`` tell whether a rank's input and output have the
    whole size S or the n-th part of it. ``calls`` are the names of the function in
    ``torch.distributed``, the newest first; all take (output, input) but the one that works in
    place, which takes its only buffer.
    """

    name: str
    crossings: int
    sends_whole: bool
    receives_whole: bool
    reduces: bool
    in_place: bool
    calls: tuple[str, ...]

    def bus_factor(self, world_size: int) -> Fraction:
        """Return what makes the algorithm bandwidth a bus bandwidth, exactly."""
        assert world_size >= 1, world_size
        return Fraction(self.crossings * (world_size - 1), world_size)


OPERATIONS: tuple[Collective, ...] = (
    Collective(
        "all_reduce", crossings=2, sends_whole=True, receives_whole=True, reduces=True,
        in_place=True, calls=("all_reduce",),
    ),
    Collective(
        "all_gather", crossings=1, sends_whole=False, receives_whole=True, reduces=False,
        in_place=False, calls=("all_gather_single", "all_gather_into_tensor"),
    ),
    Collective(
        "reduce_scatter", crossings=1, sends_whole=True, receives_whole=False, reduces=True,
        in_place=False, calls=("reduce_scatter_single", "reduce_scatter_tensor"),
    ),
    Collective(
        "all_to_all", crossings=1, sends_whole=True, receives_whole=True, reduces=False,
        in_place=False, calls=("all_to_all_single",),
    ),
)  # fmt: skip
BY_NAME = {operation.name: operation for operation in OPERATIONS}

# Where a library is known to do an operation by way of another one. Its figure stands, but it is
# the figure of that way, and the label must travel with it.
BY_WAY_OF: dict[tuple[str, str], str] = {
    ("gloo", "reduce_scatter"): (
        "Gloo's reduce-scatter is an all-reduce of a copy of the whole buffer, of which each rank "
        "keeps its part: twice the traffic that the bus bandwidth counts"
    ),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The buffers of one operation at one size, in elements, the same on every rank.

    ``whole`` is S in elements and ``part`` what one rank has of it.
    """

    operation: Collective
    precision: str
    world_size: int
    whole: int
    part: int

    @property
    def size_bytes(self) -> int:
        """Return S: what bandwidths are counted from, after rounding down to whole parts."""
        return self.whole * ITEM_BYTES[self.precision]

    @property
    def sent(self) -> int:
        """Return the elements of a rank's input."""
        return self.whole if self.operation.sends_whole else self.part

    @property
    def received(self) -> int:
        """Return the elements of a rank's output."""
        return self.whole if self.operation.receives_whole else self.part

    @property
    def buffer_bytes(self) -> int:
        """Return what one rank's buffers take; the library's own come on top."""
        elements = self.received + (0 if self.operation.in_place else self.sent)
        return elements * ITEM_BYTES[self.precision]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One rank's side of an operation, ready to be launched by all ranks together.

    ``launch`` and ``check`` are collective: every rank must call them equally often. ``check``
    fills the input anew, poisons the output, launches once and compares every element.
    """

    layout: Layout
    launch: Callable[[], object]
    check: Callable[[], Check]
    call: str


def layout_of(operation: str, precision: str, world_size: int, size_bytes: int) -> Layout:
    """Return the buffers for ``size_bytes``, rounded down to equal parts where there are parts.

    Raises ``Unsupported`` where a part would be empty or sums would not be exact.
    """
    row = BY_NAME[operation]
    item = ITEM_BYTES[precision]
    if row.sends_whole and row.receives_whole and row.reduces:
        whole, part = size_bytes // item, 0
    else:
        step = _PART_ALIGNMENT_BYTES // item
        part = size_bytes // world_size // _PART_ALIGNMENT_BYTES * step
        whole = part * world_size
    if whole == 0:
        raise Unsupported(
            "too-small",
            f"{size_bytes} bytes are less than {_PART_ALIGNMENT_BYTES} for each of "
            f"{world_size} ranks",
        )
    if row.reduces:
        summed_period(precision, world_size)
    return Layout(row, precision, world_size, whole, part)


def summed_period(precision: str, world_size: int) -> int:
    """Return the period of the values that are added, so small that their sum is exact.

    Rank r has (i + r²) mod p at position i. For an odd prime p the squares never meet all
    residues equally often, so the sum depends on the position for every number of ranks.
    """
    for period in _SUMMED_PERIODS:
        if world_size * (period - 1) <= _GREATEST_EXACT[precision]:
            return period
    raise Unsupported(
        "inexact-sum",
        f"sums over {world_size} ranks are not exact in {precision}, so they cannot be checked",
        "measure fp32, whose time for as many bytes is the same",
    )


def sent_values(layout: Layout, rank: int, index: torch.Tensor) -> torch.Tensor:
    """Return what ``rank`` sends at the positions ``index`` (int64) of its input."""
    if layout.operation.reduces:
        return (index + rank * rank) % summed_period(layout.precision, layout.world_size)
    destination = index // layout.part if layout.operation.sends_whole else 0
    return _moved(rank, destination, index % layout.part)


def received_values(layout: Layout, rank: int, index: torch.Tensor) -> torch.Tensor:
    """Return what ``rank`` must have received at the positions ``index`` (int64) of its output."""
    import torch

    if layout.operation.reduces:
        period = summed_period(layout.precision, layout.world_size)
        sums = [
            sum((position + source * source) % period for source in range(layout.world_size))
            for position in range(period)
        ]
        start = 0 if layout.operation.receives_whole else rank * layout.part
        return torch.tensor(sums, device=index.device)[(index + start) % period]
    destination = rank if layout.operation.sends_whole else 0
    return _moved(index // layout.part, destination, index % layout.part)


def _moved(
    source: torch.Tensor | int, destination: torch.Tensor | int, position: torch.Tensor
) -> torch.Tensor:
    step = source * _SOURCE_STEP + destination * _DESTINATION_STEP
    return (position + step) % _MOVED_PERIOD


def prepare(layout: Layout, rank: int, device: torch.device) -> Exchange:
    """Allocate this rank's buffers on ``device``; nothing is sent yet.

    There is one set of buffers, so that an operation finds small sizes in the cache, as it does
    within a model. An operation in place adds up its own results when launched again and soon
    holds infinities, which are moved and added at the same rate.
    """
    import torch

    row = layout.operation
    dtype = getattr(torch, DTYPES[layout.precision])
    received = torch.empty(layout.received, dtype=dtype, device=device)
    sent = received if row.in_place else torch.empty(layout.sent, dtype=dtype, device=device)
    function, call = _function(row)
    launch = partial(function, received) if row.in_place else partial(function, received, sent)
    return Exchange(layout, launch, partial(_check, layout, rank, received, sent, launch), call)


def _function(row: Collective) -> tuple[Callable[..., object], str]:
    import torch.distributed as dist

    for name in row.calls:
        function: Callable[..., object] | None = getattr(dist, name, None)
        if function is not None:
            return function, f"torch.distributed.{name}"
    raise Unsupported("not-implemented", f"this torch has no {' or '.join(row.calls)}")


def _check(
    layout: Layout,
    rank: int,
    received: torch.Tensor,
    sent: torch.Tensor,
    launch: Callable[[], object],
) -> Check:
    poison(received)
    _fill(sent, lambda index: sent_values(layout, rank, index))
    launch()

    def exact(start: int, stop: int) -> torch.Tensor:
        return received_values(layout, rank, _index(start, stop, received.device)).double()

    found = check_elementwise(received, exact, 0.0)
    return Check(found.error, 0.0, MEASURE, found.checked_elements, found.problem)


def _fill(buffer: torch.Tensor, values: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Fill ``buffer`` by position, in chunks: the int64 positions of all would not fit."""
    step = chunk_elements(buffer.device)
    for start in range(0, buffer.numel(), step):
        stop = min(buffer.numel(), start + step)
        buffer[start:stop] = values(_index(start, stop, buffer.device)).to(buffer.dtype)


def _index(start: int, stop: int, device: torch.device) -> torch.Tensor:
    import torch

    return torch.arange(start, stop, dtype=torch.int64, device=device)
