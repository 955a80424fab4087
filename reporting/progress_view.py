"""What live and plain progress share: the state, the devices' names, the switch that silences."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from roofprobe.records.schema import Device, Measurement, Status
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import case_name, short_address
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.progress_state import BestRow, Expected, Scores, Tally

_P = ParamSpec("_P")
_Shown = TypeVar("_Shown", bound="View")


def harmless(
    show: Callable[Concatenate[_Shown, _P], None],
) -> Callable[Concatenate[_Shown, _P], None]:
    """Make a method of a view one at a time, and silence the view for good when it fails."""

    @wraps(show)
    def shown(self: _Shown, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        with self.lock:
            if self.mute:
                return
            try:
                show(self, *args, **kwargs)
            except Exception:  # whatever goes wrong with showing, measuring goes on
                self.mute = True

    return shown


class View:
    """What is known of the run, and whether it may still be shown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read the time, in seconds, from ``clock``."""
        self.lock = threading.RLock()
        self.mute = False
        self.tally = Tally(clock)
        self.scores = Scores()
        self.devices: tuple[str, ...] = ()
        self._names: dict[str, str] = {}
        self._ends: Counter[Status] = Counter()
        self._told: set[tuple[str, str, str]] = set()

    def know(
        self, devices: Sequence[Device], cases: Sequence[Expected], budget_s: float | None
    ) -> None:
        """Learn what will be measured."""
        self._names = {device.device_id: short_address(device) for device in devices}
        self.devices = tuple(self._names)
        self.tally.begin(devices, cases, budget_s)
        self.scores.know(devices)

    def name(self, device_id: str) -> str:
        """Return where torch finds a device; its id where it is not known."""
        return self._names.get(device_id, clean(device_id))

    def learn(self, device_id: str, measurement: Measurement) -> BestRow | None:
        """Count a case, and return what it made better."""
        self.tally.count(device_id, measurement)
        self._ends[measurement.status] += 1
        return self.scores.keep(device_id, measurement)

    def trouble(self, device_id: str, measurement: Measurement) -> str | None:
        """Return what went wrong with a case, once for each device and reason."""
        if measurement.status not in ("failed", "invalid"):
            return None
        outcome = outcome_text(measurement)
        code = measurement.reason.code if measurement.reason else ""
        key = (device_id, code, outcome)
        if key in self._told:
            return None
        self._told.add(key)
        return f"{self.name(device_id)} {case_name(measurement.case)}: {outcome}"

    def ends_text(self) -> str:
        """Return how many cases ended in which way: ``35 ok, 65 skipped``."""
        return ", ".join(f"{count} {status}" for status, count in self._ends.items())


def outcome_text(measurement: Measurement) -> str:
    """Return how a case ended: its rate, or why there is none."""
    if measurement.status == "ok":
        if measurement.rate is None:
            return "ok"
        return clean(numbers.rate(measurement.rate.median, measurement.rate.unit))
    if measurement.reason is None:
        return measurement.status
    return f"{measurement.status}: {clean(measurement.reason.sentence)}"
