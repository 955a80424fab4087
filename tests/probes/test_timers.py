"""Timers call in the right order and convert to seconds; no duration is asserted here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from roofprobe.kernels.launches import Timed
from roofprobe.probes.timers import (
    BatchWallTimer,
    EnqueueTimer,
    EventTimer,
    GraphTimer,
    SynchronisedTimer,
    Timer,
    WallTimer,
    for_copies,
    for_searching,
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


def event_timer(trace: Trace, *, hold: Callable[[float], None] | None = None) -> EventTimer:
    coming = iter([("start", 2.0), ("stop", 5.0)] * 9)
    return EventTimer(lambda: FakeEvent(trace, *next(coming)), trace.says("synchronise"), hold)


def test_the_wall_clock_goes_round_the_launches() -> None:
    trace = Trace()
    WallTimer().time_batch([trace.says("a"), trace.says("b"), trace.says("c")], 7)
    assert trace == ["a", "b", "c", "a", "b", "c", "a"]


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


def test_the_blocking_kernel_outlasts_the_cost_of_all_launches() -> None:
    held: list[float] = []
    timer = event_timer(Trace(), hold=held.append)
    timer.time_batch([lambda: None], 1)
    timer.time_batch([lambda: None], 100)
    assert held == [62.0, 1250.0]


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


class Uncaptured(GraphTimer):
    """A graph timer on a device that refuses every capture, and counts the attempts."""

    attempts = 0

    def _capture(self, launches: Any, count: int) -> Any:
        self.attempts += 1
        return None


def test_what_cannot_be_captured_is_timed_by_events_and_named_so() -> None:
    trace = Trace()
    timer = Uncaptured(torch.device("cpu"), event_timer(trace))
    assert timer.name == "CUDA graph replay between events"
    assert timer.time_batch([trace.says("a")], 2) == 0.003
    assert trace == ["start", "a", "a", "stop", "synchronise", "read"]
    assert timer.name == "device events (launch cost not hidden)"


def test_a_batch_is_captured_once_and_anew_for_another_count() -> None:
    timer = Uncaptured(torch.device("cpu"), event_timer(Trace()))
    launches = (lambda: None,)
    counts = [1, 4, 4, 4, 1]
    attempts = []
    for count in counts:
        timer.time_batch(launches, count)
        attempts.append(timer.attempts)
    assert attempts == [1, 2, 2, 2, 3]


def test_other_launches_at_the_same_address_are_captured_anew() -> None:
    timer = Uncaptured(torch.device("cpu"), event_timer(Trace()))
    launches: list[Callable[[], None]] = [lambda: None]
    timer.time_batch(launches, 1)
    launches[0] = lambda: None
    timer.time_batch(launches, 1)
    assert timer.attempts == 2


def test_the_graph_timer_keeps_no_launch_alive() -> None:
    import gc
    import weakref

    timer = Uncaptured(torch.device("cpu"), event_timer(Trace()))

    def launch() -> None: ...

    gone = weakref.ref(launch)
    timer.time_batch((launch,), 1)
    del launch
    gc.collect()
    assert gone() is None


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


def test_a_graph_timer_tells_whether_it_captured() -> None:
    timer = Uncaptured(torch.device("cpu"), event_timer(Trace()))
    timer.time_batch((lambda: None,), 1)
    assert not timer.captured


@pytest.mark.parametrize(("queued_us", "outran"), [(85, False), (87, True)])
def test_a_host_slower_than_the_blocking_kernel_is_seen(
    queued_us: int, outran: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([0, queued_us * 1000])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(readings))
    timer = event_timer(Trace(), hold=lambda us: None)
    assert timer.time_batch([lambda: None], 3) == 0.003  # held for 50 + 3 x 12 us
    assert timer.outran is outran


def test_without_a_blocking_kernel_the_host_always_outran() -> None:
    timer = event_timer(Trace())
    timer.time_batch([lambda: None], 1)
    assert timer.outran
