"""Timers call in the right order and convert to seconds; no duration is asserted here."""

from __future__ import annotations

import gc
import itertools
import time
import weakref
from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels.launches import Timed
from roofprobe.probes.timers import (
    BatchWallTimer,
    EnqueueTimer,
    EventTimer,
    GraphTimer,
    Launches,
    SynchronisedTimer,
    Timer,
    WallTimer,
    for_copies,
    for_searching,
    is_damaged,
    launch_timer,
)


class Trace(list[str]):
    """Writes down who was called, in order."""

    def says(self, word: str) -> Callable[[], None]:
        return lambda: self.append(word)


class FakeEvent:
    """An event that was told when it fires, in milliseconds."""

    def __init__(self, trace: Trace, name: str, at_ms: float) -> None:
        self._trace, self._name, self.at_ms = trace, name, at_ms

    def record(self) -> None:
        self._trace.append(self._name)

    def elapsed_time(self, later: FakeEvent) -> float:
        self._trace.append("read")
        return later.at_ms - self.at_ms


def event_timer(
    trace: Trace,
    *,
    hold: Callable[[float], None] | None = None,
    now: Callable[[], float] = time.perf_counter,
    device_ms: float = 3.0,
) -> EventTimer:
    coming = itertools.cycle([("start", 2.0), ("stop", 2.0 + device_ms)])
    return EventTimer(lambda: FakeEvent(trace, *next(coming)), trace.says("synchronise"), hold, now)


class Host:
    """A host whose launches take as long as they are told, in microseconds, and a device that
    takes 0.5 ms for each batch."""

    def __init__(self) -> None:
        self.us = 0.0
        self.held_us: list[float] = []
        self.timer = event_timer(
            Trace(), hold=self.held_us.append, now=lambda: self.us * 1e-6, device_ms=0.5
        )

    def launch_taking(self, us: float, *then_us: float) -> Callable[[], None]:
        coming = itertools.chain([us, *then_us], itertools.repeat((us, *then_us)[-1]))

        def launch() -> None:
            self.us += next(coming)

        return launch

    def held(self, launches: Launches, *counts: int) -> list[float]:
        self.held_us.clear()
        for count in counts:
            self.timer.time_batch(launches, count)
        return [round(us, 6) for us in self.held_us]


def test_the_wall_clock_goes_round_the_launches() -> None:
    trace = Trace()
    WallTimer().time_batch([trace.says("a"), trace.says("b"), trace.says("c")], 7)
    assert trace == ["a", "b", "c", "a", "b", "c", "a"]


def test_the_wall_clock_goes_on_where_the_last_batch_stopped() -> None:
    trace, timer = Trace(), WallTimer()
    launches = [trace.says(name) for name in "abcd"]
    for count in (1, 2, 3):
        timer.time_batch(launches, count)
    assert trace == ["a", "b", "c", "d", "a", "b"]
    timer.time_batch(launches[:3], 2)
    assert trace[-2:] == ["a", "b"], "fewer sets are gone round as well"


def test_the_wall_clock_reads_nanoseconds_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([1_000_000_000, 3_500_000_000])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(readings))
    assert WallTimer().time_batch([lambda: None], 1) == 2.5


def test_events_lie_around_the_launches_behind_the_blocking_kernel() -> None:
    trace = Trace()
    timer = event_timer(trace, hold=lambda us: trace.append("hold"))
    assert timer.time_batch([trace.says("a"), trace.says("b")], 3) == 0.003
    assert trace == ["hold", "start", "a", "b", "a", "stop", "synchronise", "read"]
    assert timer.name == "device events behind a blocking kernel"


def test_launches_that_nothing_is_known_of_are_held_for_generously() -> None:
    assert Host().held([lambda: None], 1) == [170.0]
    assert Host().held([lambda: None], 100) == [20.0 + 100 * 150.0]


def test_a_known_launch_is_held_for_half_as_long_again_as_the_host_took() -> None:
    host = Host()
    launches = [host.launch_taking(80.0)]
    # A launch of 0.5 ms outlasts the host's 80 us, so it needs one launch's lead, however many.
    assert host.held(launches, 1, 1) == [170.0, 140.0]
    # A batch of 10 takes 0.5 ms too, 50 us each: the host falls behind by 120 − 50 us at each.
    assert host.held(launches, 10, 10) == [140.0, 20.0 + 120 + 9 * 70]


def test_a_slow_first_launch_or_a_full_queue_does_not_lengthen_the_hold() -> None:
    host = Host()
    launches = [host.launch_taking(90_000.0, 10.0, 10.0, 400.0, 10.0)]
    assert host.held(launches, 1, 1, 1, 1, 1) == [170.0, 170.0, 35.0, 35.0, 35.0]


def test_other_launches_are_held_for_by_their_own_cost() -> None:
    host = Host()
    quick, slow = [host.launch_taking(10.0)], [host.launch_taking(80.0)]
    assert host.held(quick, 1, 1) == [170.0, 35.0]
    assert host.held(slow, 1, 1) == [170.0, 140.0]


def test_without_a_blocking_kernel_the_name_says_so() -> None:
    trace = Trace()
    timer = event_timer(trace)
    assert timer.time_batch([trace.says("a")], 1) == 0.003
    assert trace == ["start", "a", "stop", "synchronise", "read"]
    assert timer.name == "device events (launch cost not hidden)"


def test_synchronise_waits_for_the_device() -> None:
    trace = Trace()
    event_timer(trace).synchronize()
    GraphTimer(torch.device("cpu"), event_timer(trace)).synchronize()
    assert trace == ["synchronise", "synchronise"]


class FakeCuda:
    """Torch's streams, graphs and allocator, as far as a capture can throw them out of order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trace = Trace()
        self.current = "main"
        self.underway: list[int] = []  # pools that the allocator is bound to
        self.released: list[int] = []
        self.begin_fails = self.end_fails = False
        self.captures = 0
        pools = itertools.count(1)
        for name, value in (
            ("Stream", lambda device: FakeStream(self, "side")),
            ("current_stream", lambda device: FakeStream(self, self.current)),
            ("set_stream", self._set_stream),
            ("graph_pool_handle", lambda: next(pools)),
            ("CUDAGraph", lambda: FakeGraph(self)),
            ("empty_cache", self._empty_cache),
        ):
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self._end, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self._release, raising=False)

    def timer(self, hold: Callable[[float], None] | None = None) -> GraphTimer:
        return GraphTimer(torch.device("cuda", 1), event_timer(self.trace, hold=hold))

    def _set_stream(self, stream: FakeStream) -> None:
        self.current = stream.name

    def _empty_cache(self) -> None:
        if self.underway:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    def _end(self, index: int, pool: int) -> None:
        assert index == 1
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def _release(self, index: int, pool: int) -> None:
        assert index == 1
        assert pool not in self.released, "a pool released twice ends the process"
        self.released.append(pool)


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self._cuda, self.name = cuda, name

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.trace.append(f"{self.name} waits for {other.name}")


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.pool = 0

    def capture_begin(self, pool: int, capture_error_mode: str) -> None:
        assert self._cuda.current == "side", "the default stream cannot be captured"
        self._cuda.captures += 1
        self.pool = pool
        self._cuda.underway.append(pool)
        if self._cuda.begin_fails:
            raise RuntimeError("CUDA error: operation not permitted")
        self._cuda.trace.append("capture")

    def capture_end(self) -> None:
        assert self._cuda.current == "side", "a capture must end on its stream"
        if self._cuda.end_fails:
            raise RuntimeError("CUDA error: operation failed due to a previous error in capture")
        self._cuda.underway.remove(self.pool)
        self._cuda.trace.append("end")

    def reset(self) -> None:
        pass

    def replay(self) -> None:
        self._cuda.trace.append("replay")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_a_batch_is_captured_on_a_stream_of_its_own_and_replayed_between_events(
    cuda: FakeCuda,
) -> None:
    timer = cuda.timer()
    assert timer.time_batch([cuda.trace.says("a"), cuda.trace.says("b")], 3) == 0.003
    captured = ["side waits for main", "capture", "a", "b", "a", "end", "main waits for side"]
    replayed = ["start", "replay", "stop", "synchronise", "read"]
    assert cuda.trace == captured + replayed, "one replay, and it is the timed one"
    assert (cuda.current, cuda.underway, timer.damaged) == ("main", [], False)
    assert timer.name == GraphTimer.name


def test_a_replay_is_queued_while_the_blocking_kernel_runs(cuda: FakeCuda) -> None:
    timer = cuda.timer(hold=lambda us: cuda.trace.append("hold"))
    launches = [lambda: None]
    for _ in range(2):
        timer.time_batch(launches, 3)
        assert cuda.trace[-6:] == ["hold", "start", "replay", "stop", "synchronise", "read"]
    assert cuda.trace.count("hold") == cuda.trace.count("replay") == 2


def test_the_hold_of_a_replay_is_sized_by_its_own_cost_to_the_host(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    timer = GraphTimer(torch.device("cuda", 1), host.timer)
    monkeypatch.setattr(FakeGraph, "replay", lambda graph: host.launch_taking(16.0)())
    launches = [host.launch_taking(1000.0)]
    for _ in range(3):
        timer.time_batch(launches, 100)
    assert [round(us, 6) for us in host.held_us] == [170.0, 44.0, 44.0], "whatever the launches'"


def failing_end(cuda: FakeCuda) -> None:
    cuda.end_fails = True


def failing_begin(cuda: FakeCuda) -> None:
    cuda.begin_fails = True


@pytest.mark.parametrize("fault", [failing_begin, failing_end])
def test_a_capture_that_does_not_end_leaves_stream_and_allocator_as_they_were(
    cuda: FakeCuda, fault: Callable[[FakeCuda], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fault(cuda)
    timer = cuda.timer()
    assert timer.time_batch([cuda.trace.says("a")], 2) == 0.003
    assert cuda.current == "main"
    assert (cuda.underway, cuda.released) == ([], [1])
    torch.cuda.empty_cache()
    assert cuda.trace[-6:] == ["start", "a", "a", "stop", "synchronise", "read"]
    assert timer.name == "device events (launch cost not hidden)"
    assert timer.damaged
    assert is_damaged(timer)
    assert "could not be captured into a graph: RuntimeError: CUDA error" in capsys.readouterr().err
    assert gc.isenabled()


def test_torch_s_own_cleaning_up_is_not_done_again(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(graph: FakeGraph) -> None:
        cuda.underway.remove(graph.pool)
        cuda.released.append(graph.pool)

    cuda.end_fails = True
    monkeypatch.setattr(FakeGraph, "reset", reset)
    cuda.timer().time_batch([lambda: None], 1)
    assert (cuda.underway, cuda.released) == ([], [1])


def test_a_torch_without_the_allocator_s_calls_is_no_error(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.end_fails = True
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool")
    timer = cuda.timer()
    assert timer.time_batch([lambda: None], 1) == 0.003
    assert (timer.damaged, cuda.current) == (True, "main")


def test_a_launch_that_refuses_before_it_reaches_the_device_damages_nothing(
    cuda: FakeCuda,
) -> None:
    def launch() -> None:
        if cuda.current == "side":
            raise RuntimeError("cannot be captured")

    timer = cuda.timer()
    assert timer.time_batch([launch], 1) == 0.003
    assert (cuda.underway, cuda.released, cuda.current) == ([], [], "main")
    assert not timer.damaged
    assert timer.name == timer.fallback.name
    assert not is_damaged(timer.fallback)


def test_a_device_that_failed_meanwhile_is_not_taken_for_a_capture_that_did(
    cuda: FakeCuda,
) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda.end_fails = True
    timer = GraphTimer(torch.device("cuda", 1), EventTimer(lambda: None, fails))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        timer.time_batch([lambda: None], 1)
    assert cuda.current == "main"


def test_a_batch_is_captured_once_and_anew_for_another_count(cuda: FakeCuda) -> None:
    timer = cuda.timer()
    launches = (lambda: None,)
    captures = []
    for count in [1, 4, 4, 4, 1]:
        timer.time_batch(launches, count)
        captures.append(cuda.captures)
    assert captures == [1, 2, 2, 2, 3]


def test_launches_that_refuse_are_not_captured_again_at_another_count(cuda: FakeCuda) -> None:
    timer = cuda.timer()
    refusing, others = (lambda: None,), (lambda: None,)
    cuda.end_fails = True
    for count in [1, 4, 4, 1]:
        timer.time_batch(refusing, count)
    assert cuda.captures == 1
    cuda.end_fails = False
    timer.time_batch(others, 4)
    assert (cuda.captures, timer.name) == (2, GraphTimer.name)
    assert timer.damaged, "what was harmed stays so"


def test_other_launches_at_the_same_address_are_captured_anew(cuda: FakeCuda) -> None:
    timer = cuda.timer()
    launches: list[Callable[[], None]] = [lambda: None]
    timer.time_batch(launches, 1)
    launches[0] = lambda: None
    timer.time_batch(launches, 1)
    assert cuda.captures == 2


@pytest.mark.parametrize("end_fails", [False, True])
def test_the_graph_timer_keeps_no_launch_alive(cuda: FakeCuda, end_fails: bool) -> None:
    cuda.end_fails = end_fails
    timer = cuda.timer()

    def launch() -> None: ...

    gone = weakref.ref(launch)
    timer.time_batch((launch,), 1)
    del launch
    assert gone() is None, "at once, without a collection"


def test_no_garbage_is_collected_while_a_graph_is_captured(cuda: FakeCuda) -> None:
    collecting: list[bool] = []
    cuda.timer().time_batch([lambda: collecting.append(gc.isenabled())], 2)
    assert collecting == [False, False]
    assert gc.isenabled()


def test_a_search_times_by_events_where_graphs_would_be_captured_for_one_replay() -> None:
    events = event_timer(Trace())
    assert for_searching(GraphTimer(torch.device("cpu"), events)) is events
    assert for_searching(events) is events
    wall = WallTimer()
    assert for_searching(wall) is wall


def clock_into(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock write down when it is read; it goes 2 s a reading."""
    readings = iter(range(1_000_000_000, 99_000_000_000, 2_000_000_000))

    def read() -> int:
        trace.append("clock")
        return next(readings)

    monkeypatch.setattr(time, "perf_counter_ns", read)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SynchronisedTimer, "wait clock a wait b wait a wait clock"),
        (BatchWallTimer, "wait clock a b a wait clock"),
        (EnqueueTimer, "wait clock a b a clock wait"),
    ],
)
def test_wall_timers_differ_in_when_they_wait(
    kind: type[SynchronisedTimer], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace()
    clock_into(trace, monkeypatch)
    timer = kind(trace.says("wait"))
    assert timer.time_batch([trace.says("a"), trace.says("b")], 3) == 2.0
    assert " ".join(trace) == expected


@pytest.mark.parametrize("kind", [SynchronisedTimer, BatchWallTimer, EnqueueTimer])
def test_wall_timers_of_a_device_can_wait_for_it(kind: type[SynchronisedTimer]) -> None:
    trace = Trace()
    kind(trace.says("wait")).synchronize()
    assert trace == ["wait"]


def test_every_timer_has_a_name_of_its_own() -> None:
    kinds = (WallTimer, SynchronisedTimer, BatchWallTimer, EnqueueTimer, GraphTimer)
    assert len({kind.name for kind in kinds}) == len(kinds)


def test_each_aspect_of_a_launch_has_its_timer() -> None:
    events = event_timer(Trace())
    graph = GraphTimer(torch.device("cpu"), events)
    aspects: list[Timed] = ["host", "batch", "enqueue", "device", "graph"]
    wall = WallTimer()

    def kinds(timer: Timer) -> list[type | None]:
        found = [launch_timer(aspect, timer) for aspect in aspects]
        return [None if each is None else type(each) for each in found]

    walls: list[type | None] = [SynchronisedTimer, BatchWallTimer, EnqueueTimer]
    assert kinds(graph) == [*walls, EventTimer, GraphTimer]
    assert kinds(events) == [*walls, EventTimer, None]
    assert kinds(wall) == [*walls, None, None]
    assert launch_timer("device", graph) is events
    assert launch_timer("graph", graph) is graph


def test_the_wall_timers_of_launches_wait_as_the_device_s_own_timer_does() -> None:
    trace = Trace()
    timer = launch_timer("host", event_timer(trace))
    assert timer is not None
    timer.synchronize()
    assert trace == ["synchronise"]


def test_copies_are_timed_by_events_and_blocking_ones_by_the_host_s_clock() -> None:
    events = event_timer(Trace())
    graph = GraphTimer(torch.device("cpu"), events)
    wall = WallTimer()
    assert for_copies(graph, blocking=False) is events
    assert for_copies(wall, blocking=False) is wall
    assert type(for_copies(graph, blocking=True)) is BatchWallTimer


def test_a_graph_timer_tells_whether_it_captured(cuda: FakeCuda) -> None:
    timer = cuda.timer()
    assert not timer.captured
    timer.time_batch((lambda: None,), 1)
    assert timer.captured
    cuda.end_fails = True
    timer.time_batch((lambda: None,), 1)
    assert not timer.captured


@pytest.mark.parametrize(("launch_us", "outran"), [(169.0, False), (171.0, True)])
def test_a_host_slower_than_the_blocking_kernel_is_seen(launch_us: float, outran: bool) -> None:
    host = Host()
    assert host.held([host.launch_taking(launch_us)], 1) == [170.0]
    assert host.timer.outran is outran


def test_without_a_blocking_kernel_the_host_always_outran() -> None:
    timer = event_timer(Trace())
    timer.time_batch([lambda: None], 1)
    assert timer.outran
