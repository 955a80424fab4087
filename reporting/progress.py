"""What is shown while a run is going on: on a terminal a live view, elsewhere plain lines.

Showing progress must never harm what it shows. A closed pipe, a narrow terminal or a fault in here
silences the view and the run goes on. Calls may come from several threads, one per device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TextIO, TypeVar

from roofprobe.records.schema import Case, Device, Measurement
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import case_name, short_address
from roofprobe.reporting.plain_text import clean, in_encoding

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_PRIOR = 0.1  # how much of the expected time counts as if it had already gone as expected


class Progress(Protocol):
    """Told by the runner what happens; it shows that and never raises."""

    def begin(self, devices: Sequence[Device], total_cases: int, expected_s: float) -> None:
        """Say what will be measured and how long that should take."""

    def planned(self, cases: int, expected_s: float) -> None:
        """Say that more cases follow from what was measured."""

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

    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(stream)


class Silent:
    """Shows nothing."""

    def begin(self, devices: Sequence[Device], total_cases: int, expected_s: float) -> None:
        """Show nothing."""

    def planned(self, cases: int, expected_s: float) -> None:
        """Show nothing."""

    def started(self, device_id: str, case: Case) -> None:
        """Show nothing."""

    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Show nothing."""

    def message(self, sentence: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class Tally:
    """Counts cases and estimates the time left.

    The expected time is scaled by how the finished cases took, and a tenth of it counts as gone as
    expected, so that the first cases alone do not throw the estimate about.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read the time, in seconds, from ``clock``."""
        self._clock = clock
        self._begun = self._counted = clock()
        self._expected_s = 0.0
        self.total = 0
        self.done = 0

    def begin(self, total: int, expected_s: float) -> None:
        """Start the clock."""
        self._begun = self._counted = self._clock()
        self.total, self.done, self._expected_s = total, 0, max(0.0, expected_s)

    def expect(self, cases: int, expected_s: float) -> None:
        """Add cases that were not known at the start."""
        self.total += cases
        self._expected_s += max(0.0, expected_s)

    def count(self) -> None:
        """Count one more case as done."""
        self.done += 1
        self._counted = self._clock()

    def elapsed_s(self) -> float:
        """Return the time since the run began."""
        return self._clock() - self._begun

    def left_s(self) -> float | None:
        """Return the time that is left, ``None`` while there is no telling."""
        if self.done >= self.total:
            return 0.0
        part = self.done / self.total
        took = self._counted - self._begun
        if self._expected_s > 0:
            prior = _PRIOR * self._expected_s
            left = self._expected_s * (1 - part) * (took + prior)
            left /= self._expected_s * part + prior
        elif part:
            left = took * (1 - part) / part
        else:
            return None
        return max(0.0, left - (self._clock() - self._counted))


_P = ParamSpec("_P")
_Shown = TypeVar("_Shown", bound="_View")


def _harmless(
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


class _View:
    """What live and plain views share: the tally, the devices' short names, the mute switch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.mute = False
        self.tally = Tally(clock)
        self._names: dict[str, str] = {}

    def know(self, devices: Sequence[Device]) -> None:
        self._names = {device.device_id: short_address(device) for device in devices}

    def name(self, device_id: str) -> str:
        return self._names.get(device_id, clean(device_id))


class PlainProgress(_View):
    """Writes one line per finished case, for logs and pipes."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream``."""
        super().__init__(clock)
        self._stream = stream

    @_harmless
    def begin(self, devices: Sequence[Device], total_cases: int, expected_s: float) -> None:
        """Write what will be measured."""
        self.know(devices)
        self.tally.begin(total_cases, expected_s)
        names = ", ".join(f"{self.name(d.device_id)} {clean(d.name)}" for d in devices)
        about = f", about {numbers.clock(expected_s)}" if expected_s > 0 else ""
        self._write(f"{total_cases} cases on {names or 'no device'}{about}")

    @_harmless
    def planned(self, cases: int, expected_s: float) -> None:
        """Count more cases as still to come."""
        self.tally.expect(cases, expected_s)

    @_harmless
    def started(self, device_id: str, case: Case) -> None:
        """Write nothing: a line comes when the case is done."""

    @_harmless
    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Write one line with the result or the reason."""
        self.tally.count()
        left = self.tally.left_s()
        time_left = "" if left is None else f" {numbers.clock(left)} left"
        width = len(str(self.tally.total))
        place = f"[{self.tally.done:>{width}}/{self.tally.total}{time_left}]"
        name = f"{self.name(device_id):<6}"
        what = case_name(measurement.case)
        self._write(f"{place} {name} {what}  {_outcome(measurement)}")

    @_harmless
    def message(self, sentence: str) -> None:
        """Write one line."""
        self._write(clean(sentence))

    @_harmless
    def end(self) -> None:
        """Write how long it took."""
        self._write(f"{self.tally.done} cases done in {numbers.clock(self.tally.elapsed_s())}")

    def _write(self, line: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(in_encoding(line, encoding) + "\n")
        self._stream.flush()


class LiveProgress(_View):
    """Shows on a terminal what is being measured, how far it is, and the best so far."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on ``console``, which should be a terminal."""
        super().__init__(clock)
        self._console = console
        # on a closed pipe rich would end the process
        console.on_broken_pipe = self._pipe_closed  # type: ignore[method-assign]
        self._live: Live | None = None
        self._current: dict[str, str] = {}
        self._best: dict[tuple[str, str], tuple[float, str]] = {}
        # what the redrawing thread reads; it must not wait for the lock, whose holder may wait
        # for that thread
        self._current_rows: tuple[tuple[str, str], ...] = ()
        self._best_rows: tuple[tuple[str, str, str], ...] = ()

    @_harmless
    def begin(self, devices: Sequence[Device], total_cases: int, expected_s: float) -> None:
        """Open the view."""
        self.know(devices)
        self.tally.begin(total_cases, expected_s)
        self._live = _live(self)
        self._live.start()

    @_harmless
    def planned(self, cases: int, expected_s: float) -> None:
        """Count more cases as still to come."""
        self.tally.expect(cases, expected_s)

    @_harmless
    def started(self, device_id: str, case: Case) -> None:
        """Show the case as the one being measured."""
        self._current[device_id] = case_name(case)
        self._refresh()

    @_harmless
    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Count the case, and show its result if it is the best of its kind."""
        self.tally.count()
        self._current.pop(device_id, None)
        if measurement.status == "ok" and measurement.rate:
            self._keep_best(device_id, measurement.case, measurement)
        elif measurement.status in ("failed", "invalid"):
            what = case_name(measurement.case)
            self._say(f"{self.name(device_id)} {what}: {_outcome(measurement)}")
        self._refresh()

    @_harmless
    def message(self, sentence: str) -> None:
        """Write a line above the view."""
        self._say(clean(sentence))

    def end(self) -> None:
        """Close the view, even a mute one, and leave nothing of it on the screen."""
        with self.lock:
            live, self._live = self._live, None
            try:
                if live is not None:
                    live.stop()
            except Exception:  # whatever goes wrong with showing, measuring goes on
                self.mute = True

    def _pipe_closed(self) -> None:
        self.mute = self._console.quiet = True

    def _keep_best(self, device_id: str, case: Case, measurement: Measurement) -> None:
        assert measurement.rate is not None
        kind = case.precision if case.family == "compute" else case.op
        key = (device_id, clean(kind))
        rate = measurement.rate
        if rate.median > self._best.get(key, (-1.0, ""))[0]:
            self._best[key] = (rate.median, clean(numbers.rate(rate.median, rate.unit)))

    def _refresh(self) -> None:
        self._current_rows = tuple((self.name(d), what) for d, what in self._current.items())
        self._best_rows = tuple(
            (self.name(device_id), kind, rate)
            for (device_id, kind), (_, rate) in self._best.items()
        )
        if self._live is not None:
            self._live.refresh()

    def _say(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(in_encoding(line, self._console.encoding)), highlight=False)

    def picture(self) -> RenderableType:
        """Return the view as it should look now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally, left = self.tally, self.tally.left_s()
        told = f"{tally.done}/{tally.total}  {numbers.clock(tally.elapsed_s())}"
        told += "" if left is None else f"  about {numbers.clock(left)} left"
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, tally.total), completed=tally.done, width=24)
        head.add_row(bar, Text(told))
        lines = [
            Text(f"{name}  {what}", no_wrap=True, overflow="ellipsis")
            for name, what in self._current_rows
        ]
        best = Table.grid(padding=(0, 2))
        for name, kind, rate in self._best_rows:
            best.add_row(Text(name, style="dim"), Text(kind), Text(rate, justify="right"))
        return Group(head, *lines, best)


def _live(view: LiveProgress) -> Live:
    """Make the live display; what fails in its own thread mutes the view like anything else."""
    from rich.live import Live

    class HarmlessLive(Live):
        def refresh(self) -> None:
            if view.mute:
                return
            try:
                super().refresh()
            except Exception:  # as in _harmless
                view.mute = True

    return HarmlessLive(
        get_renderable=view.picture,
        console=view._console,
        refresh_per_second=2,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _outcome(measurement: Measurement) -> str:
    if measurement.status == "ok":
        if measurement.rate is None:
            return "ok"
        return clean(numbers.rate(measurement.rate.median, measurement.rate.unit))
    if measurement.reason is None:
        return measurement.status
    return f"{measurement.status}: {clean(measurement.reason.sentence)}"
