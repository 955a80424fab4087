"""Find how residuals hang together: maximum a posteriori of the kriging law's constants.

The likelihood is that of a Gaussian process; a weak prior keeps what a handful of sites cannot
tell near what op tables of many GPUs have in common. Residuals are trimmed first: a lone row far
off its neighbours (a bad measurement) must not pull theirs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibration_file import Kriging
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.kriging import Coordinates, covariance

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
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    rows: NDArray[np.intp] = np.arange(len(residuals))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    points, values = known.take(rows), residuals[rows]

    def cost(logs: FloatArray) -> float:
        law = law_of(logs)
        k = covariance(points, points, law)
        k[np.diag_indices_from(k)] += law.noise_sd**2
        try:
            factor = cho_factor(k, lower=True)
        except np.linalg.LinAlgError:
            return 1e9
        fit = 0.5 * float(values @ cho_solve(factor, values))
        volume = float(np.log(np.diag(factor[0])).sum())
        prior = 0.5 * float((((logs - _USUAL) / _LOOSE) ** 2).sum())
        return fit + volume + prior

    bounds = list(zip(_USUAL - 4 * _LOOSE, _USUAL + 4 * _LOOSE, strict=True))
    found = minimize(cost, _USUAL, method="L-BFGS-B", options={"maxiter": 20}, bounds=bounds)
    return law_of(found.x)
