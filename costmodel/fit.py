"""From timed operations to a calibrated one: closed form, kriging of its residuals, intervals.

The errors that are reported, and the intervals, come only from sites that the fit had not seen: in
each of several random splits a quarter of the sites (weights, head geometries) is held out, the
form and the kriging law are fitted to the rest, and the held-out rows are predicted. The constants
that are kept are then fitted to all sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel import conformal, forms, kriging
from roofprobe.costmodel.calibration_file import (
    Band,
    HeldOut,
    Intervals,
    Kriging,
    OpFit,
    Site,
    Span,
    Surface,
)
from roofprobe.costmodel.closed_fit import choose, fit_forms, ladder, take
from roofprobe.costmodel.conformal import Scores, joined
from roofprobe.costmodel.forms import Coefficients, FloatArray, Rates, Work
from roofprobe.costmodel.kriging_fit import fit_law, trimmed
from roofprobe.costmodel.one_thread import one_thread
from roofprobe.costmodel.points import Points

# Where intervals change: for m of matrix products, cached tokens of attention, tokens of experts.
_EDGES: Final = {"gemm": (0, 33, 257, 2049), "grouped_gemm": (0, 257, 2049)}
_CACHE_EDGES: Final = (0, 4097, 131073)
_ROWS_TO_KRIGE: Final = 8
_BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Settings:
    """How sites are held out, and what is kept.

    Without ``keep_sites`` only what all sites have in common is kept (constants that shall serve
    other GPUs), and the held-out errors are those of that.
    """

    splits: int = 12
    share: float = 0.25
    seed: int = 0
    keep_sites: bool = True


def edges_of(op: str) -> tuple[float, ...]:
    """Return the sizes at which intervals of an operation change."""
    if forms.OP_CLASSES[op].kv:
        return _CACHE_EDGES
    return _EDGES.get(op, (0,))


def splits(points: Points, settings: Settings) -> tuple[list[_BoolArray], str]:
    """Return masks of held-out rows, one per split, and the words for how they were chosen.

    Each site is held out about equally often. With fewer than four sites each is held out in turn;
    a single site gives a quarter of its rows instead, which says less.
    """
    sites, number = points.sites()
    rng = np.random.default_rng(settings.seed)
    if len(sites) >= 4:
        held = max(1, round(settings.share * len(sites)))
        turns = max(1, round(settings.splits * held / len(sites)))
        queue = np.concatenate([rng.permutation(len(sites)) for _ in range(turns + 1)])
        chosen = [queue[i * held : (i + 1) * held] for i in range(settings.splits)]
        chosen = [one for one in chosen if len(one) == held]
        words = (
            f"{len(chosen)} random splits, {held} of {len(sites)} sites held out in each, "
            f"seed {settings.seed}"
        )
        return [np.isin(number, one) for one in chosen], words
    if len(sites) > 1:
        words = f"each of {len(sites)} sites held out in turn"
        return [number == one for one in range(len(sites))], words
    if len(points) < 4:
        return [], "nothing held out: too few rows"
    rows = rng.permutation(len(points))
    parts = np.array_split(rows, min(4, len(points) // 2))
    masks = [np.isin(np.arange(len(points)), part) for part in parts]
    return masks, "one site only: rows held out, a quarter at a time"


def count_points(points: Points, rates: Rates) -> Work:
    """Count the work of all rows."""
    return forms.count(
        points.op, points.precision, points.shape, rates, kv_precision=points.kv_precision
    )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A closed form with the kriging of its residuals at the rows that it was fitted to."""

    form: Coefficients
    law: Kriging | None
    known: kriging.Coordinates
    residuals: FloatArray

    def correction(
        self, points: kriging.Coordinates, settings: Settings
    ) -> tuple[FloatArray, FloatArray]:
        """Return the expected residual at points and its deviation (1: unknown), both ln t."""
        unknown = np.ones(len(points.size))
        if self.law is None:
            return np.zeros(len(points.size)), unknown
        if not settings.keep_sites:
            return kriging.interpolate(self.surface(), points.size), unknown
        solved = kriging.weights(self.known, self.residuals, self.law)
        return kriging.predict(points, self.known, self.law, solved)

    def surface(self) -> Surface:
        """Return what all sites have in common; one size axis gets every octave, more every two."""
        assert self.law is not None, "nothing was kriged"
        solved = kriging.weights(self.known, self.residuals, self.law)
        step = 1.0 if self.known.size.shape[1] == 1 else 2.0
        return kriging.common_surface(self.known, self.law, solved, step)


def krige(points: Points, work: Work, rates: Rates, form: Coefficients) -> Fitted:
    """Fit the kriging law to what ``form`` leaves of all rows of ``points``."""
    known = kriging.coordinates(points.op, points.shape)
    residuals = trimmed(np.log(points.latency_s / forms.seconds(work, form, rates)), known.size)
    law = fit_law(known, residuals) if len(points) >= _ROWS_TO_KRIGE else None
    return Fitted(form, law, known, residuals)


def held_out_scores(
    points: Points,
    work: Work,
    rates: Rates,
    found: list[Coefficients],
    masks: list[_BoolArray],
    settings: Settings,
) -> Scores:
    """Predict the rows of each mask by the form and the kriging of the others.

    ``found`` are the forms that were fitted without the rows of each mask.
    """
    _, number = points.sites()
    everywhere = kriging.coordinates(points.op, points.shape)
    size = np.prod([points.shape[name] for name in forms.OP_CLASSES[points.op].band], axis=0)
    _, moment = np.unique(np.round(everywhere.size, 6), axis=0, return_inverse=True)
    moment = moment.reshape(-1)
    parts: list[Scores] = []
    for turn, (mask, form) in enumerate(zip(masks, found, strict=True)):
        fitted = krige(points.take(~mask), take(work, ~mask), rates, form)
        off = np.log(points.latency_s[mask] / forms.seconds(take(work, mask), form, rates))
        there = everywhere.take(mask)
        shift, sigma = fitted.correction(there, settings)
        seen = np.unique(fitted.known.site, axis=0)
        parts.append(
            Scores(
                error=off - shift,
                form_error=off,
                site=number[mask],
                size=size[mask],
                distance=kriging.nearest_site(there, seen),
                sigma=sigma,
                moment=moment[mask] + turn * len(points),
            )
        )
    return joined(parts)


def interpolation_scores(points: Points, work: Work, rates: Rates, fitted: Fitted) -> Scores:
    """Predict each size of the sweep, at all sites, from the other sizes.

    That is what a size in between costs at a site that was measured. The ends of the sweep are
    left out: nothing lies on their other side. Sizes take the place of sites, since all sites are
    off together where a size is (a kernel that switches).
    """
    if fitted.law is None:
        return joined([])
    known = fitted.known
    left = kriging.without_own_size(known, fitted.residuals, fitted.law)
    off = np.log(points.latency_s / forms.seconds(work, fitted.form, rates))
    # Kriging sees trimmed residuals, an interval has to hold the whole ones.
    error = left.error + off - fitted.residuals
    low, high = known.size.min(axis=0), known.size.max(axis=0)
    inside = ((known.size > low) & (known.size < high)).all(axis=1)
    size = np.prod([points.shape[name] for name in forms.OP_CLASSES[points.op].band], axis=0)
    found = Scores(error, off, left.size, size, np.zeros(len(off)), left.sigma, left.size)
    return found.take(inside)


def ends(points: Points, constants: int) -> list[_BoolArray]:
    """Return masks of the two largest and the two smallest octaves, where enough rows remain."""
    size = np.log2(np.prod([points.shape[n] for n in forms.OP_CLASSES[points.op].band], axis=0))
    cut = (size > size.max() - 2, size < size.min() + 2)
    least = 2 * constants + _ROWS_TO_KRIGE
    return [mask for mask in cut if mask.any() and (~mask).sum() >= least]


def per_octave(scores: Scores, cut: list[_BoolArray]) -> float:
    """Return how much the error grows per octave beyond the measured sizes.

    ``scores`` are of the rows that `ends` cut off; the larger of the 80 % quantiles at either end,
    spread over two octaves, is what one octave adds. A sweep that is too short to cut gives a
    tenth.
    """
    if not cut:
        return 0.1
    parts = np.split(np.abs(scores.error), np.cumsum([int(mask.sum()) for mask in cut])[:-1])
    return max(float(np.quantile(off, conformal.LEVEL)) / 2 for off in parts)


@one_thread("scipy.linalg", "scipy.optimize")
def calibrate_points(
    points: Points, rates: Rates, provenance: str, settings: Settings | None = None
) -> OpFit:
    """Return the calibrated operation of ``points``; they must be of one kernel and not empty."""
    settings = settings or Settings()
    work = count_points(points, rates)
    masks, protocol = splits(points, settings)
    names = choose(work, points.latency_s, rates, ladder(points.op, points.precision), masks[:6])
    cut = ends(points, len(names))
    kept = ~np.stack([np.zeros(len(points), dtype=bool), *masks, *cut])
    whole, *others = fit_forms(work, points.latency_s, rates, names, kept)
    scores = held_out_scores(points, work, rates, others[: len(masks)], masks, settings)
    beyond = held_out_scores(points, work, rates, others[len(masks) :], cut, settings)
    fitted = krige(points, work, rates, whole)
    between = joined([])
    if settings.keep_sites:
        between = interpolation_scores(points, work, rates, fitted)
    sites, _ = points.sites()
    edges = edges_of(points.op)
    form = fitted.form
    row = forms.OP_CLASSES[points.op]
    peak = rates.link if work.on_link else rates.bandwidth
    assert peak is not None, "counting would have told"
    return OpFit(
        op=points.op,
        precision=points.precision,
        kv_precision=points.kv_precision,
        kernel=points.kernel,
        framework=points.framework,
        compute_efficiency=_short(form.compute_efficiency),
        memory_efficiency=_short(form.memory_efficiency),
        t0_us=_short(form.t0_s * 1e6),
        exponent=_short(form.exponent) if np.isfinite(form.exponent) else None,
        wave=_short(form.wave),
        contention=_short(form.contention),
        host_floor_us=_short(form.host_floor_s * 1e6),
        l2_efficiency=_short(form.l2_efficiency),
        terms={name: _short(value) for name, value in form.terms.items()},
        peak_tflops=rates.flops / 1e12 if np.isfinite(rates.flops) else None,
        peak_gbps=peak / 1e9,
        units=rates.units,
        domain={
            name: Span(low=float(values.min()), high=float(values.max()))
            for name, values in points.shape.items()
        },
        sites=_sites(points, fitted.residuals) if fitted.law and settings.keep_sites else (),
        kriging=fitted.law if settings.keep_sites else None,
        surface=fitted.surface() if fitted.law and not settings.keep_sites else None,
        held_out=_held_out(scores, between, edges, len(sites), len(masks), protocol),
        intervals=Intervals(
            level=conformal.LEVEL,
            axis=row.band,
            bands=conformal.bands(scores, edges),
            measured=_measured(between, edges),
            shared=round(conformal.shared(scores), 3),
            measured_shared=round(conformal.shared(between), 3),
            per_octave=per_octave(beyond, cut),
            per_distance=conformal.per_distance(scores),
        ),
        provenance=provenance,
    )


def _short(value: float) -> float:
    """Return a constant to four digits; timings tell no more, and a bound of zero is zero."""
    return float(f"{value:.4g}") if abs(value) > 1e-7 else 0.0


def _sites(points: Points, residuals: FloatArray) -> tuple[Site, ...]:
    row = forms.OP_CLASSES[points.op]
    sites, number = points.sites()
    found = []
    for index, key in enumerate(sites):
        rows = number == index
        found.append(
            Site(
                key=dict(zip(row.site, key.tolist(), strict=True)),
                sizes={name: tuple(points.shape[name][rows].tolist()) for name in row.sizes},
                residuals=tuple(np.round(residuals[rows], 4).tolist()),
            )
        )
    return tuple(found)


def _measured(between: Scores, edges: tuple[float, ...]) -> tuple[Band, ...]:
    found = conformal.bands(between, edges)
    return found if all(band.enough for band in found) else ()


def _held_out(
    scores: Scores,
    between: Scores,
    edges: tuple[float, ...],
    sites: int,
    turns: int,
    protocol: str,
) -> HeldOut | None:
    if not len(scores.error):
        return None
    off, form_off = np.abs(np.expm1(-scores.error)), np.abs(np.expm1(-scores.form_error))
    inside = np.abs(np.expm1(-between.error))
    told = len(inside) > 0
    return HeldOut(
        measured_median=float(np.median(inside)) if told else None,
        measured_p90=float(np.quantile(inside, 0.9)) if told else None,
        measured_coverage=conformal.coverage(between, edges) if told else None,
        median=float(np.median(off)),
        p90=float(np.quantile(off, 0.9)),
        bias=float(np.median(np.expm1(-scores.error))),
        form_median=float(np.median(form_off)),
        form_p90=float(np.quantile(form_off, 0.9)),
        coverage=conformal.coverage(scores, edges),
        points=len(off),
        sites=sites,
        splits=turns,
        protocol=protocol,
    )
