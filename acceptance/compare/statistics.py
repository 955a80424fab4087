"""The statistics of a comparison: medians, ratios of medians, ranks, tests over hundreds of rows.

Within one run the samples of a row are many and alike, so that a test over them finds nearly any
difference significant; what it does not see is how far the same machine drifts from run to run
(clock, neighbours, where memory came to lie). ``noise`` adds that. Here are the parts:

- a ratio of medians with a percentile bootstrap interval (both sides resampled, seeded);
- Mann-Whitney's U over the raw samples, two-sided, with the correction for ties;
- the false discovery rate of Benjamini and Hochberg (1995) over all rows;
- for several runs per side, a t test on the logarithms of the runs' medians whose variance is
  moderated by that of the other rows (Smyth 2004, "Linear models and empirical Bayes methods"):
  two or three runs tell too little of a row's own spread.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

CI_LEVEL = 0.95
PRIOR_DEGREES = 2.0  # how many runs' worth of evidence the other rows' spread stands for
_RESAMPLES = 1000
_RESAMPLED_VALUES = 400_000
_TAILS = [100 * (1 - CI_LEVEL) / 2, 100 * (1 + CI_LEVEL) / 2]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def resampled_medians(values: Array) -> Array:
    """Return bootstrap medians of ``values`` (one-dimensional, at least one), seeded."""
    n = values.size
    if n == 1:
        return np.repeat(values, 2)
    generator = np.random.default_rng(0)
    count = max(200, min(_RESAMPLES, _RESAMPLED_VALUES // n))
    return np.asarray(np.median(values[generator.integers(0, n, size=(count, n))], axis=1))


def median_interval(values: Array) -> Interval:
    """Return the median of ``values`` with its bootstrap interval."""
    low, high = np.percentile(resampled_medians(values), _TAILS)
    return Interval(float(np.median(values)), float(low), float(high))


def ratio_interval(a: Array, b: Array) -> Interval:
    """Return median(b) / median(a) of positive samples with its bootstrap interval."""
    above, below = resampled_medians(b), resampled_medians(a)
    generator = np.random.default_rng(1)
    # both were drawn with one seed: shuffled, they are independent
    ratios = generator.permutation(np.resize(above, _RESAMPLES)) / np.resize(below, _RESAMPLES)
    low, high = np.percentile(ratios, _TAILS)
    return Interval(float(np.median(b) / np.median(a)), float(low), float(high))


def rank_test(a: Array, b: Array) -> float | None:
    """Return the two-sided p of Mann and Whitney; None where a side has no two samples."""
    if a.size < 2 or b.size < 2:
        return None
    from scipy.stats import mannwhitneyu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all samples alike: p is 1, or not a number
        p = float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
    return p if math.isfinite(p) else 1.0


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p values after Benjamini and Hochberg, in the order given."""
    n = len(p_values)
    order = sorted(range(n), key=p_values.__getitem__, reverse=True)
    found = [1.0] * n
    least = 1.0
    for place, index in enumerate(order):
        least = min(least, p_values[index] * n / (n - place))
        found[index] = least
    return found


@dataclass(frozen=True, slots=True)
class BetweenRuns:
    """The medians of a row's runs on both sides as logarithms, and their pooled variance."""

    a: Array
    b: Array

    @property
    def degrees(self) -> int:
        """Return the degrees of freedom of the variance; 0 with one run on each side."""
        return self.a.size + self.b.size - 2

    @property
    def variance(self) -> float:
        """Return the variance within the sides, 0 where no side has two runs."""
        squares = sum(float(((side - side.mean()) ** 2).sum()) for side in (self.a, self.b))
        return squares / self.degrees if self.degrees > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TTest:
    """What a moderated t test says: p, and the standard error with its two-sided quantile."""

    p: float
    error: float
    quantile: float


def prior_variance(rows: Sequence[BetweenRuns]) -> float | None:
    """Return the variance that the rows have in common; None where no row has several runs.

    The mean, not the median: a few rows that jump between two states then warn of the others.
    """
    total = sum(row.degrees for row in rows)
    return sum(row.variance * row.degrees for row in rows) / total if total else None


def moderated_test(row: BetweenRuns, effect: float, prior: float) -> TTest:
    """Test ``effect`` (a logarithm) against the row's spread between runs, moderated by ``prior``.

    s² = (d₀·s₀² + d·s²) / (d₀ + d) with ``PRIOR_DEGREES`` for d₀; d₀ + d degrees of freedom.
    """
    from scipy.special import stdtr, stdtrit

    degrees = PRIOR_DEGREES + row.degrees
    variance = (PRIOR_DEGREES * prior + row.degrees * row.variance) / degrees
    error = math.sqrt(variance * (1 / row.a.size + 1 / row.b.size))
    quantile = float(stdtrit(degrees, (1 + CI_LEVEL) / 2))
    if error == 0:
        return TTest(1.0 if effect == 0 else 0.0, 0.0, quantile)
    return TTest(2 * float(stdtr(degrees, -abs(effect) / error)), error, quantile)
