"""Timers: how long a batch of launches takes on the device, launch cost kept out.

Device work is asynchronous, so a host clock around a launch measures the launch. Three ways:

- ``GraphTimer`` records the batch into a CUDA graph once and times replays between two events: the
  host takes no part between the first and the last kernel.
- ``EventTimer`` first occupies the stream (a kernel that waits), so that the whole batch is
  queued before the first event fires; then the events bound device time only. Where a backend has
  no such kernel, the batch must be long against its launches, and the timer's name says so.
- ``WallTimer`` reads the host's monotonic clock around synchronous work: the CPU.

A timer returns seconds for the whole batch; ``launches`` go round the sets of buffers.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

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

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return device seconds between the events around ``count`` launches."""
        sets = len(launches)
        start, stop = self._new_event(), self._new_event()
        if self._hold is not None:
            self._hold(50 + count * self._LAUNCH_US)
        start.record()
        for index in range(count):
            launches[index % sets]()
        stop.record()
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
