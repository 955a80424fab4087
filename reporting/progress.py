"""What is shown while a run is going on: on a terminal a live view, elsewhere plain lines.

Showing progress must never harm what it shows. A closed pipe, a narrow terminal or a fault in here
silences the view and the run goes on. Calls may come from several threads, one per device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from roofprobe.records.schema import Case, Device, Measurement
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import case_name
from roofprobe.reporting.plain_text import clean, in_encoding
from roofprobe.reporting.progress_state import BestRow, Expected
from roofprobe.reporting.progress_view import View, harmless, outcome_text

_STEPS = 20  # plain lines of a run that goes as expected
_SILENCE_S = 30.0  # a case that ends after so long without a line gets one


class Progress(Protocol):
    """Told by the runner what happens; it shows that and never raises."""

    def begin(
        self, devices: Sequence[Device], cases: Sequence[Expected], budget_s: float | None = None
    ) -> None:
        """Say what will be measured, how long each case should take, and the time budget."""

    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        """Say that more cases follow from what was measured, each with its expected seconds."""

    def started(self, device_id: str, case: Case) -> None:
        """Say that a case begins."""

    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Say how a case ended."""

    def message(self, sentence: str) -> None:
        """Say something about the run."""

    def end(self) -> None:
        """Say that nothing more will come."""


def progress_for(stream: TextIO, *, quiet: bool = False) -> Progress:
    """Choose the view that suits ``stream``: live on a terminal, else plain; silent if asked."""
    if quiet:
        return Silent()
    from rich.console import Console

    from roofprobe.reporting.live_view import LiveProgress

    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(stream)


class Silent:
    """Shows nothing."""

    def begin(
        self, devices: Sequence[Device], cases: Sequence[Expected], budget_s: float | None = None
    ) -> None:
        """Show nothing."""

    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        """Show nothing."""

    def started(self, device_id: str, case: Case) -> None:
        """Show nothing."""

    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Show nothing."""

    def message(self, sentence: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class PlainProgress(View):
    """Writes some twenty lines per run for logs and pipes, each with what got better since."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream``."""
        super().__init__(clock)
        self._stream = stream
        self._better: dict[tuple[str, str], BestRow] = {}
        self._told_step = 0
        self._told_at_s = 0.0

    @harmless
    def begin(
        self, devices: Sequence[Device], cases: Sequence[Expected], budget_s: float | None = None
    ) -> None:
        """Write what will be measured."""
        self.know(devices, cases, budget_s)
        names = ", ".join(f"{self.name(d.device_id)} {clean(d.name)}" for d in devices)
        left = self.tally.left_s()
        about = f", about {numbers.clock(left)}" if left else ""
        self._write(f"{plural(self.tally.total, 'case')} on {names or 'no device'}{about}")

    @harmless
    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        """Count more cases as still to come."""
        self.tally.expect((device_id, *case) for case in cases)

    @harmless
    def started(self, device_id: str, case: Case) -> None:
        """Write nothing: lines come when cases are done."""
        self.tally.start(device_id, case)

    @harmless
    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Write a line when a twentieth of the cases, or half a minute, is over."""
        better = self.learn(device_id, measurement)
        if better is not None:
            self._better[better.devices, better.label] = better
        sentence = self.trouble(device_id, measurement)
        if sentence is not None:
            self._write(f"{self._place()} {sentence}")
        tally = self.tally
        step = tally.done * _STEPS // max(1, tally.total)
        if step > self._told_step or tally.elapsed_s() - self._told_at_s >= _SILENCE_S:
            self._told_step = max(step, self._told_step)
            self._told_at_s = tally.elapsed_s()
            news = self._news() or (None if sentence else self._ended(device_id, measurement))
            if news is not None:
                self._write(f"{self._place()} {news}")

    @harmless
    def message(self, sentence: str) -> None:
        """Write one line."""
        self._write(clean(sentence))

    @harmless
    def end(self) -> None:
        """Write how long it took, and how the cases ended."""
        ends = f": {self.ends_text()}" if self.tally.done else ""
        took = numbers.clock(self.tally.elapsed_s())
        self._write(f"{plural(self.tally.done, 'case')} done in {took}{ends}")

    def _place(self) -> str:
        left = self.tally.left_s()
        time_left = "" if left is None else f", about {numbers.clock(left)} left"
        return f"[{self.tally.done}/{self.tally.total}{time_left}]"

    def _news(self) -> str | None:
        """Return what got better since the last line."""
        told: dict[str, list[str]] = {}
        for row in self._better.values():
            told.setdefault(row.devices, []).append(row.text())
        self._better.clear()
        rows = [f"{devices}: {', '.join(rows)}" for devices, rows in told.items()]
        return "; ".join(rows) or None

    def _ended(self, device_id: str, measurement: Measurement) -> str:
        name = f"{self.name(device_id)} {case_name(measurement.case)}"
        return f"{name}: {outcome_text(measurement)}"

    def _write(self, line: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(in_encoding(line, encoding) + "\n")
        self._stream.flush()
