"""Timers: how long a batch of launches takes on the device, launch cost kept out.

Device work is asynchronous, so a host clock around a launch measures the launch. Three ways:

- ``GraphTimer`` records the batch into a CUDA graph once and times replays between two events: the
  host takes no part between the first and the last kernel.
- ``EventTimer`` launches the batch between two events. Where a backend cannot hold its stream, the
  batch must be long against its launches, and the timer's name says so.
- ``WallTimer`` reads the host's monotonic clock around synchronous work: the CPU.

On an idle stream the first event would fire at once, and the time that the host takes to launch
would count as the device's. So both first occupy the stream with a kernel that waits until the host
is far enough ahead, and no longer: while it waits, the device cools.

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

import gc
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.launches import Timed
    from roofprobe.kernels.sweep import Sweep

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


def is_damaged(timer: Timer) -> bool:
    """Return whether the timer harmed its process: what it times stays right, but renew it soon."""
    return isinstance(timer, GraphTimer) and timer.damaged


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
    """The host's monotonic clock, for work that is done when the call returns.

    A batch goes on where the last one stopped, so that short batches come round all sets too.
    """

    name = "wall clock"
    _next = 0

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds that ``count`` synchronous launches took."""
        sets, first = len(launches), self._next
        self._next = (first + count) % (1 << 30)
        start = time.perf_counter_ns()
        for index in range(first, first + count):
            launches[index % sets]()
        return (time.perf_counter_ns() - start) * 1e-9

    def synchronize(self) -> None:
        """Do nothing: the work is synchronous."""


class _Pace:
    """How long the stream must be held so that the host stays ahead of the device.

    The host needs L per launch, the device D. Launch i (from 0) is queued at (i + 1)·L, and the
    device comes to it at hold + i·D. So for n launches the hold must be at least
    L + (n − 1)·max(0, L − D): one launch's cost where the device is the slower of the two, and
    nearly the cost of all where the host is. L is taken half as long again. Both are the least of
    what these launches took: a full queue or a first launch that compiles makes the host wait.
    """

    _MARGIN_US = 20.0  # the first event, and the wait's own start
    _MOST_LAUNCH_US = 150.0  # also an unknown launch's: the slowest library calls take 100 µs

    def __init__(self) -> None:
        """Know nothing of the launches yet."""
        self._launch_us = math.inf
        self._device_us = math.inf

    def hold_us(self, count: int) -> float:
        """Return for how many microseconds to hold the stream before ``count`` launches."""
        launch_us = min(1.5 * self._launch_us, self._MOST_LAUNCH_US)
        device_us = self._device_us if math.isfinite(self._device_us) else 0.0
        return self._MARGIN_US + launch_us + (count - 1) * max(0.0, launch_us - device_us)

    def saw(self, launch_us: float, device_us: float) -> None:
        """Note what one launch of a batch took the host and the device."""
        self._launch_us = min(self._launch_us, launch_us)
        self._device_us = min(self._device_us, device_us)


class _Last:
    """Recognises launches without keeping them, or the buffers that they hold, alive."""

    def __init__(self) -> None:
        """Have seen none."""
        self._id: int | None = None
        self._first: Callable[[], Any] = lambda: None

    def again(self, launches: Launches) -> bool:
        """Return whether these are the launches of the last call, and remember them."""
        # The id alone could be a later work's at the same address.
        if id(launches) == self._id and self._first() is launches[0]:
            return True
        self._id, self._first = id(launches), weakref.ref(launches[0])
        return False


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


class SweptTimer(WallTimer):
    """The host's clock around single launches, before each of which memory is swept.

    What the launches themselves sweep is taken off too.
    """

    name = "wall clock around single calls, caches swept before each"

    def __init__(self, sweep: Sweep, swept_bytes: int) -> None:
        """Sweep ``swept_bytes`` before each launch."""
        self._sweep = sweep
        self._bytes = swept_bytes

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return the seconds of ``count`` launches without what was swept."""
        sets, first = len(launches), self._next
        self._next = (first + count) % (1 << 30)
        seconds = 0.0
        for index in range(first, first + count):
            launch = launches[index % sets]
            self._sweep(self._bytes)
            spent_s = self._sweep.spent_s
            begun = time.perf_counter_ns()
            launch()
            seconds += (time.perf_counter_ns() - begun) * 1e-9
            seconds -= self._sweep.spent_s - spent_s
        return seconds


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

    ``new_event`` makes a timing event, ``synchronize_device`` waits for the device, ``hold`` (or
    None) enqueues a kernel that keeps the stream busy for the given number of microseconds, and
    ``now`` is the host's clock in seconds.
    """

    def __init__(
        self,
        new_event: Callable[[], Any],
        synchronize_device: Callable[[], None],
        hold: Callable[[float], None] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Keep the device calls; nothing is launched yet."""
        self._new_event = new_event
        self._synchronize = synchronize_device
        self._hold = hold
        self._now = now
        self._last = _Last()
        self._pace = _Pace()
        self.name = (
            "device events behind a blocking kernel"
            if hold is not None
            else "device events (launch cost not hidden)"
        )
        self.outran = False

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return device seconds between the events around ``count`` launches."""
        sets = len(launches)
        if not self._last.again(launches):
            self._pace = _Pace()

        def enqueue() -> None:
            for index in range(count):
                launches[index % sets]()

        return self.time_enqueued(enqueue, count, self._pace)

    def time_enqueued(self, enqueue: Callable[[], object], count: int, pace: _Pace) -> float:
        """Return device seconds of the ``count`` launches of ``enqueue``, held for by ``pace``.

        ``outran`` then tells whether the host took longer to queue the batch than the stream was
        held for: the time of kernels shorter than a launch is then the host's, not the device's.
        """
        start, stop = self._new_event(), self._new_event()
        held_us = pace.hold_us(count) if self._hold is not None else 0.0
        if self._hold is not None:
            self._hold(held_us)
        begun_s = self._now()
        start.record()
        enqueue()
        stop.record()
        launched_s = self._now() - begun_s
        self.outran = launched_s * 1e6 > held_us
        self._synchronize()
        seconds = float(start.elapsed_time(stop)) * 1e-3
        pace.saw(launched_s * 1e6 / count, seconds * 1e6 / count)
        return seconds

    def synchronize(self) -> None:
        """Wait for the device."""
        self._synchronize()


class GraphTimer:
    """CUDA graph replays between events; falls back to ``EventTimer`` when capture fails.

    A graph is captured once per (launches, count) and kept until another is asked for; launches
    whose capture failed are not tried again at another count. Nothing is run for the sake of the
    capture, so that every launch on the device is one that was asked for. The timer outlives the
    work, so it knows the launches by a weak reference and holds no buffers.

    ``damaged`` is set when a capture did not end: the stream and the allocator are put back, but
    the random generator and the libraries' handles may still think that they are being captured.
    """

    name = "CUDA graph replay between events"

    def __init__(self, device: torch.device, fallback: EventTimer) -> None:
        """Use ``device``'s streams; ``fallback`` times what cannot be captured."""
        self._device = device
        self.fallback = fallback
        self.damaged = False
        self._last = _Last()
        self._count = 0
        self._graph: Any = None
        self._refused = False
        self._pace = _Pace()
        self._side: Any = None

    def time_batch(self, launches: Launches, count: int) -> float:
        """Return device seconds of one replay of ``count`` captured launches."""
        if not self._last.again(launches):
            self._count, self._refused = 0, False
        if count != self._count and not self._refused:
            self._graph = None  # its memory goes back before more is taken
            self._graph = self._capture(launches, count)
            self._count, self._pace = count, _Pace()
            self._refused = self._graph is None
            self.name = self.fallback.name if self._refused else GraphTimer.name
        if self._graph is None:
            return self.fallback.time_batch(launches, count)
        return self.fallback.time_enqueued(self._graph.replay, 1, self._pace)

    @property
    def captured(self) -> bool:
        """Whether the last batch was a graph's; else its time is not one of graph nodes."""
        return self._graph is not None

    def synchronize(self) -> None:
        """Wait for the device."""
        self.fallback.synchronize()

    def _capture(self, launches: Launches, count: int) -> Any:
        """Return the graph of a batch, or None where it cannot be captured."""
        # Not by torch.cuda.graph: when the end of a capture raises, that leaves the capture's
        # stream current and the allocator bound to the capture's pool.
        import torch

        sets = len(launches)
        if self._side is None:
            self._side = torch.cuda.Stream(self._device)
        current = torch.cuda.current_stream(self._device)
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        self._side.wait_stream(current)
        torch.cuda.set_stream(self._side)
        ended, refusal = False, None
        try:
            with _no_collection():
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    for index in range(count):
                        launches[index % sets]()
                finally:
                    graph.capture_end()
                    ended = True
        except Exception as error:  # libraries refuse in many ways; launched bare they may work
            refusal = f"{type(error).__name__}: {error}"
        finally:
            torch.cuda.set_stream(current)
        if refusal is None:
            current.wait_stream(self._side)
            return graph
        print(f"a batch could not be captured into a graph: {refusal}", file=sys.stderr)
        if not ended:
            self.damaged = True
            self._abandon(graph, pool)
        # This raises if the failure was the device's and not the capture's.
        self.fallback.synchronize()
        return None

    def _abandon(self, graph: Any, pool: Any) -> None:
        """Take back from the allocator what a capture that did not end still holds."""
        import torch

        with suppress(RuntimeError):
            graph.reset()
        end = getattr(torch._C, "_cuda_endAllocateToPool", None)
        release = getattr(torch._C, "_cuda_releasePool", None)
        if end is None or release is None:
            return
        # Where torch has ended it, this raises, and the pool is torch's own to release: giving it
        # up twice would end the process.
        with suppress(RuntimeError):
            end(self._device.index, pool)
            release(self._device.index, pool)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from collecting garbage: freeing another graph's memory would end a capture."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
