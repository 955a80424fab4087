"""How a device did while a case ran: clocks, power, temperature, reasons for lower clocks.

A background thread reads the device every few tens of milliseconds; one reading at the start and
one at the end are taken even for the shortest case. From the readings come least, median and
greatest value of each quantity, and the names of all reasons for lower clocks that were seen. The
first reading is from before the work, when the device may idle at a fraction of its clock, so it
enters these only where it is the only one; ``n_samples`` counts it all the same.
Counters say what polling misses: ``energy_j`` and ``throttle_ns`` are differences between the last
and the first reading, over the window from just before the case to just after it (warm-up and
pauses included), not over the timed launches alone. ``throttle_ns`` counts time, not lost work.

``power_w`` is the driver's figure, on most boards a mean over about a second: in a shorter window
it lags, and ``energy_j`` over the window is the better figure. ``pcie_generation`` and
``pcie_width`` are of the link at that moment: it falls back to generation 1 while nothing crosses
it, so only readings under load say what a copy ran at. A host's processor clock is the mean
over its CPUs as the system reports it; in a virtual machine it is often a constant.

``trace`` keeps single readings with their times, thinned to at most 64, so that a clock that falls
within a case can be seen to fall.

Nothing here raises into a measurement. A source that fails ends the sampling, and ``missing`` says
why under ``sampling``; a value that was never told is None, never 0.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from roofprobe.probes.nvml_facts import Snapshot, throttle_names

__all__ = [
    "CpuSource",
    "NoSource",
    "Sampler",
    "Snapshot",
    "Source",
    "Span",
    "TelemetrySummary",
    "summarise",
    "throttle_names",
]

_JOIN_TIMEOUT_S = 2.0
_TRACE_POINTS = 64
_LEAST_SHARE_S = 0.1  # the system counts processor time in steps of 10 ms
_SPANS = (
    "sm_clock_mhz", "mem_clock_mhz", "power_w", "temperature_c", "memory_temperature_c",
    "pcie_generation", "pcie_width",
)  # fmt: skip
_REASONS_AND_COUNTERS = ("throttle_bits", "throttle_ns", "energy_mj")
_NO_CPU_HAS = (
    "mem_clock_mhz", "memory_temperature_c", "power_w", "pcie_generation", "pcie_width",
    *_REASONS_AND_COUNTERS,
)  # fmt: skip


class Source(Protocol):
    """What can be sampled: an ``NvmlDevice``, the host's processor, or nothing."""

    def snapshot(self) -> Snapshot:
        """Return this moment; absent values are None with their reason."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Least, median and greatest value of one quantity."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, slots=True)
class TracePoint:
    """One reading, seconds after the first."""

    at_s: float
    sm_clock_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    throttle_reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TelemetrySummary:
    """What was seen between start and stop; ``dataclasses.asdict`` makes it plain data.

    ``throttle_ns`` has ``power``, ``sw_thermal``, ``hw_thermal``, ``brake``, ``sync`` as far as
    they are told (``thermal`` on drivers that tell only the older sum); ``missing`` has the others.
    ``others_cores`` is how many cores other processes kept busy on average, hypervisor included.
    """

    n_samples: int = 0
    interval_s: float | None = None
    sm_clock_mhz: Span | None = None
    mem_clock_mhz: Span | None = None
    power_w: Span | None = None
    temperature_c: Span | None = None
    memory_temperature_c: Span | None = None
    pcie_generation: Span | None = None
    pcie_width: Span | None = None
    throttle_reasons: tuple[str, ...] = ()
    throttle_ns: Mapping[str, int] = field(default_factory=dict)
    energy_j: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    trace: tuple[TracePoint, ...] = ()
    others_cores: float | None = None


class Sampler:
    """Reads a source in the background while its context is open; may be opened again and again.

    ``with Sampler(source) as sampler: ...`` and then ``sampler.summary()``.
    """

    def __init__(self, source: Source, interval_s: float = 0.05) -> None:
        """Sample ``source`` every ``interval_s``, or as often as it wants to be asked at most."""
        self._source = source
        self._interval_s = max(interval_s, getattr(source, "least_interval_s", 0.0))
        self._window = _Window()
        self._thread: threading.Thread | None = None
        self._summary: TelemetrySummary | None = None
        self._stalled: str | None = None

    def __enter__(self) -> Sampler:
        """Start sampling."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self.stop()

    def start(self) -> None:
        """Take the first reading here and now, then let a thread go on."""
        self.stop()
        self._summary = None
        self._window = window = _Window()
        if self._stalled:  # asking again could hold up the measurement itself
            window.end(self._stalled)
        if window.read(self._source) and math.isfinite(self._interval_s):
            thread = threading.Thread(
                target=self._go_on, args=(window,), name="roofprobe-telemetry", daemon=True
            )
            try:
                thread.start()
                self._thread = thread
            except RuntimeError as error:  # the system gives no more threads
                window.note(f"no-thread ({error})")

    def stop(self) -> TelemetrySummary:
        """End the thread, take the last reading and sum up; asking again changes nothing."""
        if self._summary is None:
            window, thread, self._thread = self._window, self._thread, None
            window.stopping.set()
            if thread is not None:
                thread.join(_JOIN_TIMEOUT_S)
                if thread.is_alive():  # a question that the driver does not come back from
                    self._stalled = "stalled (the source did not answer in time)"
                    window.end(self._stalled)
            if window.snapshots:
                window.read(self._source)
            interval_s = self._interval_s if math.isfinite(self._interval_s) else None
            self._summary = window.summary(interval_s)
        return self._summary

    def summary(self) -> TelemetrySummary:
        """Return what was seen, ending the sampling if it is still going on."""
        return self.stop()

    def _go_on(self, window: _Window) -> None:
        while not window.stopping.wait(self._interval_s):
            if not window.read(self._source):
                return


class _Window:
    """The readings of one case, and why they ended early if they did."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.times_s: list[float] = []
        self.stopping = threading.Event()
        self.complete = True  # whether the last reading is from the end of the window
        self._ended = False
        self._why: str | None = None

    def read(self, source: Source) -> bool:
        """Take one reading; return whether to go on."""
        if self._ended:
            return False
        try:
            snapshot = source.snapshot()
            lost = snapshot.lost
        except Exception as error:  # telemetry never breaks a measurement
            self.end(f"failed ({type(error).__name__}: {error})")
            return False
        if self._ended:  # it was given up on meanwhile
            return False
        if lost is not None:
            self.end(lost)
            if not self.snapshots:
                self._keep(snapshot)  # for its reasons
            return False
        self._keep(snapshot)
        return True

    def _keep(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self.times_s.append(time.monotonic())

    def end(self, why: str) -> None:
        """Take no further reading."""
        self._ended = True
        self.complete = False
        self.note(why)

    def note(self, why: str) -> None:
        """Keep why the sampling is not what it should be."""
        self._why = why

    def summary(self, interval_s: float | None) -> TelemetrySummary:
        """Sum up what was read."""
        snapshots = self.snapshots.copy()
        summary = summarise(snapshots, interval_s, self._why, complete=self.complete)
        trace = trace_of(self.times_s, snapshots)
        return replace(summary, trace=trace, others_cores=others_cores(self.times_s, snapshots))


def others_cores(times_s: Sequence[float], snapshots: Sequence[Snapshot]) -> float | None:
    """Return the cores that others kept busy between the first and the last reading."""
    told = [
        (at, snapshot.others_cpu_s)
        for at, snapshot in zip(times_s, snapshots, strict=False)
        if snapshot.others_cpu_s is not None
    ]
    if len(told) < 2 or told[-1][0] - told[0][0] < _LEAST_SHARE_S:
        return None
    (begun_s, before_s), (ended_s, after_s) = told[0], told[-1]
    assert before_s is not None, snapshots
    assert after_s is not None, snapshots
    return max(0.0, (after_s - before_s) / (ended_s - begun_s))


def trace_of(times_s: Sequence[float], snapshots: Sequence[Snapshot]) -> tuple[TracePoint, ...]:
    """Return readings evenly picked from first to last; empty where nothing was told."""
    told = [
        TracePoint(
            round(at - times_s[0], 3),
            snapshot.sm_clock_mhz,
            snapshot.power_w,
            snapshot.temperature_c,
            tuple(sorted(throttle_names(snapshot.throttle_bits or 0))),
        )
        for at, snapshot in zip(times_s, snapshots, strict=False)
        if _tells(snapshot)
    ]
    if len(told) <= _TRACE_POINTS:
        return tuple(told)
    step = (len(told) - 1) / (_TRACE_POINTS - 1)
    return tuple(told[round(index * step)] for index in range(_TRACE_POINTS))


def summarise(
    snapshots: list[Snapshot],
    interval_s: float | None,
    why: str | None = None,
    *,
    complete: bool = True,
) -> TelemetrySummary:
    """Sum up readings in order of time.

    ``why`` says what disturbed the sampling. Unless ``complete``, the last reading is older than
    the end of the window, and differences of counters would miss a part of it: they stay out.
    """
    missing: dict[str, str] = {"sampling": why} if why else {}
    if not snapshots:
        return TelemetrySummary(interval_s=interval_s, missing=missing or {"sampling": "not-asked"})
    first, last = snapshots[0], snapshots[-1]
    during = snapshots[1:] or snapshots
    for name, reason in first.missing.items():
        if name.startswith("throttle_ns.") or name in (*_SPANS, *_REASONS_AND_COUNTERS):
            missing[_told_as(name)] = reason
    spans: dict[str, Any] = {
        name: _span(getattr(snapshot, name) for snapshot in during) for name in _SPANS
    }
    for name, span in spans.items():
        if span is not None:
            missing.pop(name, None)
        elif name not in missing:
            missing[name] = last.missing.get(name, "not-told")
    difference = _Differences(complete, why, last.missing, missing)
    energy_mj = difference.of("energy_mj", first.energy_mj, last.energy_mj)
    counters = {
        name: difference.of(f"throttle_ns.{name}", nanoseconds, last.throttle_ns.get(name))
        for name, nanoseconds in first.throttle_ns.items()
    }
    bits = [snapshot.throttle_bits for snapshot in during if snapshot.throttle_bits is not None]
    if bits:
        missing.pop("throttle_reasons", None)
    elif "throttle_reasons" not in missing:
        missing["throttle_reasons"] = last.missing.get("throttle_bits", "not-told")
    return TelemetrySummary(
        n_samples=sum(map(_tells, snapshots)),
        interval_s=interval_s,
        **spans,
        throttle_reasons=tuple(sorted({name for some in bits for name in throttle_names(some)})),
        throttle_ns={name: value for name, value in counters.items() if value is not None},
        energy_j=None if energy_mj is None else energy_mj / 1000,
        missing=missing,
    )


@dataclass(frozen=True, slots=True)
class _Differences:
    """Differences of counters over a window, with the reason where there is none."""

    complete: bool
    why: str | None
    missing_at_end: Mapping[str, str]
    missing: dict[str, str]

    def of(self, name: str, first: int | None, last: int | None) -> int | None:
        if first is None:
            return None  # the first reading has said why
        if not self.complete:
            reason = self.why or "incomplete"
        elif last is None:
            reason = self.missing_at_end.get(name, "not-told")
        elif last < first:
            reason = "went-back (the counter was reset meanwhile)"
        else:
            return last - first
        self.missing[_told_as(name)] = reason
        return None


def _tells(snapshot: Snapshot) -> bool:
    return any(getattr(snapshot, name) is not None for name in (*_SPANS, "throttle_bits"))


def _told_as(name: str) -> str:
    return {"throttle_bits": "throttle_reasons", "energy_mj": "energy_j"}.get(name, name)


def _span(values: Iterable[float | None]) -> Span | None:
    told = [value for value in values if value is not None]
    if not told:
        return None
    return Span(float(min(told)), float(statistics.median(told)), float(max(told)))


class CpuSource:
    """The host's processor: mean clock, hottest sensor, use; its power is not told.

    Reading it costs processor time, which is what is measured, so it is read seldom.
    """

    least_interval_s = 0.5

    def __init__(self, system: Any = None) -> None:
        """Ask ``system``, by default ``psutil``."""
        self._system = system

    def snapshot(self) -> Snapshot:
        """Return this moment of the host's processor."""
        if self._system is None:
            import psutil

            self._system = psutil
        missing = dict.fromkeys(_NO_CPU_HAS, "not-supported (host processor)")

        def ask(name: str, question: Callable[[], float | None]) -> float | None:
            try:
                value = question()
            except Exception as error:  # psutil lacks other functions on each system
                missing[name] = f"failed ({type(error).__name__})"
                return None
            if value is None:
                missing[name] = "not-told"
            return value

        return Snapshot(
            sm_clock_mhz=ask("sm_clock_mhz", self._clock_mhz),
            temperature_c=ask("temperature_c", self._hottest),
            utilisation_percent=ask(
                "utilisation_percent", lambda: float(self._system.cpu_percent(interval=None))
            ),
            others_cpu_s=ask("others_cpu_s", self._others_cpu_s),
            missing=missing,
        )

    def _clock_mhz(self) -> float | None:
        return float(self._system.cpu_freq().current) or None

    def _others_cpu_s(self) -> float:
        all_s, own = self._system.cpu_times(), self._system.Process().cpu_times()
        names = ("user", "nice", "system", "irq", "softirq", "steal")  # guests are part of user
        busy_s = sum(float(getattr(all_s, name, 0.0)) for name in names)
        return busy_s - float(own.user) - float(own.system)

    def _hottest(self) -> float | None:
        sensors = self._system.sensors_temperatures()
        chips = [sensors[name] for name in ("coretemp", "k10temp", "zenpower") if name in sensors]
        return max((float(entry.current) for chip in chips for entry in chip), default=None)


@dataclass(frozen=True, slots=True)
class NoSource:
    """A device that nothing can be asked about, and why."""

    reason: str = "no-source"
    least_interval_s: float = math.inf

    def snapshot(self) -> Snapshot:
        """Return a moment without any value."""
        names = (*_SPANS, *_REASONS_AND_COUNTERS)
        return Snapshot(missing=dict.fromkeys(names, self.reason))
