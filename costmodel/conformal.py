"""Conformal intervals by site: how far off were points whose own site the fit had never seen?

Rows of one weight are not exchangeable with those of another, so whole sites are held out and every
site counts the same, however many rows it has. With S sites the half-width of a level L is the
quantile of the pooled scores |ln(t / t_hat)| at L·(S + 1)/S (Dunn, Wasserman and Ramdas,
"Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", JASA 2022); where that
passes 1 there are not enough sites: the greatest score, half as much again, stands in and is
flagged. The quantile is taken by ranges of the size (Mondrian), because small and large matrix
products are off for different reasons and by different amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibration_file import Band
from roofprobe.costmodel.forms import FloatArray

LEVEL: Final = 0.8
_STRETCH: Final = 1.5  # of the greatest score, where sites are too few
_LEAST_SITES: Final = 3  # that a range needs for a quantile of its own
UNKNOWN_LOG: Final = 0.5  # half-width where nothing was held out at all


@dataclass(frozen=True, slots=True)
class Scores:
    """Held-out points: ln(t / t_hat), the site each belongs to, its size, and how far it was.

    ``form_error`` is the error of the closed form alone, ``distance`` in octaves to the nearest
    site that the fit had seen.
    """

    error: FloatArray
    form_error: FloatArray
    site: NDArray[np.intp]
    size: FloatArray
    distance: FloatArray


def halfwidth(
    scores: FloatArray, sites: NDArray[np.intp], level: float = LEVEL
) -> tuple[float, bool]:
    """Return the half-width of ``level`` and whether the sites were enough for it."""
    numbers, counts = np.unique(sites, return_counts=True)
    if not len(numbers):
        return UNKNOWN_LOG, False
    wanted = level * (len(numbers) + 1) / len(numbers)
    if wanted > 1:
        return max(float(scores.max()) * _STRETCH, UNKNOWN_LOG), False
    weight = 1.0 / counts[np.searchsorted(numbers, sites)] / len(numbers)
    order = np.argsort(scores)
    reached = np.cumsum(weight[order])
    index = min(int(np.searchsorted(reached, wanted - 1e-12)), len(scores) - 1)
    return float(scores[order[index]]), True


def bands(scores: Scores, edges: Sequence[float]) -> tuple[Band, ...]:
    """Return half-widths for the ranges between ``edges`` (the first begins at 0).

    A range with too few sites takes the half-width of all rows.
    """
    off = np.abs(scores.error)
    overall, overall_enough = halfwidth(off, scores.site)
    found = []
    for low, high in zip(edges, (*edges[1:], float("inf")), strict=True):
        rows = (scores.size >= low) & (scores.size < high)
        count = len(np.unique(scores.site[rows]))
        width, enough = overall, overall_enough
        if count >= _LEAST_SITES:
            width, enough = halfwidth(off[rows], scores.site[rows])
            if not enough:
                width, enough = max(overall, float(off[rows].max())), False
        found.append(
            Band(
                low=low,
                high=None if np.isinf(high) else high,
                log_halfwidth=width,
                sites=count,
                enough=enough,
            )
        )
    return tuple(found)


def coverage(scores: Scores, edges: Sequence[float]) -> float | None:
    """Return the share of points within intervals made from the *other* sites' scores."""
    inside, total = 0, 0
    for site in np.unique(scores.site):
        others = scores.site != site
        if len(np.unique(scores.site[others])) < 2:
            return None
        rest = Scores(
            scores.error[others], scores.form_error[others], scores.site[others],
            scores.size[others], scores.distance[others],
        )  # fmt: skip
        widths = bands(rest, edges)
        own = ~others
        limit = np.zeros(int(own.sum()))
        for band in widths:
            limit = np.where(scores.size[own] >= band.low, band.log_halfwidth, limit)
        inside += int((np.abs(scores.error[own]) <= limit).sum())
        total += int(own.sum())
    return inside / total if total else None


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
