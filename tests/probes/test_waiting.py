"""Waits of threads: what the system counted between two moments, and who of us it counts for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from roofprobe.probes.devices import SamplerTelemeter
from roofprobe.probes.telemetry import NoSource
from roofprobe.probes.waiting import TASKS, Waiting

OWN = threading.get_native_id()


class Clock:
    """A clock that is set by hand."""

    at_s = 100.0

    def __call__(self) -> float:
        return self.at_s


def told(tasks: Path, **waited_s: float) -> None:
    """Write what the system says of each thread; it has run three turns."""
    for thread, seconds in waited_s.items():
        folder = tasks / (str(OWN) if thread == "own" else thread.removeprefix("t"))
        folder.mkdir(exist_ok=True)
        (folder / "schedstat").write_text(f"5000000 {int(seconds * 1e9)} 3\n")


@pytest.mark.parametrize(("one", "expected"), [(True, 0.25), (False, 0.75)])
def test_waits_of_the_launching_thread_or_of_all_over_the_window(
    tmp_path: Path, one: bool, expected: float
) -> None:
    clock = Clock()
    waiting = Waiting(one=one, tasks=tmp_path, now=clock, stolen_s=lambda: 0.0)
    told(tmp_path, own=1.0, t7=5.0)
    waiting.begin()
    clock.at_s += 4.0
    told(tmp_path, own=2.0, t7=6.0, t8=1.0)  # the last one was born meanwhile
    assert waiting.threads() == pytest.approx(expected)


def test_a_thread_that_ended_takes_its_waits_with_it(tmp_path: Path) -> None:
    clock = Clock()
    waiting = Waiting(one=False, tasks=tmp_path, now=clock)
    told(tmp_path, own=1.0, t7=5.0)
    waiting.begin()
    clock.at_s += 1.0
    (tmp_path / "7" / "schedstat").unlink()
    told(tmp_path, own=1.5)
    assert waiting.threads() == pytest.approx(0.5)


@pytest.mark.parametrize(("one", "expected"), [(True, 0.75), (False, 0.5)])
def test_a_hypervisors_part_is_the_launching_threads_too(
    tmp_path: Path, one: bool, expected: float
) -> None:
    """For work on all cores it is among what others kept busy already."""
    clock, stolen = Clock(), iter((10.0, 10.5))
    waiting = Waiting(one=one, tasks=tmp_path, now=clock, stolen_s=lambda: next(stolen))
    told(tmp_path, own=1.0)
    waiting.begin()
    clock.at_s += 2.0
    told(tmp_path, own=2.0)
    assert waiting.threads() == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0 0 0\n", "garbage here now\n", None])
def test_a_system_that_does_not_count_says_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / str(OWN)).mkdir()
        (tmp_path / str(OWN) / "schedstat").write_text(text)
    for one in (True, False):
        waiting = Waiting(one=one, tasks=tmp_path, stolen_s=lambda: 0.0)
        waiting.begin()
        assert waiting.threads() is None
    waiting = Waiting(one=False, tasks=tmp_path / "missing")
    waiting.begin()
    assert waiting.threads() is None


@pytest.mark.parametrize("source", [True, False])
def test_the_telemeter_tells_waits_beside_what_a_source_tells_or_alone(
    tmp_path: Path, source: bool
) -> None:
    clock = Clock()
    waiting = Waiting(one=True, tasks=tmp_path, now=clock, stolen_s=lambda: 0.0)
    telemeter = SamplerTelemeter(NoSource() if source else None, waiting)
    told(tmp_path, own=1.0)
    with telemeter.watch():
        clock.at_s += 2.0
        told(tmp_path, own=1.5)
    summary = telemeter.summary()
    assert summary is not None
    assert summary.waiting_threads == 0.25
    assert bool(summary.missing) == source
    with telemeter.watch():
        (tmp_path / str(OWN) / "schedstat").unlink()
    after = telemeter.summary()
    assert (after.waiting_threads if after else None) is None, "nothing of the last window is left"


def _counts() -> bool:
    try:
        return int((TASKS / str(OWN) / "schedstat").read_text().split()[2]) > 0
    except (OSError, ValueError, IndexError):
        return False


@pytest.mark.skipif(not _counts(), reason="this system does not count waits")
def test_two_threads_of_one_processor_wait_for_each_other() -> None:
    """However busy the host is: of two that want one processor, one waits at any time."""
    before = os.sched_getaffinity(0)
    core = min(before)
    neighbour = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    )
    try:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(neighbour.pid, {core})
        waiting = Waiting(one=True)
        waiting.begin()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        waited = waiting.threads()
    finally:
        os.sched_setaffinity(0, before)
        neighbour.kill()
        neighbour.communicate()
    assert waited is not None
    assert 0.2 < waited < 1.01
