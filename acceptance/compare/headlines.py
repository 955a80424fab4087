"""The lines of the result side by side: what a user gets, whatever shape a search found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from roofprobe.acceptance.compare.comparison import ComparedHeadline
from roofprobe.acceptance.compare.sides import Pair, Place
from roofprobe.records.schema import Family, Headline

_RATES = (1e-12, 1e12)  # outside, a rate is a mistake and its ratio may not be a number

_Line = tuple[Family, str, str]


def compared_headlines(
    pairs: Sequence[Pair], families: frozenset[str] | None
) -> tuple[ComparedHeadline, ...]:
    """Return the lines that both sides of a pair have, in A's order, of one method only."""
    return tuple(
        line for number, pair in enumerate(pairs) for line in _lines(number, pair, families)
    )


def _lines(number: int, pair: Pair, families: frozenset[str] | None) -> Iterator[ComparedHeadline]:
    if len({run.method_version for run, _ in (*pair.a, *pair.b)}) > 1:
        return
    a, b = _by_line(pair.a), _by_line(pair.b)
    for line, headlines in a.items():
        family, label, unit = line
        if line not in b or (families is not None and family not in families):
            continue
        left, right = _mean(headlines), _mean(b[line])
        yield ComparedHeadline(
            pair=number, family=family, label=label, title=headlines[-1].title, unit=unit,
            a=left, b=right, ratio=right / left,
        )  # fmt: skip


def _by_line(places: Sequence[Place]) -> dict[_Line, list[Headline]]:
    found: dict[_Line, list[Headline]] = {}
    least, most = _RATES
    for run, device in places:
        for each in run.headlines:
            if each.device_id == device.device_id and least <= each.rate.median <= most:
                found.setdefault((each.family, each.label, each.rate.unit), []).append(each)
    return found


def _mean(headlines: Sequence[Headline]) -> float:
    return math.exp(sum(math.log(each.rate.median) for each in headlines) / len(headlines))
