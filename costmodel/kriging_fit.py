"""Find how residuals hang together: maximum a posteriori of the kriging law's constants.

The likelihood is that of a Gaussian process; a weak prior keeps what a handful of sites cannot
tell near what op tables of many GPUs have in common. Residuals are trimmed first: a lone row far
off its neighbours (a bad measurement) must not pull theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibration_file import Kriging
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.kriging import Coordinates, distance

# ln of the usual value of each constant, and how far it may be off: standard deviations of ln t
# are known to a factor of e, ranges (octaves) to a factor of two.
_FIELDS: Final = (
    ("common_sd", 0.07, 1.0), ("common_range", 1.5, 0.7), ("site_sd", 0.05, 1.0),
    ("site_range", 1.5, 0.7), ("local_sd", 0.07, 1.0), ("local_size_range", 1.5, 0.7),
    ("local_site_range", 1.5, 0.7), ("joint_sd", 0.05, 1.0), ("joint_range", 0.5, 0.7),
    ("noise_sd", 0.03, 0.7),
)  # fmt: skip
_USUAL: Final = np.log([usual for _, usual, _ in _FIELDS])
_LOOSE: Final = np.array([loose for _, _, loose in _FIELDS])
_SAMPLE: Final = 160  # rows that the likelihood looks at; its cost grows with the cube
TRIM_LOG: Final = 0.15
_TRIM_FAR: Final = 0.5
_ROUNDS: Final = 20


def law_of(values: FloatArray) -> Kriging:
    """Return the law of a vector of logarithms."""
    names = [name for name, _, _ in _FIELDS]
    return Kriging(**dict(zip(names, np.exp(values).tolist(), strict=True)))


def trimmed(residuals: FloatArray, size: FloatArray) -> FloatArray:
    """Return residuals pulled in to the median of their size plus or minus `TRIM_LOG`.

    With fewer than five rows of one size there is no median to hold them against: half of ln t
    bounds them.
    """
    out = np.clip(residuals, -_TRIM_FAR, _TRIM_FAR)
    _, number = np.unique(size, axis=0, return_inverse=True)
    number = number.reshape(-1)
    for group in range(number.max() + 1 if len(number) else 0):
        rows = number == group
        if rows.sum() >= 5:
            middle = np.median(residuals[rows])
            out[rows] = middle + np.clip(residuals[rows] - middle, -TRIM_LOG, TRIM_LOG)
    return out


def fit_law(known: Coordinates, residuals: FloatArray, *, seed: int = 0) -> Kriging:
    """Return the kriging law of trimmed residuals."""
    from scipy.optimize import minimize

    rows: NDArray[np.intp] = np.arange(len(residuals))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    cost = cost_of(known.take(rows), residuals[rows])
    bounds = list(zip(_USUAL - 4 * _LOOSE, _USUAL + 4 * _LOOSE, strict=True))
    found = minimize(
        cost, _USUAL, jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS}, bounds=bounds
    )
    law = law_of(found.x)
    return law if known.joint.shape[1] else law.model_copy(update={"joint_sd": 0.0})


def cost_of(
    points: Coordinates, values: FloatArray
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Return -ln(posterior) of the law's logarithms, with its slope.

    With W = K⁻¹ - a·aᵀ and a = K⁻¹·y the slope along a constant is half the sum of W · dK, element
    by element (Rasmussen and Williams, 2006, section 5.4.1).
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    size, site = distance(points.size, points.size), distance(points.site, points.site)
    joint = distance(points.joint, points.joint) if points.joint.shape[1] else None
    diagonal = np.diag_indices(len(values))

    def cost(logs: FloatArray) -> tuple[float, FloatArray]:
        law = np.exp(logs)
        common = law[0] ** 2 * np.exp(-size / law[1])
        of_site = law[2] ** 2 * np.exp(-site / law[3])
        local = law[4] ** 2 * np.exp(-size / law[5] - site / law[6])
        k = common + of_site + local
        if joint is not None:
            tiles = law[7] ** 2 * np.exp(-joint / law[8])
            k += tiles
        k[diagonal] += law[9] ** 2
        factor, failed = dpotrf(k, lower=1)
        slope = (logs - _USUAL) / _LOOSE**2
        prior = 0.5 * float((((logs - _USUAL) / _LOOSE) ** 2).sum())
        if failed:
            return 1e9, slope
        lower, _ = dpotri(factor, lower=1)
        inverse = np.tril(lower) + np.tril(lower, -1).T
        solved = inverse @ values
        outer = inverse - np.outer(solved, solved)
        slope[0] += np.vdot(outer, common)
        slope[1] += 0.5 * np.vdot(outer, common * size) / law[1]
        slope[2] += np.vdot(outer, of_site)
        slope[3] += 0.5 * np.vdot(outer, of_site * site) / law[3]
        slope[4] += np.vdot(outer, local)
        slope[5] += 0.5 * np.vdot(outer, local * size) / law[5]
        slope[6] += 0.5 * np.vdot(outer, local * site) / law[6]
        if joint is not None:
            slope[7] += np.vdot(outer, tiles)
            slope[8] += 0.5 * np.vdot(outer, tiles * joint) / law[8]
        slope[9] += law[9] ** 2 * np.trace(outer)
        volume = float(np.log(np.diag(factor)).sum())
        return 0.5 * float(values @ solved) + volume + prior, slope

    return cost
