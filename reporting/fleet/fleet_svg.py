"""The small figures of a fleet's page, as SVG of a few hundred bytes each.

A fleet has hundreds of them, so they are written by hand: bars are one path, colours are classes of
the page's style sheet, what is told by position is told in words by the figure's label too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from roofprobe.records.fleet.pictures import Day, Spread
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.fleet.fleet_rows import effect, name_of
from roofprobe.reporting.plain_text import clean

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _LEFT, _RIGHT = 320.0, 6.0, 314.0
_TOP, _FLOOR, _HEIGHT = 16.0, 66.0, 104.0
_STRIP_WIDTH, _STRIP_HEIGHT = 220.0, 16.0
_LEAST_SPAN: Final = 0.05  # of the middle, so that noise does not look like a trend
_MOST_TITLES: Final = 12


def histogram(spread: Spread, bounds: Sequence[float], modes: Sequence[float]) -> Markup:
    """Draw how devices lie: bars, bounds, what is beyond its bound as dots, centres as ticks."""
    from markupsafe import Markup

    scale = numbers.scale_for(spread.quantiles[3], spread.unit)
    greatest = max(spread.bins) or 1
    step = (_RIGHT - _LEFT) / len(spread.bins)
    path = "".join(
        f"M{_LEFT + number * step:.1f} {_FLOOR:g}v{-(count / greatest) * (_FLOOR - _TOP):.1f}"
        f"h{step - 1:.1f}V{_FLOOR:g}z"
        for number, count in enumerate(spread.bins)
        if count
    )
    parts = [f'<path class="bars" d="{path}"/>']
    parts.append(f'<path class="rule" d="M{_LEFT:g} {_FLOOR:g}H{_RIGHT:g}"/>')
    parts += [
        f'<path class="bound" d="M{_across(spread, bound):.1f} {_TOP:g}V{_FLOOR + 12:g}"/>'
        for bound in bounds
        if spread.low < bound < spread.high
    ]
    parts += [
        f'<path class="mode" d="M{_across(spread, mode):.1f} {_TOP - 3:g}l-4 -7h8z"/>'
        for mode in modes
    ]
    for number, mark in enumerate(spread.marks):
        told = ""
        if number < _MOST_TITLES:
            words = f"{name_of(mark.host)}:{mark.position} {scale.number(mark.value)}"
            told = str(Markup("<title>{}, {}</title>").format(words, effect(mark.effect)))
        parts.append(
            f'<circle class="beyond" cx="{_across(spread, mark.value):.1f}" cy="{_FLOOR + 7:g}" '
            f'r="3">{told}</circle>'
        )
    middle = spread.quantiles[3]
    for anchor, at, value in (
        ("start", _LEFT, spread.low), ("end", _RIGHT, spread.high),
        ("middle", _across(spread, middle), middle),
    ):  # fmt: skip
        if anchor == "middle" and not 0.2 < (at - _LEFT) / (_RIGHT - _LEFT) < 0.8:
            continue
        word = scale.number(value)
        cut = (anchor == "start" and spread.quantiles[0] < spread.low) or (
            anchor == "end" and spread.quantiles[-1] > spread.high
        )
        word = f"≤ {word}" if cut and anchor == "start" else f"≥ {word}" if cut else word
        parts.append(
            f'<text class="tick" text-anchor="{anchor}" x="{at:.1f}" y="{_HEIGHT - 8:g}">'
            f"{word}</text>"
        )
    return _svg(_WIDTH, _HEIGHT, spread_words(spread), "".join(parts))


def strip(spread: Spread) -> Markup:
    """Draw quantiles: a line over all, a box over the middle half, a tick at the median."""
    least, _, quarter, middle, three, _, most = (_across(spread, q) for q in spread.quantiles)
    shift, factor = _LEFT, (_STRIP_WIDTH - 8) / (_RIGHT - _LEFT)

    def x(at: float) -> float:
        return 4 + (at - shift) * factor

    body = (
        f'<path class="rule" d="M{x(least):.1f} 8H{x(most):.1f}"/>'
        f'<path class="bars" d="M{x(quarter):.1f} 3H{max(x(three), x(quarter) + 1):.1f}V13'
        f'H{x(quarter):.1f}z"/><path class="middle" d="M{x(middle):.1f} 1V15"/>'
    )
    body += "".join(
        f'<circle class="beyond" cx="{x(_across(spread, mark.value)):.1f}" cy="8" r="2.5"/>'
        for mark in spread.marks[:_MOST_TITLES]
    )
    return _svg(_STRIP_WIDTH, _STRIP_HEIGHT, spread_words(spread), body)


def spread_words(spread: Spread) -> str:
    """Say what a histogram shows."""
    scale = numbers.scale_for(spread.quantiles[3], spread.unit)
    least, _, quarter, middle, three, _, most = map(scale.number, spread.quantiles)
    beyond = f"; {spread.n_beyond} beyond the bound" if spread.n_beyond else ""
    return (
        f"{clean(spread.metric)}: {plural(spread.n, 'device')}, {least} to {most} {scale.unit}, "
        f"median {middle}, half of them {quarter} to {three}{beyond}"
    )


def trend(title: str, lines: Sequence[tuple[str, Sequence[Day]]], unit: str) -> Markup:
    """Draw medians by day, a line each; a new driver is a dashed rule, a new method breaks it."""
    from markupsafe import Markup

    days = [day for _, line in lines for day in line]
    first, last = min(day.day for day in days), max(day.day for day in days)
    values = [day.value for day in days]
    middle = (min(values) + max(values)) / 2
    span = max(max(values) - min(values), abs(middle) * _LEAST_SPAN) or 1.0
    scale = numbers.scale_for(middle, unit)
    length = (last - first).days or 1
    left, right = _LEFT + 44, _RIGHT - 6

    def place(day: Day) -> tuple[float, float]:
        share = (day.day - first).days / length
        height = (day.value - middle + span / 2) / span
        return left + share * (right - left), _FLOOR + 8 - height * (_FLOOR + 8 - _TOP)

    parts = [f'<path class="rule" d="M{left:g} {_FLOOR + 14:g}H{right + 4:g}"/>']
    for number, (name, line) in enumerate(lines):
        path, before = [], None
        for day in line:
            x, y = place(day)
            joined = before is not None and before.method_version == day.method_version
            path.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}")
            if number == 0 and before is not None and before.driver != day.driver:
                word = clean(day.driver or "none")[:16]
                parts.append(f'<path class="bound" d="M{x:.1f} {_TOP - 4:g}V{_FLOOR + 14:g}"/>')
                parts.append(
                    str(
                        Markup(
                            '<text class="tick" text-anchor="end" x="{}" y="{}">driver {}</text>'
                        ).format(f"{x - 3:.1f}", f"{_TOP - 4:g}", word)
                    )
                )
            before = day
        parts.append(f'<path class="line line-{number}" d="{"".join(path)}"/>')
        parts += [
            str(
                Markup(
                    '<circle class="dot dot-{}" cx="{}" cy="{}" r="3">'
                    "<title>{}: {} {}, {}</title></circle>"
                ).format(
                    number, f"{place(day)[0]:.1f}", f"{place(day)[1]:.1f}", day.day.isoformat(),
                    scale.number(day.value), scale.unit, name,
                )
            )
            for day in line
        ]  # fmt: skip
    for y, value in ((_TOP + 4, middle + span / 2), (_FLOOR + 10, middle - span / 2)):
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 8:g}" y="{y:g}">'
            f"{scale.number(value)}</text>"
        )
    ends = (("start", left, first), ("end", right + 4, last))
    parts += [
        f'<text class="tick" text-anchor="{anchor}" x="{x:g}" y="{_HEIGHT - 8:g}">{day}</text>'
        for anchor, x, day in (ends if first != last else ends[:1])
    ]
    told = "; ".join(
        f"{name} from {scale.number(line[0].value)} to {scale.number(line[-1].value)} {scale.unit}"
        for name, line in lines
    )
    return _svg(_WIDTH, _HEIGHT, f"{title}, {first} to {last}: {told}", "".join(parts))


def _across(spread: Spread, value: float) -> float:
    width = spread.high - spread.low
    share = 0.5 if width <= 0 else (value - spread.low) / width
    return _LEFT + max(0.0, min(1.0, share)) * (_RIGHT - _LEFT)


def _svg(width: float, height: float, label: str, body: str) -> Markup:
    from markupsafe import Markup

    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        f"{width:g}", f"{height:g}", label, Markup(body)
    )
