"""What measured neighbours say about the error of a closed form, by kriging (a Gaussian process).

The closed form is wrong in ways that hang together: every weight at one m shares a kernel choice,
one weight is fast or slow at all m, two shapes with the same number of tiles fill the same last
wave. So the residual ln(measured / form) is taken for a sum of such parts, each fading with the
distance in octaves,

    common(size) + site(n, k) + local(size, n, k) + joint(tiles) + noise,

and a new point gets the mean that this gives. Against the inverse-distance mean of the four nearest
sites at the same m, that lowered the held-out error of published matrix-product tables with 14
sites by up to a third and interpolates between sizes as well; far from everything it fades to zero.
(Krige 1951; Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 2.2.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibration_file import Kriging, Site, Surface
from roofprobe.costmodel.forms import OP_CLASSES, FloatArray

_CHUNK = 250_000  # elements of one block of covariances: what a cache holds


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Points (rows) in octaves along the size, site and joint axes of an operation's class."""

    size: FloatArray
    site: FloatArray
    joint: FloatArray

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Coordinates:
        """Return some of the points."""
        return Coordinates(self.size[rows], self.site[rows], self.joint[rows])


def coordinates(op: str, shape: Mapping[str, FloatArray]) -> Coordinates:
    """Return flat arrays of shapes as points; keywords that a site lacks count as 1."""
    row = OP_CLASSES[op]
    count = len(next(iter(shape.values())))

    def along(axes: tuple[tuple[str, ...], ...]) -> FloatArray:
        columns = [sum(np.log2(np.maximum(shape[n], 1e-9)) for n in axis) for axis in axes]
        return np.stack(columns, 1) if columns else np.zeros((count, 0))

    return Coordinates(
        along(row.size_axes), along(tuple((name,) for name in row.site)), along(row.joint_axes)
    )


def distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return Euclidean distances (rows of a, rows of b)."""
    total = np.zeros((len(a), len(b)))
    for axis in range(a.shape[1]):
        total = total + np.square(a[:, axis, None] - b[None, :, axis])
    root: FloatArray = np.sqrt(total)
    return root


def covariance(a: Coordinates, b: Coordinates, law: Kriging) -> FloatArray:
    """Return the covariance of residuals between points (rows of a, rows of b), without noise."""
    size, site = distance(a.size, b.size), distance(a.site, b.site)
    total: FloatArray = law.common_sd**2 * np.exp(-size / law.common_range)
    total += law.site_sd**2 * np.exp(-site / law.site_range)
    total += law.local_sd**2 * np.exp(-size / law.local_size_range - site / law.local_site_range)
    if a.joint.shape[1] and law.joint_sd:
        total += law.joint_sd**2 * np.exp(-distance(a.joint, b.joint) / law.joint_range)
    return total


def weights(known: Coordinates, residuals: FloatArray, law: Kriging) -> FloatArray:
    """Return what `mean` multiplies covariances with: (K + noise²)⁻¹ · residuals."""
    k = covariance(known, known, law)
    k[np.diag_indices_from(k)] += law.noise_sd**2
    solved: FloatArray = np.asarray(np.linalg.solve(k, residuals), dtype=np.float64)
    return solved


def mean(points: Coordinates, known: Coordinates, law: Kriging, solved: FloatArray) -> FloatArray:
    """Return the expected residual, ln t, at each point."""
    return predict(points, known, law, solved)[0]


def predict(
    points: Coordinates, known: Coordinates, law: Kriging, solved: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the expected residual at each point and its standard deviation, both ln t.

    The deviation is that of kriging from the nearest known point alone, with noise: at least as
    much as all of them leave, for the price of a maximum. Conformal quantiles put it to scale.
    """
    middle, nearest = look(points, known, law, solved)
    return middle, deviation(nearest, law)


def look(
    points: Coordinates, known: Coordinates, law: Kriging, solved: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the expected residual at each point and its largest covariance with a known one."""
    step = max(1, _CHUNK // max(1, len(solved)))
    middle, nearest = [np.zeros(0)], [np.zeros(0)]
    for start in range(0, len(points.size), step):
        shared = covariance(points.take(slice(start, start + step)), known, law)
        middle.append(shared @ solved)
        nearest.append(shared.max(axis=1, initial=0.0))
    return np.concatenate(middle), np.concatenate(nearest)


def deviation(nearest: FloatArray, law: Kriging) -> FloatArray:
    """Return the standard deviation of ln t where ``nearest`` is the largest covariance."""
    prior = law.common_sd**2 + law.site_sd**2 + law.local_sd**2 + law.joint_sd**2
    left = prior - nearest**2 / (prior + law.noise_sd**2)
    sd: FloatArray = np.sqrt(np.maximum(left, 0.0) + law.noise_sd**2)
    return sd


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What kriging says of known points without those of their own size: ln t, and which size."""

    error: FloatArray
    sigma: FloatArray
    size: NDArray[np.intp]


def without_own_size(known: Coordinates, residuals: FloatArray, law: Kriging) -> LeftOut:
    """Predict all points of each size, at all sites, from those of the other sizes.

    With A = (K + noise²)⁻¹ and B the points of one size the errors are (A_BB)⁻¹ (A·r)_B, so that
    nothing is solved anew (Dubrule, Mathematical Geology 1983).
    """
    k = covariance(known, known, law)
    _, size = np.unique(np.round(known.size, 6), axis=0, return_inverse=True)
    size = size.reshape(-1)
    nearest = np.where(size[:, None] == size[None, :], 0.0, k).max(axis=1, initial=0.0)
    k[np.diag_indices_from(k)] += law.noise_sd**2
    inverse = np.linalg.inv(k)
    solved = inverse @ residuals
    error = np.zeros(len(residuals))
    for number in range(int(size.max()) + 1 if len(size) else 0):
        rows = np.flatnonzero(size == number)
        error[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows])
    return LeftOut(error, deviation(nearest, law), size)


def common_surface(known: Coordinates, law: Kriging, solved: FloatArray, step: float) -> Surface:
    """Return the part that all sites share, on a grid of ``step`` octaves over the known sizes."""
    knots = []
    for axis in range(known.size.shape[1]):
        low, high = known.size[:, axis].min(), known.size[:, axis].max()
        count = max(1, round((high - low) / step))
        knots.append(tuple(np.round(np.linspace(low, high, count + 1), 3).tolist()))
    grid = np.stack(
        [g.ravel() for g in np.meshgrid(*(np.array(k) for k in knots), indexing="ij")], 1
    )
    points = Coordinates(grid, np.zeros((len(grid), known.site.shape[1])),
                         np.zeros((len(grid), known.joint.shape[1])))  # fmt: skip
    shared = law.model_copy(update={"site_sd": 0.0, "local_sd": 0.0, "joint_sd": 0.0})
    values = mean(points, known, shared, solved)
    return Surface(knots=tuple(knots), values=tuple(np.round(values, 3).tolist()))


def nearest_site(points: Coordinates, sites: FloatArray) -> FloatArray:
    """Return the distance in octaves from each point to the nearest of ``sites`` (rows)."""
    if not sites.shape[1] or not len(sites):
        return np.zeros(len(points.site))
    nearest: FloatArray = distance(points.site, sites).min(axis=1)
    return nearest


def known_points(op: str, sites: tuple[Site, ...]) -> tuple[Coordinates, FloatArray]:
    """Return all measured points of a calibration and their residuals."""
    shape: dict[str, list[float]] = {name: [] for name in OP_CLASSES[op].shape}
    residuals: list[float] = []
    for site in sites:
        residuals += site.residuals
        for name, value in site.key.items():
            shape[name] += [value] * len(site.residuals)
        for name, values in site.sizes.items():
            shape[name] += values
    arrays = {name: np.array(values, dtype=float) for name, values in shape.items()}
    return coordinates(op, arrays), np.array(residuals)


def interpolate(surface: Surface, size: FloatArray) -> FloatArray:
    """Return the surface's ln t at points (rows of log2 sizes), linear between the knots."""
    shape = tuple(len(knots) for knots in surface.knots)
    values = np.asarray(surface.values).reshape(shape)
    total = np.zeros(len(size))
    corners: list[tuple[FloatArray, list[NDArray[np.intp]]]] = [(np.ones(len(size)), [])]
    for axis, knots in enumerate(surface.knots):
        grid = np.asarray(knots)
        at = np.clip(size[:, axis], grid[0], grid[-1])
        low = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, max(len(grid) - 2, 0))
        high = np.minimum(low + 1, len(grid) - 1)
        width = grid[high] - grid[low]
        share = np.where(width > 0, (at - grid[low]) / np.where(width > 0, width, 1.0), 0.0)
        corners = [
            (weight * part, [*index, chosen])
            for weight, index in corners
            for part, chosen in ((1 - share, low), (share, high))
        ]
    for weight, index in corners:
        total += weight * values[tuple(index)]
    return total
