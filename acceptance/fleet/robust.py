"""Robust statistics of many devices: what most of them reach, whatever a few of them do.

- **Centre and spread** start at the *shorth*, the narrowest window that holds half of the values
  (Andrews et al. 1972, "Robust Estimates of Location"; Rousseeuw & Leroy 1988): up to half of the
  values may lie anywhere without moving it out of the others. From there the values within 3.5
  standard deviations are taken, their median and MAD give a new window, until it stays. Bad devices
  are so kept out of the criterion that they are held against; SuperBench (USENIX ATC 2024,
  arXiv 2402.06194) learns its criteria from the fleet to the same end.
- **Modified z**: 0.6745·(x − median) / MAD (Iglewicz & Hoaglin 1993, "How to Detect and Handle
  Outliers", who cut at 3.5).
- **MAD = 0**, more than half of the values alike: the spread is then at least what the figures' own
  intervals say, else 1.2533 mean absolute deviations (which estimate the same of a normal), else
  nothing, and the effect alone decides.
- **Two modes**: the split of the sorted values that leaves least variance within its parts;
  Ashman's D (Ashman, Bird & Zepf 1994: above 2 two modes are apart) and a thinned-out middle tell
  two kinds of device from one broad kind.
- **Slopes**: Theil's median of pairwise slopes (1950) with Sen's interval (1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

MAD_TO_SIGMA: Final = 1 / 0.6745
MEAN_DEVIATION_TO_SIGMA: Final = 1.2533
_CUT: Final = 3.5
_MOST_ROUNDS: Final = 30
_ASHMAN_D: Final = 3.0  # above 2 two normals are apart; halves of one normal come to about 2.5
_MIDDLE_SHARE: Final = 0.5  # of the lesser mode's density


@dataclass(frozen=True, slots=True)
class Centre:
    """What most values are. ``n`` of them, ``n_apart`` of which were set aside."""

    n: int
    n_apart: int
    median: float
    mad: float
    scale: float
    scale_from: Literal["mad", "interval", "mean-deviation", "none"]


def centre_of(values: Array, interval: float = 0.0) -> Centre:
    """Return the centre and spread of at least one value.

    ``interval`` is the standard deviation that the figures' own intervals give them.
    """
    x = np.sort(values)
    n = x.size
    middle, sigma = _shorth(x)
    low, high = 0, 0
    for _ in range(_MOST_ROUNDS):
        reach = _CUT * max(sigma, interval) + 1e-12 * abs(middle)
        window = (
            int(np.searchsorted(x, middle - reach)),
            int(np.searchsorted(x, middle + reach, side="right")),
        )
        if window == (low, high) or window[1] <= window[0]:
            break
        low, high = window
        middle = _middle(x[low:high])
        sigma = MAD_TO_SIGMA * _mad(x[low:high], middle)
    mad = sigma / MAD_TO_SIGMA
    scale, scale_from = _scale(x, middle, sigma, interval)
    return Centre(n, n - (high - low), middle, mad, scale, scale_from)


def _scale(
    x: Array, middle: float, sigma: float, interval: float
) -> tuple[float, Literal["mad", "interval", "mean-deviation", "none"]]:
    if sigma > 0 and sigma >= interval:
        return sigma, "mad"
    if interval > 0:
        return interval, "interval"
    spread = MEAN_DEVIATION_TO_SIGMA * float(np.mean(np.abs(x - middle)))
    return (spread, "mean-deviation") if spread > 0 else (0.0, "none")


def _shorth(x: Array) -> tuple[float, float]:
    """Return the middle of the narrowest half of sorted values, and the sigma it would have."""
    half = x.size // 2 + 1
    widths = x[half - 1 :] - x[: x.size - half + 1]
    narrow = np.flatnonzero(widths <= widths.min())
    at = int(narrow[narrow.size // 2])  # of equally narrow ones the middle
    inside = x[at : at + half]
    return _middle(inside), float(widths[at]) / 2 * MAD_TO_SIGMA


def _middle(x: Array) -> float:
    """Return the median of sorted values."""
    half = x.size // 2
    return float(x[half]) if x.size % 2 else float((x[half - 1] + x[half]) / 2)


def median_of(values: Array) -> float:
    """Return the median; of small sets several times as fast as ``numpy.median``."""
    return _middle(np.sort(values))


def _mad(x: Array, middle: float) -> float:
    return median_of(np.abs(x - middle))


def z_of(deviations: Array, scale: float) -> Array:
    """Return deviations in robust standard deviations; without a spread any is infinitely far."""
    if scale > 0:
        return np.asarray(deviations / scale)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.abs(deviations) < 1e-9, 0.0, np.sign(deviations) * np.inf))


@dataclass(frozen=True, slots=True)
class TwoModes:
    """Two kinds among values: those up to ``split`` and those above."""

    split: float
    low: float
    high: float
    low_share: float
    d: float


def two_modes(values: Array, least_gap: float, least_share: float) -> TwoModes | None:
    """Return the two modes of values; None where there is one, or a mode has less than its share.

    ``least_gap`` is what must lie between the modes' medians.
    """
    x = np.sort(values)
    n = x.size
    least = max(3, int(np.ceil(least_share * n)))
    if n < 2 * least or x[-1] - x[0] < least_gap:
        return None
    shifted = x - x[n // 2]
    sums, squares = np.cumsum(shifted), np.cumsum(shifted**2)
    at = np.arange(least, n - least + 1)  # how many are in the lower part
    below = squares[at - 1] - sums[at - 1] ** 2 / at
    above = (squares[-1] - squares[at - 1]) - (sums[-1] - sums[at - 1]) ** 2 / (n - at)
    cut = int(at[np.argmin(below + above)])
    # a split that had to leave its share on either side may have cut through a mode: look again
    between = (_middle(x[:cut]) + _middle(x[cut:])) / 2
    cut = int(np.searchsorted(x, between, side="right"))
    if not least <= cut <= n - least:
        return None
    first, second = x[:cut], x[cut:]
    low, high = _middle(first), _middle(second)
    gap = high - low
    if gap < least_gap:
        return None
    sigma = MAD_TO_SIGMA * np.sqrt((_mad(first, low) ** 2 + _mad(second, high) ** 2) / 2)
    d = float(gap / sigma) if sigma > 0 else np.inf
    if d < _ASHMAN_D or not _thin_middle(x, low, high):
        return None
    return TwoModes(float((first[-1] + second[0]) / 2), low, high, cut / n, d)


def _thin_middle(x: Array, low: float, high: float) -> bool:
    """Whether fewer values lie in the middle third between two modes than around either."""
    third = (high - low) / 3

    def count(centre: float) -> int:
        edges = np.searchsorted(x, [centre - third / 2, centre + third / 2])
        return int(edges[1] - edges[0])

    return count((low + high) / 2) < _MIDDLE_SHARE * min(count(low), count(high))


@dataclass(frozen=True, slots=True)
class Slopes:
    """Slopes of many series with their 95 % intervals (NaN where there were too few points)."""

    slope: Array
    low: Array
    high: Array


def theil_sen(times: Array, values: Array) -> Slopes:
    """Return the median of pairwise slopes of each series, (series, points), NaN where absent.

    The interval is Sen's: the order statistics of the slopes that Kendall's tau would not refuse.
    """
    first, second = np.triu_indices(times.shape[1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (values[:, second] - values[:, first]) / (times[:, second] - times[:, first])
    slopes[~np.isfinite(slopes)] = np.nan
    slopes.sort(axis=1)  # NaN last
    n = np.isfinite(values).sum(axis=1)
    pairs = np.isfinite(slopes).sum(axis=1)
    half_width = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    rows = np.arange(len(values))

    def at(place: Array) -> Array:
        inside = np.clip(place, 0, np.maximum(pairs - 1, 0)).astype(int)
        found = slopes[rows, inside] if slopes.shape[1] else np.full(len(values), np.nan)
        return np.asarray(np.where(pairs > 0, found, np.nan))

    middle = (at((pairs - 1) // 2) + at(pairs // 2)) / 2
    low = at(np.floor((pairs - half_width) / 2) - 1)
    high = at(np.ceil((pairs + half_width) / 2))
    return Slopes(middle, low, high)


def median_interval(values: Array, level: float = 0.999) -> tuple[float, float, float]:
    """Return the median of values with its interval by order statistics (a binomial of signs).

    With too few values for the level the interval is everything: infinite.
    """
    from scipy.stats import binom

    x = np.sort(values)
    n = x.size
    rank = int(binom.ppf((1 - level) / 2, n, 0.5))  # P(fewer than rank) is below the tail
    if rank < 1:
        return _middle(x), -np.inf, np.inf
    return _middle(x), float(x[rank - 1]), float(x[n - rank])
