"""The efficiency surface: what each shape reaches of the peak, as a grid of M × (N, K).

M is what a serving engine varies (tokens in a batch), N and K are a layer of a model. Small M is
bound by reading the weights, large M by the pipe; between them lies where a batch starts to pay,
and steps where tiles do not divide the shape. A grid holds hundreds of cases; it is shown as a
whole and told in one sentence, never case by case. The sentence speaks of shapes that were measured
while nobody else was at work; others may be low because of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Measurement, Run
from roofprobe.records.titles import title_of
from roofprobe.reporting import numbers
from roofprobe.reporting.compute_tables import rows_of
from roofprobe.reporting.marks import MARK
from roofprobe.reporting.plain_text import clean

Place = tuple[int, tuple[int, int]]
Basis = Literal["datasheet", "derived", "best shape"]

_HIGH = 0.9  # a shape within a tenth of the grid's best is as good as it gets


@dataclass(frozen=True, slots=True)
class Surface:
    """Shares of ``peak`` by (m, (n, k)); a shape that was not measured or failed has none.

    ``disturbed`` are the shapes during which others were at work.
    """

    label: str
    title: str
    basis: Basis
    peak: float
    unit: str
    regime: str
    ms: tuple[int, ...]
    columns: tuple[tuple[int, int], ...]
    shares: dict[Place, float]
    disturbed: frozenset[Place] = frozenset()

    @property
    def best(self) -> Place:
        """The shape (m, (n, k)) that reaches most."""
        return max(self.shares, key=self.shares.__getitem__)

    def row(self, m: int) -> list[float]:
        """The shares of all shapes with this M."""
        return [share for (own, _), share in self.shares.items() if own == m]

    def sentence(self) -> str:
        """Say from which M on the shapes are near the best, and how little the smallest reaches.

        Of shapes that others disturbed only their number is told.
        """
        if not self.disturbed:
            return self._told()
        count = len(self.shares)
        if len(self.disturbed) == count:
            return (
                f"Others were at work while all {count} shapes of {self.label} were measured, so "
                "nothing can be told of what shapes do."
            )
        shares = {at: share for at, share in self.shares.items() if at not in self.disturbed}
        ms = tuple(sorted({m for m, _ in shares}))
        quiet = replace(self, shares=shares, ms=ms, disturbed=frozenset())
        return (
            f"{quiet._told()} {len(self.disturbed)} more are left out here, since others were at "
            "work meanwhile."
        )

    def _told(self) -> str:
        m, (n, k) = self.best
        top = self.shares[self.best]
        enough = [own for own in self.ms if median(self.row(own)) >= _HIGH * top]
        low = self.ms[0]
        told = (
            f"{self.label} is best at {m}x{n}x{k} with {numbers.share(top)} of {self.peak_words()}"
        )
        if enough and enough[0] != low:
            told += f"; from M = {enough[0]} on, half of the shapes come within a tenth of that"
        elif enough:
            told += "; already at the smallest M half of the shapes come within a tenth of that"
        return (
            f"{told}; at M = {low} the median is {numbers.share(median(self.row(low)))}. "
            f"{len(self.shares)} shapes, each in a {self.regime}."
        )

    def peak_words(self) -> str:
        """Name what the shares are of: ``the datasheet's 1000 TFLOPS``."""
        names = {
            "datasheet": "the datasheet's",
            "derived": "the derived",
            "best shape": "the best shape's",
        }
        return f"{names[self.basis]} {numbers.rate(self.peak, self.unit)}"

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
        """Return heads ``N x K`` and, by M, the cells in whole percent, marked where disturbed."""
        heads = tuple(f"{n}x{k}" for n, k in self.columns)
        rows = tuple(
            (str(m), tuple(self._cell((m, column)) for column in self.columns)) for m in self.ms
        )
        return heads, rows

    def _cell(self, place: tuple[int, tuple[int, int]]) -> str:
        return f"{numbers.share(self.shares.get(place))}{MARK if place in self.disturbed else ''}"

    def profile(self) -> tuple[tuple[str, str], ...]:
        """Return for each M the median share and its range over (N, K): ``("64", "40% 12–61")``."""
        lines = []
        for m in self.ms:
            shares = self.row(m)
            low, high = min(shares) * 100, max(shares) * 100
            mark = MARK if any(own == m for own, _ in self.disturbed) else ""
            lines.append((str(m), f"{numbers.share(median(shares))} ({low:.0f}–{high:.0f}){mark}"))
        return tuple(lines)


def surfaces(run: Run, device_id: str) -> tuple[Surface, ...]:
    """Return the surface of each row of which one was measured."""
    found = []
    for label, members in rows_of(run, device_id).items():
        valid = [m for m in members if m.status == "ok" and m.case.role == "surface"]
        rated = [m for m in valid if m.rate and m.rate.median > 0 and {*m.case.shape} >= {*"mnk"}]
        if len(rated) > 1:
            found.append(_surface(run, label, rated))
    return tuple(found)


def _surface(run: Run, label: str, members: Sequence[Measurement]) -> Surface:
    basis, peak = _peak(run, members)
    shares: dict[Place, float] = {}
    disturbed: set[Place] = set()
    for m in members:
        assert m.rate is not None, m.case.case_id
        size = m.case.shape
        place = (size["m"], (size["n"], size["k"]))
        shares[place] = max(shares.get(place, 0.0), m.rate.median / peak)
        if is_disturbed(m):
            disturbed.add(place)
    first = members[0]
    return Surface(
        label=clean(label),
        title=clean(title_of(first.case)),
        basis=basis,
        peak=peak,
        unit=first.rate.unit if first.rate else "",
        regime=first.case.regime,
        ms=tuple(sorted({m for m, _ in shares})),
        columns=tuple(sorted({column for _, column in shares})),
        shares=shares,
        disturbed=frozenset(disturbed),
    )


def _peak(run: Run, members: Sequence[Measurement]) -> tuple[Basis, float]:
    kinds: tuple[Literal["datasheet", "derived"], ...] = ("datasheet", "derived")
    for kind in kinds:
        ceiling = ceiling_for(members[0], kind, run.ceilings)
        if ceiling is not None:
            return kind, ceiling.value
    return "best shape", max(m.rate.median for m in members if m.rate)
