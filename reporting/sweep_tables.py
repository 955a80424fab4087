"""The same product of other data, in other layouts, of odd sizes: what each gains or loses.

Everything here compares like with like: each sweep brings its own plain member (uniform data, the
TN layout, an n divisible by 128), which was measured right beside the others and in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Measurement, Role, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.compute_tables import grouped, rate_of, rate_text, rows_of
from roofprobe.reporting.marks import marked
from roofprobe.reporting.naming import shape_text
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import clock_text


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One data pattern beside uniform random data of the same shape, route and regime.

    Ratios are to the uniform data's; the uniform row has none. ``disturbed``: others were at work
    while it was measured.
    """

    label: str
    pattern: str
    regime: str
    shape: str
    rate: str
    gain: str
    clock: str
    power: str
    ratio: float | None = None
    clock_ratio: float | None = None
    power_ratio: float | None = None
    disturbed: bool = False

    def conditions(self) -> str:
        """Clock and power in a few words, as far as they are known."""
        known = (self.clock.removesuffix(" counted"), self.power)
        return ", ".join(text for text in known if text != numbers.UNKNOWN)


@dataclass(frozen=True, slots=True)
class PatternTable:
    """Rows × data patterns: uniform data's rate, then each pattern's gain, clock and power.

    ``heads`` are the patterns; a line is its uniform row and one row per head, or None for a
    pattern that was not measured there.
    """

    heads: tuple[str, ...]
    lines: tuple[tuple[PatternRow, tuple[PatternRow | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One layout or one misaligned shape beside the best of its sweep."""

    label: str
    route: str
    what: str
    rate: str
    gain: str


def pattern_rows(run: Run, device_id: str) -> tuple[PatternRow, ...]:
    """Hold each data pattern against uniform data of the same row, shape, route and regime."""
    rows = []
    for label, members in rows_of(run, device_id).items():
        done = [m for m in members if m.status == "ok" and rate_of(m) > 0]
        groups = grouped([m for m in done if m.case.role == "pattern"], _conditions)
        for found in groups.values():
            uniform = max(
                (m for m in found if m.case.pattern == "uniform"), key=rate_of, default=None
            )
            others = [m for m in found if m.case.pattern != "uniform"]
            if others and uniform is not None:
                rows += [_pattern_row(label, m, uniform) for m in (uniform, *others)]
    return tuple(rows)


def _conditions(m: Measurement) -> tuple[str | None, ...]:
    """All of a product but its data."""
    case = m.case
    return shape_text(case), case.route, case.regime, case.layout, case.config


def pattern_table(rows: Sequence[PatternRow]) -> PatternTable:
    """Return ``pattern_rows`` as rows × patterns."""
    heads = tuple(dict.fromkeys(row.pattern for row in rows if row.gain != numbers.UNKNOWN))
    lines: list[tuple[PatternRow, dict[str, PatternRow]]] = []
    for row in rows:
        if row.gain == numbers.UNKNOWN:
            lines.append((row, {}))
        else:
            lines[-1][1][row.pattern] = row
    return PatternTable(
        heads, tuple((uniform, tuple(map(cells.get, heads))) for uniform, cells in lines)
    )


def _pattern_row(label: str, m: Measurement, uniform: Measurement) -> PatternRow:
    clock, counted = clock_mhz_of(m)
    power = _power_w(m)
    return PatternRow(
        label=clean(label),
        pattern=clean(m.case.pattern),
        regime=m.case.regime,
        shape=shape_text(m.case),
        rate=rate_text(m),
        gain=numbers.UNKNOWN
        if m is uniform
        else marked(numbers.gain(rate_of(m) / rate_of(uniform)), m, uniform),
        clock=clock_text(clock, counted=counted),
        power=f"{power:.0f} W" if power else numbers.UNKNOWN,
        ratio=None if m is uniform else rate_of(m) / rate_of(uniform),
        clock_ratio=None if m is uniform else _over(clock, clock_mhz_of(uniform)[0]),
        power_ratio=None if m is uniform else _over(power, _power_w(uniform)),
        disturbed=is_disturbed(m),
    )


def _power_w(m: Measurement) -> float | None:
    return m.telemetry.power_w.median if m.telemetry and m.telemetry.power_w else None


def _over(value: float | None, plain: float | None) -> float | None:
    return value / plain if value and plain else None


def sweep_rows(run: Run, device_id: str, role: Role) -> tuple[SweepRow, ...]:
    """Return a sweep over layouts (``layout``) or alignments (``alignment``), row by row.

    Gains are against the best of the sweep.
    """
    rows = []
    for label, members in rows_of(run, device_id).items():
        done = [m for m in members if m.status == "ok" and rate_of(m) > 0]
        sweep = [m for m in done if m.case.role == role]
        for route, found in grouped(sweep, lambda m: m.case.route).items():
            best = max(map(rate_of, found))
            rows += [
                SweepRow(
                    label=clean(label),
                    route=clean(route),
                    what=clean(f"{m.case.layout or ''} {shape_text(m.case)}{_divisor(m)}"),
                    rate=rate_text(m),
                    gain=marked(numbers.gain(rate_of(m) / best), m),
                )
                for m in found
            ]
    return tuple(rows)


def _divisor(m: Measurement) -> str:
    """Tell the power of two up to 128 that an odd n is divisible by."""
    n = m.case.shape.get("n")
    if m.case.role != "alignment" or not n:
        return ""
    return f", n ÷ {min(128, n & -n)}"
