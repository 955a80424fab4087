"""What ``probe history`` shows: metrics, the trend of one, or what a SELECT said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.history import MetricLine, Point, Selected, Series
from roofprobe.records.noise import plus_minus
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.fleet import history_data
from roofprobe.reporting.fleet.history_data import names_of, plain
from roofprobe.reporting.plain_text import clean, in_encoding, shorten
from roofprobe.reporting.sparkline import sparkline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_TABLES: Final = 4  # devices with a table of their own; of more, one line each
MOST_LINES: Final = 40
_WORSE, _BETTER = -0.02, 0.02  # from here on a change has a colour
_OTHER_METHOD: Final = "method"


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer in each of its forms."""

    json: Callable[[], dict[str, Any]]
    csv: Callable[[], bytes]
    render: Callable[[Console], None]


def of_metrics(lines: Sequence[MetricLine]) -> Shown:
    """Show which metrics there are."""
    return Shown(
        lambda: history_data.metrics_json(lines),
        lambda: history_data.metrics_csv(lines),
        lambda console: render_metrics(lines, console),
    )


def of_series(series: Sequence[Series]) -> Shown:
    """Show trends."""
    return Shown(
        lambda: history_data.series_json(series),
        lambda: history_data.series_csv(series),
        lambda console: render_series(series, console),
    )


def of_selected(selected: Selected) -> Shown:
    """Show what a SELECT said."""
    return Shown(
        lambda: history_data.selected_json(selected),
        lambda: history_data.selected_csv(selected),
        lambda console: render_selected(selected, console),
    )


def refused_line(refused: Sequence[Refused]) -> str | None:
    """Say what of a folder of runs is not in the answer; None where everything is."""
    if not refused:
        return None
    more = f" (and {len(refused) - 1} more)" if refused[1:] else ""
    return f"left out, since it cannot be read: {clean(refused[0].sentence)}{more}"


def render_metrics(lines: Sequence[MetricLine], console: Console) -> None:
    """Print the metrics that a fleet knows."""
    table = _table(console, ("metric", "unit", "figures", "devices", "from", "to"), {2, 3})
    for line in lines:
        _row(
            table, console, clean(line.metric), clean(line.unit), f"{line.n_figures:,}",
            f"{line.n_devices:,}", _day(line.first_at), _day(line.last_at),
        )  # fmt: skip
    console.print(table)
    _line(console, 'A trend: probe history SOURCE --metric "NAME" [--gpu UUID | --host NAME]')


def render_selected(selected: Selected, console: Console) -> None:
    """Print what a SELECT said."""
    table = _table(console, tuple(clean(name) for name in names_of(selected)), set())
    for row in selected.rows:
        _row(table, console, *(_cell(value) for value in row))
    console.print(table)
    if selected.more:
        _line(console, f"only the first {len(selected.rows)} rows; --csv or --json has all", "dim")


def simulated_lines(sentences: Sequence[str]) -> tuple[str, ...]:
    """Say loudly what nobody measured."""
    return tuple(f"SIMULATED: {clean(sentence)}" for sentence in sentences)


def render_simulated(sentences: Sequence[str], console: Console) -> None:
    """Print what nobody measured, before anything else."""
    for line in simulated_lines(sentences):
        _line(console, line, "bold red")


def render_series(series: Sequence[Series], console: Console) -> None:
    """Print trends: a table each of few devices; of many, one line each, the worst first."""
    for metric, group in groupby(series, key=lambda each: each.metric):
        own = list(group)
        _line(console, f"{clean(metric)} ({clean(own[0].unit)}, {own[0].better} is better)", "bold")
        if len(own) <= MOST_TABLES:
            for each in own:
                _one(each, console)
        else:
            _many(own, console)
        console.print()
    if any(changed_method(each) for each in series):
        _line(
            console,
            "method: measured another way from here on, so it is not compared with what was before",
            "yellow",
        )


def changed_method(series: Series) -> bool:
    """Return whether the figures of a series were measured in more ways than one."""
    return len({point.method_version for point in series.points}) > 1


def _one(series: Series, console: Console) -> None:
    """Print one device: what stays the same in one line, what varies in columns."""
    points = series.points
    line = sparkline([p.value for p in points], encoding=console.encoding)
    place = f"{clean(points[-1].host)}:{series.position}"
    _line(console, f"{place} {clean(series.device_id)} {clean(series.name)}  {line}")
    varying = {
        head: tell
        for head, tell in _CONDITIONS.items()
        if len({tell(point) for point in points}) > 1
    }
    _line(
        console,
        ", ".join(
            f"{head} {tell(points[0])}" for head, tell in _CONDITIONS.items() if head not in varying
        ),
        "dim",
    )
    heads = ("date (UTC)", "value", "±", "to first", "to prev", *varying, "changed")
    table = _table(console, heads, {1, 2, 3, 4})
    table.columns[0].no_wrap = True
    first, before = 0, None
    for number, point in enumerate(points):
        other = before is not None and before.method_version != point.method_version
        if other:
            first = number
        _row(
            table, console, f"{point.started_at:%Y-%m-%d %H:%M}",
            numbers.digits(point.value), _spread(point),
            _change(series.effect(number, first)) if number > first else "",
            _change(series.effect(number, number - 1)) if number and not other else "",
            *(tell(point) for tell in varying.values()),
            ", ".join(_changes(before, point)),
        )  # fmt: skip
        before = point
    console.print(table)


def _watts(point: Point) -> str:
    return numbers.UNKNOWN if point.power_limit_w is None else f"{point.power_limit_w:.0f} W"


# What a figure was measured under, by its head; alike in all figures of a device it is told once.
_CONDITIONS: Final[dict[str, Callable[[Point], str]]] = {
    "host": lambda point: clean(point.host),
    "driver": lambda point: clean(point.driver or numbers.UNKNOWN),
    "limit": _watts,
    "torch": lambda point: clean(point.torch or numbers.UNKNOWN),
    "roofprobe": lambda point: clean(point.roofprobe),
    "method": lambda point: f"m{point.method_version}",
}


def _changes(before: Point | None, point: Point) -> Iterator[str]:
    if before is None:
        return
    for word, one, other in (
        (_OTHER_METHOD, before.method_version, point.method_version),
        ("driver", before.driver, point.driver),
        ("limit", before.power_limit_w, point.power_limit_w),
        ("torch", before.torch, point.torch),
        ("host", before.host, point.host),
    ):
        if one != other:
            yield word


def _many(series: Sequence[Series], console: Console) -> None:
    _days(series, console)
    console.print()
    ranked = sorted(series, key=lambda each: _overall(each) or 0.0)
    table = _table(console, ("device", "trend", "runs", "last", "to first", "last run"), {2, 3, 4})
    for each in ranked[:MOST_LINES]:
        _row(
            table, console, _whose(each),
            sparkline([p.value for p in each.points], width=12, encoding=console.encoding),
            str(len(each.points)), numbers.digits(each.points[-1].value),
            _change(_overall(each)), _day(each.points[-1].started_at),
        )  # fmt: skip
    console.print(table)
    if len(ranked) > MOST_LINES:
        _line(
            console,
            f"{plural(len(ranked) - MOST_LINES, 'more device')}, which changed less for the worse; "
            "--csv has all",
            "dim",
        )


def _days(series: Sequence[Series], console: Console) -> None:
    """Print what the devices reached together, day by day and method by method."""
    days: dict[tuple[date, int], list[tuple[float, Series]]] = {}
    for each in series:
        for point in each.points:
            key = point.started_at.date(), point.method_version
            days.setdefault(key, []).append((point.value, each))
    keys = sorted(days)[-MOST_LINES:]
    middles = [median(value for value, _ in days[key]) for key in keys]
    _line(
        console, f"{plural(len(series), 'device')}  {sparkline(middles, encoding=console.encoding)}"
    )
    table = _table(
        console, ("day", "figures", "median", "least", "most", "worst", "by"), {1, 2, 3, 4}
    )
    for key, middle in zip(keys, middles, strict=True):
        values = sorted(days[key], key=lambda pair: pair[0])
        worst = values[0] if series[0].better == "higher" else values[-1]
        _row(
            table, console, key[0].isoformat(), str(len(values)), numbers.digits(middle),
            numbers.digits(values[0][0]), numbers.digits(values[-1][0]), _whose(worst[1]),
            f"m{key[1]}",
        )  # fmt: skip
    console.print(table)


def _overall(series: Series) -> float | None:
    last, first = len(series.points) - 1, series.first_of_method
    return series.effect(last, first) if last > first else None


def _whose(series: Series) -> str:
    host = clean(series.points[-1].host)
    return f"{shorten(host, 28)}:{series.position} {shorten(clean(series.device_id), 20)}"


def _spread(point: Point) -> str:
    if point.ci_low is None or point.ci_high is None or not point.value or (point.n or 0) < 2:
        return numbers.UNKNOWN
    return plus_minus(abs(point.value), point.ci_low, point.ci_high, numbers.digits)


def _change(effect: float | None) -> str:
    """Write an effect: ``+`` is better, ``−`` worse, whichever direction the metric has."""
    if effect is None:
        return numbers.UNKNOWN
    return f"{effect * 100:+.1f}%".replace("-", "−")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _cell(value: Any) -> str:
    if value is None:
        return numbers.UNKNOWN
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(str(plain(value)))


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(in_encoding(text, console.encoding), style=style), soft_wrap=True)


def _row(table: Table, console: Console, *cells: str) -> None:
    texts = [Text(in_encoding(cell, console.encoding)) for cell in cells]
    for text, cell in zip(texts, cells, strict=True):
        if cell.endswith("%") and cell[:1] in "+−":
            effect = float(cell[:-1].replace("−", "-")) / 100
            text.stylize("red" if effect <= _WORSE else "green" if effect >= _BETTER else "")
    table.add_row(*texts)


def _table(console: Console, heads: Sequence[str], right: set[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True, show_edge=False,
                  padding=(0, 1, 0, 0))  # fmt: skip
    for number, head in enumerate(heads):
        text = Text(in_encoding(head, console.encoding))
        table.add_column(
            text, justify="right" if number in right else "left", overflow="fold",
            no_wrap=number in right,
        )  # fmt: skip
    return table
