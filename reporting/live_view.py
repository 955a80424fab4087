"""The live view of a run on a terminal: how far it is, a line per device, the best so far.

It is redrawn twice a second by a thread of its own, not with every case, so that it costs the
host that is being measured next to nothing. It never takes more rows than the terminal has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roofprobe.records.schema import Case, Device, Measurement
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import case_name
from roofprobe.reporting.page import cell_width
from roofprobe.reporting.plain_text import clean, in_encoding
from roofprobe.reporting.progress_state import BestRow, Expected, conditions
from roofprobe.reporting.progress_view import View, harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable
    from rich.live import Live
    from rich.text import Text

_REDRAWS_PER_SECOND = 2
_BAR_WIDTH = 24
_SLOW_S = 3.0  # a case that takes longer tells for how long it has been going on
_GAP = "  "
_BETWEEN = " " * 4
_DERIVED_MARK = "*"


class LiveProgress(View):
    """Shows on a terminal what is being measured, how far it is, and the best so far."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on ``console``, which should be a terminal."""
        super().__init__(clock)
        self._console = console
        # on a closed pipe rich would end the process
        console.on_broken_pipe = self._pipe_closed  # type: ignore[method-assign]
        self._live: Live | None = None
        # the redrawing thread reads these without the lock, whose holder may wait for that thread
        self._current: dict[str, str] = {}
        self._conditions: dict[str, tuple[str, ...]] = {}
        self._best: tuple[BestRow, ...] = ()
        self._processors: set[str] = set()
        self.pictured = ""  # the last picture, as plain text

    @harmless
    def begin(
        self, devices: Sequence[Device], cases: Sequence[Expected], budget_s: float | None = None
    ) -> None:
        """Open the view."""
        self.know(devices, cases, budget_s)
        self._processors = {d.device_id for d in devices if d.backend == "cpu"}
        self._live = _live(self)
        self._live.start()

    @harmless
    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        """Count more cases as still to come."""
        self.tally.expect((device_id, *case) for case in cases)

    @harmless
    def started(self, device_id: str, case: Case) -> None:
        """Show the case as the one being measured."""
        self.tally.start(device_id, case)
        self._current[device_id] = case_name(case)

    @harmless
    def finished(self, device_id: str, measurement: Measurement) -> None:
        """Count the case, and show its result if it is the best of its kind."""
        if self.learn(device_id, measurement) is not None:
            self._best = tuple(self.scores.rows())
        self._current.pop(device_id, None)
        told = conditions(measurement, reported_clock=device_id not in self._processors)
        if told:
            self._conditions[device_id] = told
        sentence = self.trouble(device_id, measurement)
        if sentence is not None:
            self._say(sentence)

    @harmless
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

    def _say(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(in_encoding(line, self._console.encoding)), highlight=False)

    def picture(self) -> Text:
        """Return the view as it should look now, no larger than the terminal."""
        from rich.text import Text

        width, height = self._console.size
        lines = [self._head(width)]
        devices = [d for d in self.devices if self.tally.waiting(d) or d in self._conditions]
        lines += self._device_lines(devices, width)
        lines += _best_lines(self._best, width, height - 2 - len(lines))
        picture = Text("\n").join(self._fitted(line, width) for line in lines[: height - 1])
        self.pictured = picture.plain
        return picture

    def _fitted(self, line: Text, width: int) -> Text:
        """Return the line in signs of the console's encoding, cut to the terminal's width."""
        plain = in_encoding(line.plain, self._console.encoding)
        if plain != line.plain:
            line = line.copy()
            line.plain = plain
        ellipsis = in_encoding("…", self._console.encoding) == "…"
        line.rstrip()
        line.truncate(width - 1, overflow="ellipsis" if ellipsis else "crop")
        return line

    def _head(self, width: int) -> Text:
        from rich.text import Text

        tally, left = self.tally, self.tally.left_s()
        told = [f"{tally.done}/{tally.total}", numbers.clock(tally.elapsed_s())]
        told += [] if left is None else [f"about {numbers.clock(left)} left"]
        words = _GAP.join(told)
        full, empty = ("━", "─") if in_encoding("━", self._console.encoding) == "━" else ("#", ".")
        cells = min(_BAR_WIDTH, width - len(words) - 4)
        if cells < 4:
            return Text(words)
        over = round(cells * tally.part())
        return Text.assemble((full * over, "green"), (empty * (cells - over), "dim"), _GAP, words)

    def _device_lines(self, devices: Sequence[str], width: int) -> list[Text]:
        from rich.text import Text

        names = {device: self.name(device) for device in devices}
        name_width = max(map(cell_width, names.values()), default=0)
        told = {device: self._conditions.get(device, ()) for device in devices}
        columns = _columns([told[device][:3] for device in devices])
        lines = []
        for device in devices:
            name = names[device] + " " * (name_width - cell_width(names[device]))
            known = _GAP.join(
                cell.rjust(size)
                for cell, size in zip((*told[device], "", "", "")[:3], columns, strict=False)
            )
            more = _GAP.join(told[device][3:])
            doing = self._doing(device)
            if len(devices) == 1:
                lines.append(Text.assemble((name, "bold"), _GAP, doing))
                known = _GAP.join(told[device])
                if known:
                    lines.append(Text(f"{' ' * name_width}{_GAP}{known}", style="dim"))
            else:
                parts = [part for part in (known, more, doing) if part]
                lines.append(Text.assemble((name, "bold"), _GAP, _GAP.join(parts)))
        return lines

    def _doing(self, device: str) -> str:
        what = self._current.get(device)
        if what is None:
            waiting = self.tally.waiting(device)
            return f"waiting, {waiting} to go" if waiting else "done"
        seconds = self.tally.running_s(device)
        return f"{what}{_GAP}{seconds:.0f} s" if seconds >= _SLOW_S else what


def _columns(rows: Sequence[Sequence[str]]) -> list[int]:
    count = max(map(len, rows), default=0)
    return [max(cell_width(row[i]) for row in rows if i < len(row)) for i in range(count)]


def _best_lines(rows: Sequence[BestRow], width: int, most: int) -> list[Text]:
    """Return the best so far in at most ``most`` lines, in as few columns as that takes."""
    from rich.text import Text

    if not rows:
        return []
    names = tuple(dict.fromkeys(row.devices for row in rows))
    groups = [[row for row in rows if row.devices == name] for name in names]
    cells = [_best_cells(group) for group in groups]
    widest = max((len(cell) for group in cells for cell in group), default=1)
    columns = max(1, (width - 1 + len(_BETWEEN)) // (widest + len(_BETWEEN)))
    for fewer in range(1, columns + 1):
        if sum(1 + math.ceil(len(group) / fewer) for group in cells) <= most:
            columns, room = fewer, len(rows)
            break
    else:
        room = max(1, most // len(groups) - 1) * columns
    lines: list[Text] = []
    for name, group, own in zip(names, groups, cells, strict=True):
        title = f"{name}: best so far{_of_what(group)}"
        if len(own) > room:
            title += f", {len(own) - room} more"
            own = [own[place] for place in _foremost(group, room)]
        lines.append(Text(title, style="dim"))
        down = math.ceil(len(own) / columns)
        lines += [Text(_BETWEEN).join(own[line::down]) for line in range(down)]
    return lines[: max(0, most)]


def _foremost(rows: Sequence[BestRow], most: int) -> list[int]:
    """Return which rows to keep, in their order: plain precisions before their variants."""
    plain_first = sorted(range(len(rows)), key=lambda place: "-" in rows[place].label)
    return sorted(plain_first[:most])


def _of_what(rows: Sequence[BestRow]) -> str:
    kinds = _kinds_of_peak(rows)
    if len(kinds) > 1:
        return f", % of datasheet ({_DERIVED_MARK} derived)"
    if not kinds:
        return ""
    return ", % of derived peak" if True in kinds else ", % of datasheet"


def _kinds_of_peak(rows: Sequence[BestRow]) -> set[bool]:
    return {row.derived for row in rows if row.share != numbers.UNKNOWN}


def _best_cells(rows: Sequence[BestRow]) -> list[Text]:
    from rich.text import Text

    kinds = _kinds_of_peak(rows)
    marks = {False: " ", True: _DERIVED_MARK} if len(kinds) > 1 else {False: "", True: ""}
    cells = [(row.label, row.rate, row.share + marks[row.derived] if kinds else "") for row in rows]
    label, rate, share = (max(map(cell_width, column)) for column in zip(*cells, strict=True))
    return [
        Text.assemble(
            cell[0] + " " * (label - cell_width(cell[0])), _GAP,
            (" " * (rate - cell_width(cell[1])) + cell[1], "bold"), _GAP,
            (" " * (share - cell_width(cell[2])) + cell[2], "green"),
        )
        for cell in cells
    ]  # fmt: skip


def _rows_taken(picture: str, width: int) -> int:
    """Return how many rows a picture takes in a terminal that may have been narrowed since."""
    return sum(max(1, math.ceil(cell_width(line) / width)) for line in picture.split("\n"))


def _live(view: LiveProgress) -> Live:
    """Make the live display; what fails in its own thread mutes the view like anything else."""
    from rich.live import Live

    shown: list[str] = []  # the picture that is on the screen

    class HarmlessLive(Live):
        def refresh(self) -> None:
            if view.mute:
                return
            try:
                super().refresh()
            except Exception:  # as in harmless
                view.mute = True

        def process_renderables(
            self, renderables: list[ConsoleRenderable]
        ) -> list[ConsoleRenderable]:
            drawn = self._live_render._shape
            if drawn is not None and shown:
                self._live_render._shape = (drawn[0], _rows_taken(shown[-1], self.console.width))
            shown[:] = [view.pictured]
            return super().process_renderables(renderables)

    return HarmlessLive(
        get_renderable=view.picture,
        console=view._console,
        refresh_per_second=_REDRAWS_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
