"""What is known of a run that is going on: how far it is, how long it will take, the best so far.

Nothing in here draws. Devices of one kind are told together, from the slowest to the fastest of
them, because eight equal boards should give equal figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from roofprobe.acceptance.verdict.validity import invalidate
from roofprobe.records.ceilings import ceiling_for, ceilings_of
from roofprobe.records.headlines import competitors
from roofprobe.records.schema import Case, Ceiling, Device, Measurement
from roofprobe.records.titles import label_of
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import short_address
from roofprobe.reporting.plain_text import clean

Expected = tuple[str, Case, float]  # a device's id, a case of it, how long that should take

_PRIOR = 0.1  # how much of the expected time counts as if it had already gone as expected
_ORDER = ("compute", "memory", "interconnect", "llm")
_WORTH_TELLING_CORES = 0.05  # others that kept less of the host busy took nothing away
_LEVELS = {"l1": "L1 cache", "l2": "L2 cache", None: "memory"}


@dataclass(slots=True)
class _Running:
    case_id: str
    expected_s: float
    begun: float


class Tally:
    """Counts cases and estimates the time left.

    Devices work side by side, but a processor's cases, and transfers between devices, come one by
    one after the rest. What is expected is scaled by how long the finished cases took, and a tenth
    of it counts as gone as expected, so that the first cases do not throw the estimate about. A
    device's first case is left out of that scale: its worker starts meanwhile.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read the time, in seconds, from ``clock``."""
        self._clock = clock
        self._begun = clock()
        self._budget_s: float | None = None
        self._one_by_one: set[str] = set()
        self._ahead: dict[tuple[str, str], tuple[str, float]] = {}  # lane and seconds of a case
        self._running: dict[str, _Running] = {}
        self._met: set[str] = set()
        self._expected_s = self._planned_s = self._took_s = 0.0
        self.total = 0
        self.done = 0

    def begin(
        self, devices: Iterable[Device], cases: Iterable[Expected], budget_s: float | None = None
    ) -> None:
        """Start the clock; after ``budget_s`` seconds nothing more is begun."""
        self._begun, self._budget_s = self._clock(), budget_s
        self._one_by_one = {d.device_id for d in devices if d.backend == "cpu"}
        self.expect(cases)

    def expect(self, cases: Iterable[Expected]) -> None:
        """Add cases that are to be measured."""
        for device_id, case, expected_s in cases:
            alone = device_id in self._one_by_one or case.peer or "ranks" in case.shape
            self._ahead[device_id, case.case_id] = ("" if alone else device_id, expected_s)
            self._planned_s += expected_s
            self.total += 1

    def start(self, device_id: str, case: Case) -> None:
        """Note that a case begins."""
        _, expected_s = self._ahead.get((device_id, case.case_id), ("", 0.0))
        self._running[device_id] = _Running(case.case_id, expected_s, self._clock())

    def count(self, device_id: str, measurement: Measurement) -> None:
        """Count one more case as done."""
        self.done += 1
        self._ahead.pop((device_id, measurement.case.case_id), None)
        running = self._running.pop(device_id, None)
        if running is None or measurement.status == "skipped":
            return
        if device_id in self._met:
            self._took_s += self._clock() - running.begun
            self._expected_s += running.expected_s
        self._met.add(device_id)

    def elapsed_s(self) -> float:
        """Return the time since the run began."""
        return self._clock() - self._begun

    def running_s(self, device_id: str) -> float:
        """Return how long the device's case has been going on, 0 where there is none."""
        running = self._running.get(device_id)
        return self._clock() - running.begun if running else 0.0

    def waiting(self, device_id: str) -> int:
        """Return how many cases of a device are still to be measured."""
        return sum(owner == device_id for owner, _ in tuple(self._ahead))

    def left_s(self) -> float | None:
        """Return the time that is left, ``None`` while there is no telling."""
        ahead = dict(self._ahead)
        if not ahead:
            return 0.0
        if self._planned_s <= 0:
            return None
        prior = _PRIOR * self._planned_s
        slowness = (self._took_s + prior) / (self._expected_s + prior)
        lanes: dict[str, float] = {}
        for lane, expected_s in ahead.values():
            lanes[lane] = lanes.get(lane, 0.0) + expected_s * slowness
        for device_id, running in tuple(self._running.items()):
            lane, expected_s = ahead.get((device_id, running.case_id), ("", 0.0))
            if expected_s:
                lanes[lane] -= min(self._clock() - running.begun, expected_s * slowness)
        left = lanes.pop("", 0.0) + max(lanes.values(), default=0.0)
        if self._budget_s is not None:
            left = min(left, self._budget_s - self.elapsed_s())
        return max(0.0, left)

    def part(self) -> float:
        """Return how much of the time is over, from 0 to 1; of the cases where no time is known."""
        left, elapsed = self.left_s(), self.elapsed_s()
        if left is None or elapsed + left <= 0:
            return min(1.0, self.done / max(1, self.total))
        return elapsed / (elapsed + left)


@dataclass(frozen=True, slots=True)
class Best:
    """The best figure of one device in one kind of work, beside its peak.

    ``share`` is of the datasheet's peak, or where there is none of the derived one: ``derived``.
    """

    rate: float
    unit: str
    share: float | None
    derived: bool


@dataclass(frozen=True, slots=True)
class BestRow:
    """What devices of one kind reached so far in one kind of work, ready to be shown."""

    devices: str
    label: str
    rate: str
    share: str
    derived: bool

    def text(self) -> str:
        """Return the row in words: ``bf16 800 TFLOPS (81%)``."""
        known = self.share != numbers.UNKNOWN
        of = " of derived" if self.derived else ""
        return f"{self.label} {self.rate}" + (f" ({self.share}{of})" if known else "")


@dataclass(slots=True)
class Scores:
    """The best so far of every device, kind by kind.

    What would be a line of the result counts, and nothing that is above a physical bound.
    """

    _devices: dict[str, str] = field(default_factory=dict)  # id → name of those told together
    _ceilings: dict[str, tuple[Ceiling, ...]] = field(default_factory=dict)
    _best: dict[tuple[int, str], dict[str, Best]] = field(default_factory=dict)

    def know(self, devices: Sequence[Device]) -> None:
        """Learn which devices there are, and what each should reach."""
        alike: dict[str, list[Device]] = {}
        for device in devices:
            alike.setdefault(clean(device.name), []).append(device)
            self._ceilings[device.device_id] = ceilings_of(device)
        for name, group in alike.items():
            title = f"{len(group)} x {name}" if len(group) > 1 else short_address(group[0])
            self._devices |= {device.device_id: title for device in group}

    def keep(self, device_id: str, measurement: Measurement) -> BestRow | None:
        """Keep the result if it is the best of its kind; return the row that changed."""
        ceilings = self._ceilings.get(device_id, ())
        (judged,) = invalidate((measurement,), ceilings)
        if judged.rate is None or not (
            competitors((judged,)) or (judged.status == "ok" and judged.case.peer)
        ):
            return None
        kind = _kind(judged.case)
        before = self._best.setdefault(kind, {}).get(device_id)
        if before is not None and before.rate >= judged.rate.median:
            return None
        datasheet = ceiling_for(judged, "datasheet", ceilings)
        ceiling = datasheet or ceiling_for(judged, "derived", ceilings)
        share = judged.rate.median / ceiling.value if ceiling else None
        derived = ceiling is not None and datasheet is None
        self._best[kind][device_id] = Best(judged.rate.median, judged.rate.unit, share, derived)
        return self._row(kind, self._devices.get(device_id, clean(device_id)))

    def rows(self) -> list[BestRow]:
        """Return a row per kind of work and kind of devices, devices of one kind after another."""
        titles = tuple(dict.fromkeys(self._devices.values()))
        rows = []
        for title in titles:
            for kind in sorted(tuple(self._best), key=lambda kind: kind[0]):
                row = self._row(kind, title)
                if row is not None:
                    rows.append(row)
        return rows

    def _row(self, kind: tuple[int, str], title: str) -> BestRow | None:
        found = [
            best
            for device_id, best in tuple(self._best[kind].items())
            if self._devices.get(device_id, clean(device_id)) == title
        ]
        if not found:
            return None
        low = min(found, key=lambda best: best.rate)
        high = max(found, key=lambda best: best.rate)
        scale = numbers.scale_for(high.rate, high.unit)
        rate = _span(scale.number(low.rate), scale.number(high.rate))
        share = _span(numbers.share(low.share), numbers.share(high.share))
        return BestRow(title, kind[1], f"{rate} {scale.unit}", share, high.derived)


def _span(low: str, high: str) -> str:
    return high if low == high else f"{low.removesuffix('%')}–{high}"


def _kind(case: Case) -> tuple[int, str]:
    """Return where a row stands, and what it is called."""
    place = _ORDER.index(case.family) if case.family in _ORDER else len(_ORDER)
    if case.family == "memory":
        return place, _LEVELS["l2" if case.op == "l2-read" else case.level]
    if case.family == "interconnect" and "ranks" not in case.shape:
        return place, clean(case.op)
    return place, clean(label_of(case))


def conditions(measurement: Measurement, *, reported_clock: bool) -> tuple[str, ...]:
    """Return what the device said of itself in a case: clock, power, temperature, throttling.

    The clock is the one that was counted, or else, with ``reported_clock``, the driver's (which for
    a processor in a virtual machine is a nominal figure that never changes).
    """
    told, telemetry = [], measurement.telemetry
    clock = measurement.clock_mhz
    if clock is None and reported_clock and telemetry is not None:
        clock = telemetry.sm_clock_mhz
    if clock is not None:
        told.append(f"{clock.median:.0f} MHz")
    if telemetry is None:
        return tuple(told)
    if telemetry.power_w is not None:
        told.append(f"{telemetry.power_w.median:.0f} W")
    if telemetry.temperature_c is not None:
        told.append(f"{telemetry.temperature_c.max:.0f} °C")
    if telemetry.others_cores is not None and telemetry.others_cores >= _WORTH_TELLING_CORES:
        told.append(f"others {telemetry.others_cores:.1f} cores")
    reasons = [clean(reason) for reason in telemetry.throttle_reasons if reason != "idle"]
    return (*told, *(["slowed: " + ", ".join(reasons)] if reasons else []))
