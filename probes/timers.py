"""Timers: how long a batch of launches takes on the device, launch cost kept out.

Device work is asynchronous, so a host clock around a launch measures the launch. Three ways:

- ``GraphTimer`` records the batch into a CUDA graph once and times replays between two events: the
  host takes no part between the first and the last kernel.
- ``EventTimer`` first occupies the stream (a kernel that waits), so that the whole batch is
  queued before the first event fires; then the events bound device time only. Where a backend has
  no such kernel, the batch must be long against its launches, and the timer's name says so.
- ``WallTimer`` reads the host's monotonic clock around synchronous work: the CPU.

And where the launch itself is what is measured, the host's clock is right, and what matters is when
it stops:

- ``SynchronisedTimer`` waits for the device after each launch: what a host pays that needs every
  result before it goes on (launch, work, and the way back).
- ``BatchWallTimer`` waits once, after the batch: what a stream of launches costs, whichever of
  host and device is the slower.
- ``EnqueueTimer`` stops before it waits: the host's part alone, the time that a call takes to
  return. The batch must fit the stream's queue (about a thousand launches), or a full queue makes
  it wait for the device after all.

`launch_timer` picks by what is to be timed.

A timer returns seconds for the whole batch; ``launches`` go round the sets of buffers.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.launches import Timed

Launches = Sequence[Callable[[], object]]


class Timer(Protocol):
    """Something that can say how long ``count`` launches took."""

    name: str

    def time_batch(self, launches: Launches, count: int) -> float:
        """Launch ``count`` times, going round ``launches``, and return device seconds."""
        ...

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        ...


def for_searching(timer: Timer) -> Timer:
    """Return the timer for batches that are timed once each: capturing them would cost more."""
    return timer.fallback if isinstance(timer, GraphTimer) else timer


def launch_timer(timed: Timed, timer: Timer) -> Timer | None:
    """Return what times this aspect of a launch, given the device's own ``timer``.

    ``host``: each launch waited for; ``batch``: waited for once; ``enqueue``: the calls alone;
    ``device``: back to back in the stream, by events; ``graph``: per node of a graph. None where
    the device has no such thing: only a graph timer captures graphs, and a wall clock is no
    device event.
    """
    if timed == "graph":
        return timer if isinstance(timer, GraphTimer) else None
    if timed == "device":
        events = for_searching(timer)
        return None if isinstance(events, WallTimer) else events
    kinds = {"host": SynchronisedTimer, "batch": BatchWallTimer, "enqueue": EnqueueTimer}
    return kinds[timed](timer.synchronize)


def for_copies(timer: Timer, *, blocking: bool) -> Timer:
    """Return what times a transfer, given the device's own ``timer``.

    Events bound an asynchronous copy in its stream; a graph would only add that it was recorded.
    A ``blocking`` copy (pageable memory goes through the driver's own buffer) is done when the
    call returns, host work included, so the host's clock is the honest one.
    """
    events = for_searching(timer)
    return BatchWallTimer(timer.synchronize) if blocking else events


class WallTimer:
    """The host's monotonic clock, for work that is done when the call returns."""

    name = "wall clock"

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds that ``count`` synchronous launches took."""
        sets = len(launches)
        start = time.perf_counter_ns()
        for index in range(count):
            launches[index % sets]()
        return (time.perf_counter_ns() - start) * 1e-9

    def synchronize(self) -> None:
        """Do nothing: the work is synchronous."""


class SynchronisedTimer(WallTimer):
    """The host's clock around launches, each of which is waited for: a host that needs results."""

    name = "wall clock, device synchronised after each launch"

    def __init__(self, synchronize: Callable[[], None]) -> None:
        """Keep the call that waits for the device."""
        self._synchronize = synchronize

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds of ``count`` launches, with ``count`` waits for the device."""
        sets = len(launches)
        self._synchronize()
        start = time.perf_counter_ns()
        for index in range(count):
            launches[index % sets]()
            self._synchronize()
        return (time.perf_counter_ns() - start) * 1e-9

    def synchronize(self) -> None:
        """Wait for the device."""
        self._synchronize()


class BatchWallTimer(SynchronisedTimer):
    """The host's clock around a batch that is waited for once, launch cost included."""

    name = "wall clock around synchronised batches (launch cost included)"

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds from the first launch until the device is idle again."""
        sets = len(launches)
        self._synchronize()
        start = time.perf_counter_ns()
        for index in range(count):
            launches[index % sets]()
        self._synchronize()
        return (time.perf_counter_ns() - start) * 1e-9


class EnqueueTimer(SynchronisedTimer):
    """The host's clock around the calls alone; the device is waited for outside of it."""

    name = "wall clock of the calls alone (device not waited for)"

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds until the last of ``count`` calls has returned."""
        sets = len(launches)
        self._synchronize()
        start = time.perf_counter_ns()
        for index in range(count):
            launches[index % sets]()
        elapsed_ns = time.perf_counter_ns() - start
        self._synchronize()
        return elapsed_ns * 1e-9


class EventTimer:
    """Device events around a batch, behind a kernel that holds the stream where there is one.

    ``new_event`` makes a timing event, ``synchronize_device`` waits for the device, and ``hold``
    (or None) enqueues a kernel that keeps the stream busy for the given number of microseconds.
    """

    _LAUNCH_US = 12.0  # generous cost of one Python launch; the hold must outlast the batch's

    def __init__(
        self,
        new_event: Callable[[], Any],
        synchronize_device: Callable[[], None],
        hold: Callable[[float], None] | None = None,
    ) -> None:
        """Keep the three device calls; nothing is launched yet."""
        self._new_event = new_event
        self._synchronize = synchronize_device
        self._hold = hold
        self.name = (
            "device events behind a blocking kernel"
            if hold is not None
            else "device events (launch cost not hidden)"
        )
        self.outran = False

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return device seconds between the events around ``count`` launches.

        ``outran`` then tells whether the host took longer to queue the batch than the stream was
        held for: the time of kernels shorter than a launch is then the host's, not the device's.
        """
        sets = len(launches)
        start, stop = self._new_event(), self._new_event()
        held_us = 50 + count * self._LAUNCH_US if self._hold is not None else 0.0
        began_ns = time.perf_counter_ns()
        if self._hold is not None:
            self._hold(held_us)
        start.record()
        for index in range(count):
            launches[index % sets]()
        stop.record()
        self.outran = (time.perf_counter_ns() - began_ns) * 1e-3 > held_us
        self._synchronize()
        return float(start.elapsed_time(stop)) * 1e-3

    def synchronize(self) -> None:
        """Wait for the device."""
        self._synchronize()


class GraphTimer:
    """CUDA graph replays between events; falls back to ``EventTimer`` when capture fails.

    A graph is captured once per (launches, count) and kept until another is asked for. The timer
    outlives the work, so it knows the launches by a weak reference: it holds no buffers, and a
    later work at the same address is not taken for the one that was captured.
    """

    name = "CUDA graph replay between events"

    def __init__(self, device: torch.device, fallback: EventTimer) -> None:
        """Use ``device``'s streams; ``fallback`` times what cannot be captured."""
        self._device = device
        self.fallback = fallback
        self._key: tuple[int, int] | None = None
        self._first: Callable[[], Any] = lambda: None
        self._graph: Any = None

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return device seconds of one replay of ``count`` captured launches."""
        import torch

        key = (id(launches), count)
        if key != self._key or self._first() is not launches[0]:
            self._key, self._first = key, weakref.ref(launches[0])
            self._graph = self._capture(launches, count)
            self.name = GraphTimer.name if self._graph is not None else self.fallback.name
        if self._graph is None:
            return self.fallback.time_batch(launches, count)
        start = torch.cuda.Event(enable_timing=True)
        stop = torch.cuda.Event(enable_timing=True)
        start.record()
        self._graph.replay()
        stop.record()
        torch.cuda.synchronize(self._device)
        return float(start.elapsed_time(stop)) * 1e-3

    @property
    def captured(self) -> bool:
        """Whether the last batch was a graph's; else its time is not one of graph nodes."""
        return self._graph is not None

    def synchronize(self) -> None:
        """Wait for the device."""
        self.fallback.synchronize()

    def _capture(self, launches: Launches, count: int) -> Any:
        import torch

        sets = len(launches)
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize(self._device)
            with torch.cuda.graph(graph):
                for index in range(count):
                    launches[index % sets]()
            graph.replay()
            torch.cuda.synchronize(self._device)
        except RuntimeError:
            # Some library calls refuse capture. The next synchronisation raises if the failure
            # was the device's and not the capture's.
            torch.cuda.synchronize(self._device)
            return None
        return graph
