"""What is known of an exchange between ranks: its case, what a rank is told, and what came of it.

These travel as JSON between the process that starts the ranks and the ranks themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from roofprobe.kernels.collectives import BY_NAME
from roofprobe.records.schema import Correctness, Distribution, Note, Reason, Status, Timing

STAGES = ("prepare", "prepared", "check", "checked", "warm up", "time", "timed")
"""What a rank does in a case, in order; the stage of each rank tells who held up the others."""


def sizes_between(least_bytes: int, most_bytes: int, factor: int = 4) -> tuple[int, ...]:
    """Return ``least_bytes`` and its multiples by powers of ``factor``, up to ``most_bytes``."""
    assert least_bytes > 0, least_bytes
    assert factor > 1, factor
    sizes = []
    size = least_bytes
    while size <= most_bytes:
        sizes.append(size)
        size *= factor
    return tuple(sizes)


DEFAULT_SIZES_BYTES = sizes_between(1 << 10, 4 << 30)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one case is measured.

    ``batch_s`` is the least duration of one sample (several operations back to back where one is
    shorter) and ``warmup_s`` that of the operations before the first sample. There are ``samples``
    samples, fewer where they would take longer than ``max_time_s``, but ``min_samples`` at least.
    """

    batch_s: float = 0.002
    warmup_s: float = 0.05
    samples: int = 30
    min_samples: int = 3
    max_time_s: float = 2.0


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """One operation at one size. ``size_bytes`` is S as asked for, before parts are made equal."""

    operation: str
    precision: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CollectiveResult:
    """One case as it was measured by a group of ranks, or why it was not.

    ``counted_bytes`` is S after rounding down to equal parts, from which rates are counted.
    Each of ``samples_us`` is the time per operation of one batch on the rank that took longest;
    ``rank_medians_us`` has each rank's own median, which shows a rank that is always slow.
    ``bus_rate`` and ``algorithm_rate`` are GB/s (1e9). ``devices`` has each rank's device. The
    ``note`` says where a library is known to do the operation by way of another one.
    """

    case: CollectiveCase
    backend: str
    world_size: int
    devices: tuple[str, ...]
    status: Status
    reason: Reason | None = None
    note: Note | None = None
    counted_bytes: int | None = None
    bus_factor: float | None = None
    latency: Distribution | None = None
    algorithm_rate: Distribution | None = None
    bus_rate: Distribution | None = None
    samples_us: tuple[float, ...] = ()
    rank_medians_us: tuple[float, ...] = ()
    correctness: Correctness | None = None
    timing: Timing | None = None
    call: str | None = None
    library: str | None = None
    hosts: int = 1
    started_at: str | None = None
    wall_s: float | None = None

    @property
    def checked(self) -> bool:
        """Return whether every element on every rank was compared and right."""
        return self.correctness is not None and self.correctness.error <= self.correctness.tolerance


@dataclass(frozen=True, slots=True)
class RankJob:
    """What a rank process is told; the defaults are for one that a launcher started.

    ``store`` is the file through which the ranks find each other, None where the environment
    says it (MASTER_ADDR, MASTER_PORT). ``devices`` are those of the local ranks, in their order;
    without them local rank i takes accelerator i, or the CPU. ``timeout_s`` is what the library may
    wait for other ranks. A rank with a ``parent_pid`` tells that process all it does and dies with
    it; another one only writes results, on rank 0.
    """

    backend: str
    cases: tuple[CollectiveCase, ...] = ()
    effort: Effort = Effort()
    devices: tuple[str, ...] = ()
    store: str | None = None
    timeout_s: float = 120.0
    parent_pid: int | None = None


RESULT: TypeAdapter[CollectiveResult] = TypeAdapter(CollectiveResult)
JOB: TypeAdapter[RankJob] = TypeAdapter(RankJob)

Keep = Callable[[CollectiveResult], None]


def plan_cases(
    operations: Sequence[str] = tuple(BY_NAME),
    sizes_bytes: Sequence[int] = DEFAULT_SIZES_BYTES,
    precision: str = "bf16",
) -> tuple[CollectiveCase, ...]:
    """Return every operation at every size, one operation after the other."""
    return tuple(
        CollectiveCase(operation, precision, size)
        for operation in operations
        for size in sizes_bytes
    )
