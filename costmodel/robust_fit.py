"""Least squares of ln t with a soft-L1 loss within bounds, for many sets of rows at once.

Levenberg's and Marquardt's damped Gauss-Newton steps (Marquardt, SIAM J. Appl. Math. 1963), cut at
the bounds; a constant that lies at a bound and is pushed beyond it rests. The loss of a residual x
is f²(sqrt(1 + (x/f)²) - 1), whose second derivative (1 + (x/f)²)^(-3/2) is never negative, so it
weighs the step. All sets (which rows are held out) and starts advance together in one numpy pass;
those that have converged drop out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.forms import FloatArray

_ROUNDS: Final = 100
_CONVERGED: Final = 1e-7  # relative gain of the cost below which a set is done
_DAMPING: Final = (1e-2, 1e8)
# ln t and its derivatives (constants, sets, rows) at constants (sets, constants)
Model = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


def minimise(
    model: Model,
    target: FloatArray,
    rows: NDArray[np.bool_],
    begin: FloatArray,
    low: FloatArray,
    high: FloatArray,
    scale: FloatArray,
    loss_scale: float,
) -> tuple[FloatArray, FloatArray]:
    """Return the best constants (sets, constants) and their costs (sets).

    ``rows`` (sets, rows) says which rows of ``target`` count; ``begin`` is where each set starts.
    """

    def look(values: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the cost, its slope and its curvature per unit of ``scale``."""
        logs, jacobian = model(values)
        jacobian = jacobian * scale[:, None, None]
        off = (logs - target) * counts
        rise = np.sqrt(1 + (off / loss_scale) ** 2)
        cost = loss_scale**2 * ((rise - 1) * counts).sum(1)
        slope = np.einsum("psn,sn->sp", jacobian, off / rise)
        weighed = (jacobian * (counts / rise**3)).transpose(1, 0, 2)
        return cost, slope, weighed @ jacobian.transpose(1, 2, 0)

    best = begin.copy()
    counts = rows.astype(float)
    cost, slopes, curves = look(best, counts)
    damping = np.full(len(best), _DAMPING[0])
    active = np.arange(len(best))
    for _ in range(_ROUNDS):
        at, slope, curve = best[active], slopes[active], curves[active]
        rests = ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))
        slope = np.where(rests, 0.0, slope)
        curve = np.where(rests[:, :, None] | rests[:, None, :], 0.0, curve)
        diagonal = np.einsum("spp->sp", curve)  # a view
        diagonal += damping[active, None] * np.maximum(diagonal, 1e-9) + 1e-12
        step = np.linalg.solve(curve, -slope[:, :, None])[:, :, 0]
        tried = np.clip(at + step * scale, low, high)
        new_cost, new_slopes, new_curves = look(tried, counts[active])
        gain = (cost[active] - new_cost) / np.maximum(cost[active], 1e-30)
        better = gain > 0
        won = active[better]
        best[won], cost[won] = tried[better], new_cost[better]
        slopes[won], curves[won] = new_slopes[better], new_curves[better]
        damping[active] *= np.where(better, 0.3, 5.0)
        active = active[~(better & (gain < _CONVERGED)) & (damping[active] < _DAMPING[1])]
        if not len(active):
            break
    return best, cost
