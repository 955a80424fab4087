"""How quantities are written in every report: rates, shares, spreads, sizes, times.

Rates keep three significant digits (four from 1000 on) and move to the next smaller unit below 1,
so that a processor's result reads ``214 GFLOPS``. What is not known is a dash, never a zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from roofprobe.records.noise import plus_minus
from roofprobe.records.schema import Distribution
from roofprobe.records.wording import scaled
from roofprobe.reporting.plain_text import clean

UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Scale:
    """The unit in which a rate is shown, and what its recorded value is multiplied by."""

    unit: str
    factor: float

    def number(self, value: float | None) -> str:
        """Return ``value`` in this unit without naming the unit, a dash where it is unknown."""
        return UNKNOWN if value is None else digits(value * self.factor)


def scale_for(value: float, unit: str) -> Scale:
    """Choose the unit of the ladder in which ``value`` is at least 1."""
    factor, shown = scaled(value, clean(unit))
    return Scale(shown, factor)


def digits(value: float) -> str:
    """Write a number with three significant digits, and whole from 100 on."""
    rounded = float(f"{value:.3g}") if abs(value) < 1000 else value
    if rounded == 0 or abs(rounded) >= 100:
        return f"{rounded:.0f}"
    return f"{rounded:.{2 - math.floor(math.log10(abs(rounded)))}f}"


def rate(value: float | None, unit: str) -> str:
    """Write a rate with the unit that suits its size: ``812 TFLOPS``, ``214 GFLOPS``."""
    if value is None:
        return UNKNOWN
    scale = scale_for(value, unit)
    return f"{scale.number(value)} {scale.unit}"


def share(value: float | None) -> str:
    """Write a share as whole percent; a share that is not known is a dash."""
    if value is None:
        return UNKNOWN
    text = "<1%" if 0 < value < 0.005 else f"{value * 100:.0f}%"
    return "0%" if text == "-0%" else text


def gain(value: float | None) -> str:
    """Write a ratio as what it gains or loses in whole percent: ``+12%``, ``−3%``, ``0%``."""
    if value is None:
        return UNKNOWN
    percent = round((value - 1) * 100)
    return f"{percent:+d}%".replace("-", "−") if percent else "0%"


def factor(value: float | None) -> str:
    """Write one factor of a product with three decimals; a factor that is not known is a dash."""
    return UNKNOWN if value is None else f"{value:.3f}"


def energy(joules: float | None) -> str:
    """Write an energy per 1e12 operations in joules without its unit."""
    return UNKNOWN if joules is None else digits(joules)


def seconds(value: float | None) -> str:
    """Write a duration in seconds as people say it: ``0.42 s``, ``21.0 s``, ``3:20 min``."""
    if value is None:
        return UNKNOWN
    return f"{digits(value)} s" if value < 99.95 else f"{clock(value)} min"


def spread(distribution: Distribution, scale: Scale | None = None) -> str:
    """Write half of the median's confidence interval relative to it; one sample has none.

    Where that half is more than the median, the two ends are written, in the unit of ``scale``.
    """
    if distribution.n < 2 or distribution.median == 0:
        return UNKNOWN
    shown = scale or scale_for(distribution.median, distribution.unit)
    return plus_minus(distribution.median, distribution.ci_low, distribution.ci_high, shown.number)


def range_text(distribution: Distribution, scale: Scale) -> str:
    """Write the 10th and the 90th percentile in the unit of ``scale``."""
    return f"{scale.number(distribution.p10)}–{scale.number(distribution.p90)}"


def capacity(size_bytes: float | None) -> str:
    """Write a capacity in binary units: ``80.0 GiB``."""
    if size_bytes is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{digits(size_bytes)} {unit}"
        size_bytes /= 1024
    return f"{digits(size_bytes)} TiB"


def compact(count: int) -> str:
    """Write a count in few characters: ``268M``."""
    value = float(count)
    for suffix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{digits(value) if suffix else count}{suffix}"
        value /= 1000
    return f"{digits(value)}T"


def clock(seconds: float) -> str:
    """Write a duration as ``01:03``, from an hour on as ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes:02}:{secs:02}"


def duration_us(value: float | None) -> str:
    """Write a time given in microseconds in the unit that suits it."""
    if value is None:
        return UNKNOWN
    for unit in ("µs", "ms"):
        if value < 1000:
            return f"{digits(value)} {unit}"
        value /= 1000
    return f"{digits(value)} s"


def duration_range_us(low: float, high: float) -> str:
    """Write two times given in microseconds, with one unit where they share it: ``1–2 µs``."""
    first, last = duration_us(low), duration_us(high)
    number, _, unit = first.partition(" ")
    return f"{number if last.endswith(' ' + unit) else first}–{last}"
