"""The closed form's ln t with its derivatives, for many vectors of constants at once.

The same formula as `forms.seconds`, written for fitting: constants are rows of an array (one per
start and set of held-out rows), so that one pass of numpy serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from roofprobe.costmodel.forms import L2_KEEPS, FloatArray, Rates, Work

# What a constant is while it is not fitted: without effect.
_IDLE: Final[Mapping[str, float]] = {"compute_efficiency": 1.0, "memory_efficiency": 1.0}
_LEAST: Final = 1e-300


def log_seconds(
    work: Work, rates: Rates, names: Sequence[str], values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return ln t (rows of ``values``, rows of ``work``) and its derivatives by ``names``.

    The derivatives have one more axis, the constants, in front: (constants, values, work).
    """
    c = {name: values[:, i, None] for i, name in enumerate(names)}
    slopes: dict[str, FloatArray] = {}  # of t, in seconds per unit of the constant

    def of(name: str) -> FloatArray | float:
        return c.get(name, _IDLE.get(name, 0.0))

    compute = work.flops / (of("compute_efficiency") * rates.flops)
    if "wave" in c:
        compute = compute * np.exp(-of("wave") * np.log(work.fill))
    speed = rates.link if work.on_link else rates.bandwidth
    assert speed is not None, "a collective needs the link's bandwidth"
    share = np.zeros_like(work.bytes)
    if "l2_efficiency" in c and rates.l2_bytes:
        share = np.clip(2 - work.bytes / (L2_KEEPS * rates.l2_bytes), 0.0, 1.0)
    reached = of("memory_efficiency") * (1 - share) + of("l2_efficiency") * share
    crowd = 1 + of("contention") / work.streams
    memory = work.bytes / (reached * speed) * crowd
    high, low = np.maximum(compute, memory), np.minimum(compute, memory)
    ratio = low / np.maximum(high, _LEAST)
    if "exponent" in c:
        r = of("exponent")
        log_ratio = np.log(np.maximum(ratio, _LEAST))
        power = np.exp(r * log_ratio)
        joined = np.log1p(power) / r
        both = high * np.exp(joined)
        by_high = np.exp(joined * (1 - r))  # (high / both)^(r - 1)
        by_low = by_high * np.exp((r - 1) * log_ratio)
        slopes["exponent"] = both * (power * log_ratio / (1 + power) - joined) / r
    else:
        both, by_high, by_low = high, np.ones_like(high), np.zeros_like(high)
    computes = compute >= memory
    by_compute = np.where(computes, by_high, by_low)
    by_memory = np.where(computes, by_low, by_high)
    slopes["compute_efficiency"] = -by_compute * compute / of("compute_efficiency")
    if "wave" in c:
        slopes["wave"] = -by_compute * compute * np.log(work.fill)
    if "l2_efficiency" in c:
        slopes["l2_efficiency"] = -by_memory * memory * share / reached
    slopes["memory_efficiency"] = -by_memory * memory * (1 - share) / reached
    if "contention" in c:
        slopes["contention"] = by_memory * memory / (crowd * work.streams)
    total = of("t0_us") * 1e-6 + both
    slopes["t0_us"] = np.full_like(both, 1e-6)
    for name in names:
        if name in work.terms:
            total = total + c[name] * work.terms[name]
            slopes[name] = np.broadcast_to(work.terms[name], both.shape)
    floor = of("host_floor_us") * 1e-6
    bare = total >= floor
    total = np.maximum(total, floor)
    slopes["host_floor_us"] = np.where(bare, 0.0, 1e-6)
    jacobian = np.stack([slopes[name] for name in names])
    for i, name in enumerate(names):
        if name != "host_floor_us":
            jacobian[i] *= bare
    return np.log(total), jacobian / total
