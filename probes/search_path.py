"""What a search for the fastest shape did, as plain values: every measurement, in order.

The figures of one search are milliseconds or minutes apart, and a device changes meanwhile: its
clock falls as it warms up, a neighbour comes and goes. So one shape, the *anchor*, is measured
again and again between the others, and a score is a rate divided by what the anchor reached around
that time (linear between the anchor's readings before and after), relative to the anchor's median
over the search. A score thus says what the shape would have reached at the device's middling
state; the rate that was really seen stands beside it.
"""

from __future__ import annotations

import statistics
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from roofprobe.probes.candidates import Shape

Clock = Callable[[], float]


class CandidateFailed(Exception):
    """A shape could not be measured; ``reason`` is a sentence for the record."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


class Bench(Protocol):
    """A device that can be asked for the rate of one shape."""

    def measure(self, shape: Shape, seconds: float) -> float:
        """Return TFLOPS over about ``seconds`` of launches, at least one, after a warm-up.

        Raises ``CandidateFailed`` when the shape cannot be measured.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement of a search.

    ``stage`` is ``first``, ``anchor``, ``rung 1`` …, ``refine``, ``final`` or ``grid``;
    ``tflops`` the rate as seen, ``anchor_ratio`` the anchor's rate around then over its median in
    the search, and ``score`` the first divided by the second. They are None where the measurement
    failed (``failure`` says why), and the ratio also where no anchor was measured. ``at_s`` counts
    from the start of the search, ``seconds`` is what the measurement took, its warm-up included.
    """

    stage: str
    shape: Shape
    tflops: float | None
    score: float | None
    anchor_ratio: float | None
    at_s: float
    seconds: float
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    ``best`` is None when no shape could be measured. ``best_tflops`` is the median of the rates
    of ``best`` in the last stage that measured it: not a score, and not the luckiest reading.
    ``untried`` are the shapes of the space that got no turn within the budget. ``seed`` and
    ``budget_s`` are None for a method that has none.
    """

    method: str
    seed: int | None
    budget_s: float | None
    elapsed_s: float
    sentence: str
    pruned: int
    anchor: Shape | None
    best: Shape | None
    best_tflops: float | None
    steps: tuple[Step, ...]
    untried: tuple[Shape, ...]


ANCHOR = "anchor"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one measurement gave; ``asked_s`` of launches were wanted, ``took_s`` were spent."""

    stage: str
    shape: Shape
    tflops: float | None
    at_s: float
    took_s: float
    asked_s: float
    failure: str | None

    @property
    def middle_s(self) -> float:
        """Return the middle of the measurement, in seconds since the start."""
        return self.at_s + self.took_s / 2


@dataclass(frozen=True, slots=True)
class Drift:
    """The anchor's rate over its median, at the seconds since the start that it was read at."""

    at_s: tuple[float, ...]
    ratios: tuple[float, ...]

    def at(self, at_s: float) -> float | None:
        """Return the ratio at a time: linear between readings, constant beyond; None without."""
        return float(np.interp(at_s, self.at_s, self.ratios)) if self.at_s else None

    def steady(self, at_s: float, tolerance: float) -> bool:
        """Say whether the readings before and after a time agree within a relative tolerance.

        Between two that do not, the change came at a moment that nobody knows.
        """
        after = bisect(self.at_s, at_s)
        if not 0 < after < len(self.ratios):
            return True
        low, high = sorted(self.ratios[after - 1 : after + 1])
        return high <= low * (1 + tolerance)


@dataclass(slots=True)
class Ledger:
    """The measurements so far, made one by one; scores follow from them at any time.

    ``bench`` measures, ``now`` is the clock that everything is held against, and ``started_s``
    its reading at the start.
    """

    bench: Bench
    now: Clock
    started_s: float = field(init=False)
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started_s = self.now()

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return self.now() - self.started_s

    def measure(self, stage: str, shape: Shape, seconds: float) -> Reading:
        """Measure ``shape`` for about ``seconds``, keep what came of it and return it."""
        at_s = self.elapsed_s
        tflops, failure = None, None
        try:
            rate = self.bench.measure(shape, seconds)
            if 0 < rate < float("inf"):
                tflops = rate
            else:
                failure = f"the rate came out as {rate}"
        except CandidateFailed as error:
            failure = error.reason
        took_s = self.elapsed_s - at_s
        self.readings.append(Reading(stage, shape, tflops, at_s, took_s, seconds, failure))
        return self.readings[-1]

    def drift(self) -> Drift:
        """Return how the anchor's rate went, each reading settled with its two neighbours.

        The median of three takes out a reading that somebody else's work spoiled, and keeps a
        step that stays. The first and the last reading stand alone.
        """
        anchors = [
            (reading.middle_s, reading.tflops)
            for reading in self.readings
            if reading.stage == ANCHOR and reading.tflops is not None
        ]
        if not anchors:
            return Drift((), ())
        rates = [rate for _, rate in anchors]
        reference = statistics.median(rates)
        settled = [
            statistics.median(rates[i - 1 : i + 2]) if 0 < i < len(rates) - 1 else rate
            for i, rate in enumerate(rates)
        ]
        return Drift(
            tuple(middle_s for middle_s, _ in anchors),
            tuple(rate / reference for rate in settled),
        )

    def steps(self) -> tuple[Step, ...]:
        """Return everything measured, in order, with scores."""
        drift = self.drift()
        steps = []
        for reading in self.readings:
            ratio = None if reading.tflops is None else drift.at(reading.middle_s)
            steps.append(
                Step(
                    stage=reading.stage,
                    shape=reading.shape,
                    tflops=reading.tflops,
                    score=None if reading.tflops is None else reading.tflops / (ratio or 1.0),
                    anchor_ratio=ratio,
                    at_s=reading.at_s,
                    seconds=reading.took_s,
                    failure=reading.failure,
                )
            )
        return tuple(steps)
