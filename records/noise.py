"""How well a figure is known: half of its median's interval, of the figure that is shown.

A rate is an amount over a time, so its interval is not as wide as the time's: the ends turn into
their reciprocals. A time that is 1 with an interval from 0.9 to 1.4 is known to ±25 %, its rate
(1, from 0.71 to 1.11) to ±20 %. Tables show rates, so whatever is said of a measurement is of its
rate; of what has none, of the time per load, and else of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roofprobe.records.schema import Distribution, Measurement, Note

NOISY: Final = "noisy"  # the code of the note that samples scatter
HALFWIDTH: Final = "relative_ci_halfwidth"  # the figure of that note
NOISY_HALFWIDTH: Final = 0.02
_PERCENT_AT_MOST: Final = 100.0  # a wider half of an interval says nothing as ±


def shown(m: Measurement) -> Distribution | None:
    """Return the distribution that stands for a measurement: rate, time per load, or time."""
    return m.rate or m.access_ns or m.latency


def relative_halfwidth(figure: Distribution) -> float:
    """Return half of the interval over the median; 0 where the median is 0."""
    return (figure.ci_high - figure.ci_low) / 2 / figure.median if figure.median else 0.0


def plus_minus(
    median: float, low: float, high: float, number: Callable[[float], str] = "{:.3g}".format
) -> str:
    """Write how well a median is known: ``±0.5%``, ``±12%``, or ``<0.1%``.

    Where half of the interval is more than the median itself, ``±`` would reach below zero on one
    side and far too low on the other: then the two ends stand there as ``number`` writes them,
    ``2.12–57.8``.
    """
    percent = (high - low) / 2 / median * 100 if median else 0.0
    if percent > _PERCENT_AT_MOST:
        return f"{number(low)}–{number(high)}"
    if percent < 0.05:
        return "<0.1%"
    return f"±{percent:.1f}%" if percent < 9.95 else f"±{percent:.0f}%"


def noise_note(figure: Distribution) -> Note:
    """Return the note that the samples behind ``figure`` scatter, with how well it is known."""
    halfwidth = relative_halfwidth(figure)
    return Note(
        code=NOISY,
        sentence=f"the samples scatter: {_how_well(figure)}; repeat on an idle host",
        figures={HALFWIDTH: halfwidth},
    )


def _how_well(figure: Distribution) -> str:
    low, high = figure.ci_low, figure.ci_high
    if relative_halfwidth(figure) * 100 <= _PERCENT_AT_MOST:
        return f"the median is known no better than {plus_minus(figure.median, low, high)}"
    if low <= 0:
        return "the interval of the median reaches down to zero"
    return f"the two ends of the median's interval are a factor of {high / low:.2g} apart"


def noise_retold(m: Measurement) -> Measurement:
    """Return a measurement whose note of scatter is of the figure that is shown.

    Records of before held the time's there, beside a table of rates. A note without the figure, or
    on a measurement without one, is left as it is.
    """
    figure = shown(m)
    if figure is None or not any(_is_of_scatter(note) for note in m.notes):
        return m
    notes = tuple(noise_note(figure) if _is_of_scatter(note) else note for note in m.notes)
    return m.model_copy(update={"notes": notes})


def _is_of_scatter(note: Note) -> bool:
    return note.code == NOISY and HALFWIDTH in note.figures
