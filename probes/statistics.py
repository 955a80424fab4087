"""The statistics of repeated timings: medians with confidence intervals, one code for all probes.

Timings are skewed (nothing runs faster than the hardware, much can make it slower), so the median
is the headline and the interval is distribution-free. While sampling goes on, the interval of the
median comes from order statistics (a binomial argument, no resampling, cheap enough to ask after
each sample); the reported one is a percentile bootstrap over all samples.

Source of the order-statistic interval: Hahn and Meeker, "Statistical Intervals", section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from roofprobe.records.schema import Distribution

CI_LEVEL = 0.95
_Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
_RESAMPLES = 1000
_RESAMPLED_VALUES = 2_000_000


def relative_ci_halfwidth(ordered: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the median, relative to the median.

    Order statistics n/2 ± z·√n/2 bound the median whatever the distribution. Infinite below six
    samples, where no such pair exists. The samples are in ascending order: whoever asks after each
    keeps them so, and the answer takes a microsecond.
    """
    n = len(ordered)
    if n < 6:
        return math.inf
    reach = _Z * math.sqrt(n) / 2
    low = max(0, math.floor(n / 2 - reach) - 1)  # ranks floor(n/2 − z√n/2) and
    high = min(n - 1, math.ceil(n / 2 + reach))  # ceil(1 + n/2 + z√n/2), counted from one
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    if median <= 0:
        return math.inf
    return (ordered[high] - ordered[low]) / 2 / median


def summarise(samples: Sequence[float], unit: str, *, lower_is_better: bool) -> Distribution:
    """Return median, bootstrap interval, p10, p90 and best of ``samples`` (at least one).

    The bootstrap is seeded, so the same samples give the same interval.
    """
    values = np.asarray(samples, dtype=np.float64)
    assert values.ndim == 1, values.shape
    assert values.size, "no samples"
    low, high = _bootstrap_median(values)
    return Distribution(
        unit=unit,
        median=float(np.median(values)),
        ci_low=low,
        ci_high=high,
        p10=float(np.percentile(values, 10)),
        p90=float(np.percentile(values, 90)),
        best=float(values.min() if lower_is_better else values.max()),
        n=int(values.size),
        ci_level=CI_LEVEL,
    )


def rates(latencies_us: Sequence[float], amount: float, unit: str) -> Distribution:
    """Return the distribution of amount/time: TFLOPS and TOPS per 1e12, GB/s per 1e9, per second.

    The median rate is the amount over the median time, so that both headlines agree.
    """
    scale = {"TFLOPS": 1e12, "TOPS": 1e12, "GB/s": 1e9}[unit]
    latency = summarise(latencies_us, "us", lower_is_better=True)

    def rate(us: float) -> float:
        return amount / (us * 1e-6) / scale

    return Distribution(
        unit=unit,
        median=rate(latency.median),
        ci_low=rate(latency.ci_high),
        ci_high=rate(latency.ci_low),
        p10=rate(latency.p90),
        p90=rate(latency.p10),
        best=rate(latency.best),
        n=latency.n,
        ci_level=latency.ci_level,
    )


def _bootstrap_median(values: np.ndarray) -> tuple[float, float]:
    n = values.size
    if n == 1:
        return float(values[0]), float(values[0])
    generator = np.random.default_rng(0)
    resamples = max(200, min(_RESAMPLES, _RESAMPLED_VALUES // n))
    medians = np.median(values[generator.integers(0, n, size=(resamples, n))], axis=1)
    tail = (1 - CI_LEVEL) / 2 * 100
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)
