"""Timing an operation of several ranks so that a late start of one counts for nobody.

On a device the events stand behind an operation that was not timed, which ends everywhere at once;
on a CPU the clock is read behind a barrier. The slowest rank's time of each batch is the sample.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from roofprobe.kernels.collectives import Exchange, Layout
from roofprobe.probes import statistics
from roofprobe.probes.collective_cases import Effort
from roofprobe.probes.rank_group import Group
from roofprobe.probes.timers import EventTimer, Timer, WallTimer
from roofprobe.records.schema import Timing

if TYPE_CHECKING:
    import torch

MAX_LAUNCHES_PER_SAMPLE = 128  # an operation queues several kernels and events
_LONG_S = 0.1  # an operation that is worth no second look
_LOOKS = 5
_HOLD_FACTOR = 4  # a collective's launch goes through torch's process group: several kernels' cost


def figures(layout: Layout, samples_by_rank: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return times and rates of a case from each rank's samples in microseconds.

    An operation is over when the last rank has its result, so each sample is the slowest rank's.
    """
    assert len(samples_by_rank) == layout.world_size, len(samples_by_rank)
    slowest = tuple(max(times) for times in zip(*samples_by_rank, strict=True))
    factor = layout.operation.bus_factor(layout.world_size)
    return {
        "counted_bytes": layout.size_bytes,
        "bus_factor": float(factor),
        "samples_us": slowest,
        "rank_medians_us": tuple(
            statistics.summarise(times, "us", lower_is_better=True).median
            for times in samples_by_rank
        ),
        "latency": statistics.summarise(slowest, "us", lower_is_better=True),
        "algorithm_rate": statistics.rates(slowest, layout.size_bytes, "GB/s"),
        "bus_rate": statistics.rates(slowest, float(layout.size_bytes * factor), "GB/s"),
    }


def batch_of(launch_s: float, effort: Effort) -> tuple[int, int, int]:
    """Return (launches per sample, samples, warm-up launches) for an operation of ``launch_s``.

    All ranks must launch equally often, so the whole plan follows from one agreed time.
    """
    launch_s = max(launch_s, 1e-7)
    count = min(MAX_LAUNCHES_PER_SAMPLE, max(1, math.ceil(effort.batch_s / launch_s)))
    fitting = int(effort.max_time_s / (count * launch_s))
    samples = min(effort.samples, max(effort.min_samples, fitting))
    return count, samples, math.ceil(effort.warmup_s / launch_s)


def timed(
    exchange: Exchange,
    device: torch.device,
    group: Group,
    effort: Effort,
    stage: Callable[[str], None],
) -> tuple[list[float], Timing]:
    """Return this rank's samples in microseconds per operation."""
    stage("warm up")
    timer = _timer_of(device, exchange.launch)
    launches = (exchange.launch,)

    def agreed_s(seconds: float) -> float:
        return float(max(group.gather(seconds)))

    launch_s = agreed_s(timer.time_batch(launches, 1))
    launched = 1
    if launch_s < _LONG_S:  # the first launches are slower than those that follow
        launch_s = agreed_s(min(timer.time_batch(launches, 1) for _ in range(_LOOKS)))
        launched += _LOOKS
    count, samples, warmup = batch_of(launch_s, effort)
    for start in range(0, warmup, count):
        timer.time_batch(launches, min(count, warmup - start))
    if launch_s < _LONG_S:
        launch_s = agreed_s(timer.time_batch(launches, count) / count)
        launched += count
        count, samples, _ = batch_of(launch_s, effort)
    stage("time")
    begun = time.monotonic()
    samples_us = [timer.time_batch(launches, count) / count * 1e6 for _ in range(samples)]
    timing = Timing(
        timer=timer.name,
        launches_per_sample=count,
        warmup_launches=launched + warmup,
        buffer_sets=1,
        stop_reason="sample limit" if samples == effort.samples else "time limit",
        elapsed_s=time.monotonic() - begun,
    )
    return samples_us, timing


class BarrierTimer:
    """The host's clock around a batch that all ranks begin together, behind a barrier."""

    name = "wall clock behind a barrier, slowest rank"

    def __init__(self) -> None:
        """Time with the wall clock."""
        self._timer = WallTimer()

    def time_batch(self, launches: Sequence[Callable[[], object]], count: int) -> float:
        """Wait for all ranks, then return the seconds that ``count`` operations took."""
        import torch.distributed as dist

        dist.barrier()
        return self._timer.time_batch(launches, count)

    def synchronize(self) -> None:
        """Do nothing: the work is synchronous."""


def _timer_of(device: torch.device, launch: Callable[[], object]) -> Timer:
    return aligning_timer(device, launch) if device.type == "cuda" else BarrierTimer()


def aligning_timer(device: torch.device, launch: Callable[[], object]) -> EventTimer:
    """Return device events behind an untimed ``launch``, which ends everywhere at the same moment.

    Before it, a kernel holds the stream until the whole batch is queued, so that the cost of
    launching is not in the time. Without such a kernel small sizes measure the launches.
    """
    import torch

    sleep: Callable[[int], None] | None = getattr(torch.cuda, "_sleep", None)
    clock_khz = getattr(torch.cuda.get_device_properties(device), "clock_rate", None) or 2_000_000

    def hold(microseconds: float) -> None:
        if sleep is not None:
            sleep(int(_HOLD_FACTOR * microseconds * clock_khz / 1000))
        launch()

    timer = EventTimer(
        lambda: torch.cuda.Event(enable_timing=True),
        lambda: torch.cuda.synchronize(device),
        hold,
    )
    cost = "" if sleep is not None else " (launch cost not hidden)"
    timer.name = f"device events behind an untimed operation, slowest rank{cost}"
    return timer
