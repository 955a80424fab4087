"""The turns of a search: what the next one will cost, whether it fits, and how shapes rank.

Time is what a search spends, so each measurement is predicted before it is made, from the rates
and times of those before, and one that would end too late is passed over.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roofprobe.probes.candidates import Shape, flops
from roofprobe.probes.search_path import ANCHOR, Ledger

MIN_SECONDS = 0.001
MAX_SECONDS = 0.5  # a longer turn would not settle what five rounds of the final do not
_STEADY = 0.04  # two anchors in a row that differ by more enclose a change of the device
_UNSTEADY_WEIGHT = 0.1  # of a turn within such a change, against one outside
_ASIDE = ("first", ANCHOR)  # readings that say something of the device, not of the shape


@dataclass(slots=True)
class Run:
    """One search under way: what was measured, how long the next would take, where time ends."""

    ledger: Ledger
    budget_s: float
    anchor_every: int | None
    anchors: tuple[Shape, ...] = ()  # the one anchor, or none

    def until(self, share: float) -> float:
        """Return the seconds that are left until ``share`` of the budget is used."""
        return share * self.budget_s - self.ledger.elapsed_s

    def fits(self, shape: Shape, seconds: float, share: float) -> bool:
        """Say whether measuring ``shape`` now would end before ``share`` of the budget."""
        return self.predicted_s([shape], seconds) <= self.until(share)

    def predicted_s(self, shapes: Iterable[Shape], seconds: float) -> float:
        """Return what measuring ``shapes`` should take, from the rates and times seen so far.

        A measurement is a launch of warm-up, then launches for ``seconds`` (at least one), and a
        fixed cost (allocation, synchronisation). A shape without a rate of its own is taken to
        run at the median rate.
        """
        launch = self._launches()
        fixed_s = self._fixed_s(launch)
        return sum(launch.of(shape) + max(seconds, launch.of(shape)) + fixed_s for shape in shapes)

    def affordable_s(self, shapes: Sequence[Shape], total_s: float) -> float:
        """Return the turn's length at which ``shapes`` take ``total_s``, within the bounds."""
        launch = self._launches()
        fixed_s = self._fixed_s(launch)
        launches_s = [launch.of(shape) for shape in shapes]
        left = total_s - sum(launches_s) - fixed_s * len(shapes)
        low, high = MIN_SECONDS, MAX_SECONDS
        for _ in range(20):
            middle = math.sqrt(low * high)
            if sum(max(middle, each) for each in launches_s) <= left:
                low = middle
            else:
                high = middle
        return low

    def with_anchors(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return ``shapes`` with as many anchors as measuring them brings along."""
        readings = math.ceil(len(shapes) / self.anchor_every) + 1 if self.anchor_every else 0
        return [*shapes, *self.anchors * readings]

    def measure_all(self, stage: str, shapes: Sequence[Shape], seconds: float, share: float) -> int:
        """Measure ``shapes`` in order, the anchor between; pass over what would end too late.

        Returns how many were measured.
        """
        count = 0
        for shape in shapes:
            if not self.fits(shape, seconds, share):
                continue
            if self.anchor_every and count % self.anchor_every == 0:
                self.measure_anchor(seconds, share)
            self.ledger.measure(stage, shape, seconds)
            count += 1
        if count:
            self.measure_anchor(seconds, share)
        return count

    def ranked(self, shapes: Iterable[Shape]) -> list[Shape]:
        """Return those of ``shapes`` that have a score, the best first.

        A shape's score is the median over its turns, each weighted with its seconds, and weighted
        little when the device changed around it.
        """
        drift = self.ledger.drift()
        scores: dict[Shape, list[tuple[float, float]]] = {shape: [] for shape in shapes}
        for reading in self.ledger.readings:
            if reading.tflops and reading.shape in scores and reading.stage not in _ASIDE:
                score = reading.tflops / (drift.at(reading.middle_s) or 1.0)
                steady = drift.steady(reading.middle_s, _STEADY)
                weight = reading.asked_s * (1.0 if steady else _UNSTEADY_WEIGHT)
                scores[reading.shape].append((score, weight))
        medians = [(_weighted_median(pairs), shape) for shape, pairs in scores.items() if pairs]
        return [shape for _, shape in sorted(medians, reverse=True)]

    def unsteady(self, stage: str) -> list[Shape]:
        """Return the shapes of ``stage`` that were measured while the device changed."""
        drift = self.ledger.drift()
        return [
            reading.shape
            for reading in self.ledger.readings
            if reading.stage == stage
            and reading.failure is None
            and not drift.steady(reading.middle_s, _STEADY)
        ]

    def measure_anchor(self, seconds: float, share: float) -> None:
        """Measure the anchor, if there is one and it would end in time."""
        for anchor in self.anchors:
            if self.fits(anchor, seconds, share):
                self.ledger.measure(ANCHOR, anchor, seconds)

    def _launches(self) -> _LaunchTimes:
        rates: dict[Shape, float] = {}  # the best seen: a disturbed turn says nothing of the next
        for reading in self.ledger.readings:
            if reading.tflops is not None:
                rates[reading.shape] = max(reading.tflops, rates.get(reading.shape, 0.0))
        return _LaunchTimes(rates, statistics.median(rates.values()) if rates else math.inf)

    def _fixed_s(self, launch: _LaunchTimes) -> float:
        rests = [
            r.took_s - launch.of(r.shape) - max(r.asked_s, launch.of(r.shape))
            for r in self.ledger.readings
            if r.tflops is not None
        ]
        return max(0.0, statistics.median_low(rests)) if rests else 0.0


@dataclass(frozen=True, slots=True)
class _LaunchTimes:
    """Seconds of one launch per shape, from the rates seen."""

    rates_tflops: dict[Shape, float]
    typical_tflops: float

    def of(self, shape: Shape) -> float:
        return flops(shape) / (self.rates_tflops.get(shape, self.typical_tflops) * 1e12)


def _weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the value at which half of the weight of (value, weight) pairs is reached.

    Between two values when exactly half is: the median of four equals is the middle of two.
    """
    ordered = sorted(pairs)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for index, (value, weight) in enumerate(ordered):
        reached += weight
        if math.isclose(reached, half):
            return (value + ordered[index + 1][0]) / 2
        if reached > half:
            return value
    return ordered[-1][0]
