"""Conformal intervals by site: how far off were points whose own site the fit had never seen?

Rows of one weight are not exchangeable with those of another, so whole sites are held out and every
site counts the same, however many rows it has (Dunn, Wasserman and Ramdas, "Distribution-Free
Prediction Sets for Two-Layer Hierarchical Models", JASA 2022). A score is |ln(t / t_hat)| over the
standard deviation that kriging expects there, so that an interval is narrow near what was measured
and wide far from it (normalised conformal prediction: Papadopoulos, Gammerman and Vovk, 2008).

**Level.** The distribution-free correction L·(S + 1)/S of S sites is for the worst case, in which
rows of a site are all off alike; with five sites it takes the 96 % quantile for an 80 % interval.
Here rows of a site mostly err each for itself, so the level is what data say: the least quantile of
the *other* sites' scores that holds 80 % of a site's rows, on average over sites. With fewer than
four sites there is none: the greatest score, half as much again, stands in and is flagged.

**Sums.** A step runs several products. How much of their errors is common is measured, not assumed:
of scores of g different sites at one size the sum has the half-width q·sqrt(c·g² + (1 - c)·g), and
c is the least share with which that holds 80 % of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibration_file import Band
from roofprobe.costmodel.forms import FloatArray

LEVEL: Final = 0.8
UNKNOWN_LOG: Final = 0.5  # half-width where nothing was held out at all
_STRETCH: Final = 1.5  # of the greatest score, where sites are too few
_LEAST_SITES: Final = 4  # that a quantile needs
_LEAST_SUMS: Final = 10
_LEVELS: Final = np.linspace(0.5, 1.0, 101)
_TURNS: Final = 14  # in which sites are left out; more sites than that go out several at a time
_BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """Held-out points: ln(t / t_hat), the site each belongs to, its size, and how far it was.

    ``form_error`` is the error of the closed form alone, ``distance`` in octaves to the nearest
    site that the fit had seen, ``sigma`` the expected standard deviation of ln t. Points with the
    same ``moment`` were predicted together and have the same size.
    """

    error: FloatArray
    form_error: FloatArray
    site: NDArray[np.intp]
    size: FloatArray
    distance: FloatArray
    sigma: FloatArray
    moment: NDArray[np.intp]

    def take(self, rows: _BoolArray) -> Scores:
        """Return some of the points."""
        return Scores(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def normal(self) -> FloatArray:
        """How far off points were, in expected standard deviations."""
        off: FloatArray = np.abs(self.error) / self.sigma
        return off


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the points of all parts, in order; of none, no points."""
    if not parts:
        none, whole = np.zeros(0), np.zeros(0, dtype=np.intp)
        return Scores(none, none, whole, none, none, none, whole)
    return Scores(
        *(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(Scores))
    )


def quantiles(off: FloatArray, sites: NDArray[np.intp], levels: FloatArray) -> FloatArray:
    """Return the quantiles of ``off`` at ``levels``, every site counting the same."""
    numbers, place, counts = np.unique(sites, return_inverse=True, return_counts=True)
    weight = 1.0 / counts[place.reshape(-1)] / len(numbers)
    order = np.argsort(off)
    reached = np.cumsum(weight[order])
    index = np.minimum(np.searchsorted(reached, levels - 1e-12), len(off) - 1)
    found: FloatArray = off[order[index]]
    return found


def _ranges(scores: Scores, edges: Sequence[float]) -> list[_BoolArray]:
    highs = (*edges[1:], float("inf"))
    return [
        (scores.size >= low) & (scores.size < high) for low, high in zip(edges, highs, strict=True)
    ]


def _by_range(scores: Scores, edges: Sequence[float], levels: FloatArray) -> FloatArray:
    """Return (ranges, levels) quantiles of normal scores; a range with few sites takes all's."""
    off = scores.normal
    overall = quantiles(off, scores.site, levels)
    return np.stack(
        [
            quantiles(off[rows], scores.site[rows], levels)
            if len(np.unique(scores.site[rows])) >= _LEAST_SITES
            else overall
            for rows in _ranges(scores, edges)
        ]
    )


def _turns(numbers: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [numbers[turn::_TURNS] for turn in range(min(len(numbers), _TURNS))]


def _site_sums(within: NDArray[Any], sites: NDArray[np.intp]) -> FloatArray:
    """Return the sum over sites of each site's mean of ``within`` (rows, columns)."""
    _, place, counts = np.unique(sites, return_inverse=True, return_counts=True)
    found: FloatArray = (within / counts[place.reshape(-1), None]).sum(axis=0)
    return found


def level(scores: Scores, edges: Sequence[float]) -> float | None:
    """Return the quantile of other sites' scores that holds 80 % of a site's; None: there is none.

    See the module docstring.
    """
    numbers = np.unique(scores.site)
    if len(numbers) < _LEAST_SITES:
        return None
    held = np.zeros(len(_LEVELS))
    for sites in _turns(numbers):
        own = np.isin(scores.site, sites)
        limits = _by_range(scores.take(~own), edges, _LEVELS)
        mine = scores.take(own)
        within = np.zeros((own.sum(), len(_LEVELS)))
        for rows, limit in zip(_ranges(mine, edges), limits, strict=True):
            within[rows] = mine.normal[rows, None] <= limit
        held += _site_sums(within, mine.site) / len(numbers)
    enough = np.flatnonzero(held >= LEVEL - 1e-9)
    return float(_LEVELS[enough[0]]) if len(enough) else None


def bands(scores: Scores, edges: Sequence[float]) -> tuple[Band, ...]:
    """Return half-widths for the ranges between ``edges`` (the first begins at 0).

    A range with too few sites takes the quantile of all rows.
    """
    chosen = level(scores, edges)
    if chosen is None:
        off = np.abs(scores.error)
        widest = max(float(off.max(initial=0.0)) * _STRETCH, UNKNOWN_LOG)
        factors = np.full(len(edges), widest)
        scaled = False
    else:
        factors = _by_range(scores, edges, np.array([chosen]))[:, 0]
        scaled = not np.allclose(scores.sigma, 1.0)
    found = []
    highs = (*edges[1:], float("inf"))
    for low, high, factor, rows in zip(edges, highs, factors, _ranges(scores, edges), strict=True):
        sigma = scores.sigma[rows] if rows.any() else scores.sigma
        usual = float(np.median(sigma)) if scaled else 1.0
        found.append(
            Band(
                low=low,
                high=None if np.isinf(high) else high,
                log_halfwidth=float(factor) * usual,
                sigma=usual if scaled else None,
                sites=len(np.unique(scores.site[rows])),
                enough=chosen is not None,
            )
        )
    return tuple(found)


def widths(found: Sequence[Band], size: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return the half-width of ln t at points of ``size`` where kriging expects ``sigma``."""
    width = np.zeros_like(size)
    for band in found:
        here = band.log_halfwidth * (sigma / band.sigma if band.sigma else np.ones_like(sigma))
        width = np.where(size >= band.low, here, width)
    return width


def coverage(scores: Scores, edges: Sequence[float]) -> float | None:
    """Return the share of points within intervals made from the *other* sites' scores.

    The level too is chosen without the site that is tested; every site counts the same.
    """
    numbers = np.unique(scores.site)
    if len(numbers) <= _LEAST_SITES:
        return None
    held = 0.0
    for sites in _turns(numbers):
        mine = np.isin(scores.site, sites)
        own, found = scores.take(mine), bands(scores.take(~mine), edges)
        within = np.abs(own.error) <= widths(found, own.size, own.sigma)
        held += float(_site_sums(within[:, None], own.site)[0])
    return held / len(numbers)


def shared(scores: Scores) -> float:
    """Return the part of the variance that different sites have in common at one moment.

    See the module docstring; with too few moments of several sites all of it counts as common.
    """
    if not len(scores.error):
        return 1.0
    signed = scores.error / scores.sigma
    one = float(quantiles(np.abs(signed), scores.site, np.array([LEVEL]))[0])
    _, place = np.unique(scores.moment, return_inverse=True)
    place = place.reshape(-1)
    count = np.bincount(place)
    total = np.bincount(place, signed)
    several = count >= 2
    if several.sum() < _LEAST_SUMS or one == 0:
        return 1.0
    g, sums = count[several].astype(float), total[several]
    needed = ((sums / one) ** 2 - g) / (g**2 - g)
    return float(np.clip(np.quantile(needed, LEVEL), 0.0, 1.0))


def per_distance(scores: Scores) -> float:
    """Return how much |ln(t / t_hat)| grows per octave of distance to the nearest known site.

    The slope between the near and the far half of held-out points, at the 80 % quantile; what
    held-out points cannot tell (all are equally far) is taken as a tenth.
    """
    off = np.abs(scores.error)
    middle = float(np.median(scores.distance)) if len(off) else 0.0
    near, far = scores.distance <= middle, scores.distance > middle
    if near.sum() < 10 or far.sum() < 10:
        return 0.1
    rise = float(np.quantile(off[far], LEVEL) - np.quantile(off[near], LEVEL))
    run = float(scores.distance[far].mean() - scores.distance[near].mean())
    return max(0.0, rise / run) if run > 0.25 else 0.1
