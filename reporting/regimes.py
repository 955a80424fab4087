"""Burst against settled: what a row keeps when it goes on for seconds, and whether the clock tells.

A burst ends before power and heat have their say; settled work has heard it. Where the rate falls
as the clock does, the loss is the clock's and a matter of power and cooling; where it falls further
or the clock stays, something else changed: memory that runs hotter, a cache that is shared, noise.
Where others were at work during either, the loss may be theirs, and nothing is told of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Headline, Measurement, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.dot_rows import Dot, DotRow, dot_figure
from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.naming import shape_text
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.tables import headlines_of, measurements_of

_KEPT = 0.98  # within 2 % little was lost
_ALL = 0.995  # written as 100 %


@dataclass(frozen=True, slots=True)
class Pair:
    """A row's burst and its settled work; ratios are settled over burst, None where not known.

    ``disturbed``: others were at work during one of both.
    """

    label: str
    burst: str
    settled: str
    rate: float
    clock: float | None
    clocks: str
    powers: str
    shapes: str
    energy: str
    disturbed: bool


def pairs_of(run: Run, device_id: str) -> tuple[Pair, ...]:
    """Return every row that was measured in both regimes, in the order of the result."""
    measured = {m.case.case_id: m for m in measurements_of(run, device_id)}
    return tuple(
        _pair(headline, measured)
        for family in ("compute", "memory")
        for headline in headlines_of(run, device_id, family)
        if headline.regime == "burst" and headline.settled and headline.rate.median > 0
    )


def _pair(headline: Headline, measured: dict[str, Measurement]) -> Pair:
    assert headline.settled is not None, headline.label
    burst = measured.get(headline.case_id)
    settled = measured.get(headline.settled_case_id or "")
    clocks = [clock_mhz_of(m)[0] if m else None for m in (burst, settled)]
    powers = [_power(m) for m in (burst, settled)]
    shapes = dict.fromkeys(shape_text(m.case) for m in (burst, settled) if m)
    unit = headline.rate.unit
    return Pair(
        label=clean(headline.label),
        burst=clean(numbers.rate(headline.rate.median, unit)),
        settled=clean(numbers.rate(headline.settled.median, unit)),
        rate=headline.settled.median / headline.rate.median,
        clock=_ratio(clocks),
        clocks=_from_to(clocks, "MHz"),
        powers=_from_to(powers, "W"),
        shapes=" → ".join(shape for shape in shapes if shape)
        if len(shapes) > 1
        else numbers.UNKNOWN,
        energy=numbers.energy(headline.energy_j_per_tflop),
        disturbed=any(is_disturbed(m) for m in (burst, settled) if m),
    )


def _power(m: Measurement | None) -> float | None:
    return m.telemetry.power_w.median if m and m.telemetry and m.telemetry.power_w else None


def _ratio(ends: Sequence[float | None]) -> float | None:
    first, last = ends
    return last / first if first and last else None


def _from_to(ends: Sequence[float | None], unit: str) -> str:
    known = [numbers.UNKNOWN if value is None else f"{value:.0f}" for value in ends]
    return f"{' → '.join(known)} {unit}" if any(ends) else numbers.UNKNOWN


def regimes(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return burst against settled; None where no row was measured in both."""
    pairs = pairs_of(run, device_id)
    if not pairs:
        return None
    names = ["rate", *(["clock"] if any(pair.clock for pair in pairs) else [])]
    words = "; ".join(
        f"{pair.label}: {pair.burst} burst, {pair.settled} settled, "
        f"{numbers.share(pair.rate)} of it"
        + (f", clock {numbers.share(pair.clock)}" if pair.clock else "")
        for pair in pairs
    )
    drawing = Drawing(
        draw=lambda: dot_figure(
            [_row(pair) for pair in pairs], names, "settled, share of the burst"
        ),
        title="What is kept after seconds",
        label=f"Dot chart. {words}.",
        sentence=_sentence(pairs),
    )
    return Exhibit(
        "Burst against settled",
        _intro(pairs),
        (drawing,),
        (_table(pairs),),
    )


def _intro(pairs: Sequence[Pair]) -> str:
    told = "A burst shows what the silicon can do, settled work what power and cooling let it do"
    disturbed = sum(pair.disturbed for pair in pairs)
    if not disturbed:
        return f"{told}."
    which = "every row" if disturbed == len(pairs) else f"{disturbed} of {len(pairs)} rows"
    return f"{told}, on an idle host. Here others were at work during {which}."


def _row(pair: Pair) -> DotRow:
    dots = {"rate": Dot(pair.rate, f"{pair.label}: {pair.burst} burst, {pair.settled} settled")}
    if pair.clock:
        dots["clock"] = Dot(pair.clock, f"{pair.label}: clock {pair.clocks}")
    return DotRow(pair.label, f"{pair.burst} → {pair.settled}", dots)


def _sentence(found: Sequence[Pair]) -> str:
    pairs = [pair for pair in found if not pair.disturbed]
    if not pairs:
        return (
            "Others were at work during every row, so what settled work loses may be their doing; "
            "repeat on an idle host."
        )
    told = _of_undisturbed(pairs)
    left_out = [pair.label for pair in found if pair.disturbed]
    if not left_out:
        return told
    return f"{told} Left out, since others were at work: {', '.join(left_out)}."


def _of_undisturbed(pairs: Sequence[Pair]) -> str:
    worst = min(pairs, key=lambda pair: pair.rate)
    if worst.rate >= _ALL:
        return "No row loses anything when it goes on for seconds."
    if worst.rate > _KEPT:
        return (
            "No row loses more than 2% when it goes on for seconds; "
            f"{worst.label} keeps least ({numbers.share(worst.rate)})."
        )
    told = f"{worst.label} loses most: settled it keeps {numbers.share(worst.rate)} of its burst"
    if worst.clock is None:
        return f"{told}; its clock is not known."
    told += f", and {numbers.share(worst.clock)} of its clock"
    if worst.clock - worst.rate > 1 - _KEPT:
        return f"{told}: the clock alone does not explain it."
    return f"{told}: the loss is the clock's."


def _table(pairs: Sequence[Pair]) -> SmallTable:
    columns = (
        ("row", [pair.label for pair in pairs]),
        ("burst", [pair.burst for pair in pairs]),
        ("settled", [pair.settled for pair in pairs]),
        ("kept", [numbers.share(pair.rate) for pair in pairs]),
        ("clock", [pair.clocks for pair in pairs]),
        ("power", [pair.powers for pair in pairs]),
        ("J per T", [pair.energy for pair in pairs]),
        ("shapes", [pair.shapes for pair in pairs]),
    )
    shown = [(head, cells) for head, cells in columns if {*cells} != {numbers.UNKNOWN}]
    return SmallTable(
        "Both regimes",
        "From burst to settled; the shapes are told where they differ.",
        tuple(head for head, _ in shown),
        tuple(zip(*(cells for _, cells in shown), strict=True)),
    )
