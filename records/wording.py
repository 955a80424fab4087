"""Numbers with their nouns, for sentences of any room."""

from __future__ import annotations

from typing import Final

# The units in which a rate is written, the largest first: the first in which it is at least 1.
LADDERS: Final[dict[str, tuple[str, ...]]] = {
    "TFLOPS": ("TFLOPS", "GFLOPS", "MFLOPS"),
    "TOPS": ("TOPS", "GOPS", "MOPS"),
    "GB/s": ("GB/s", "MB/s"),
}


def scaled(value: float, unit: str) -> tuple[float, str]:
    """Return the factor and the unit in which ``value``, given in ``unit``, is written."""
    factor = 1.0
    ladder = LADDERS.get(unit) or (unit,)
    for step in ladder[:-1]:
        # 0.9996 would be written as 1000 of the smaller unit
        if float(f"{value * factor:.3g}") >= 1 or value == 0:
            return factor, step
        factor *= 1000.0
    return factor, ladder[-1]


def rate_words(value: float, unit: str) -> str:
    """Write a rate with four digits in the unit that suits it: ``38.29 GOPS``."""
    factor, told = scaled(value, unit)
    return f"{value * factor:.4g} {told}"


def plural(count: int, noun: str) -> str:
    """Return ``1 case``, ``3 cases`` or ``1,250 cases``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def are(count: int, noun: str) -> str:
    """Return ``1 device is`` or ``3 devices are``."""
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"
