"""Fit the constants of the closed form: least squares on ln(t_hat / t), robust, bounded.

The loss is soft-L1 with scale 0.1, so that a row that is off by more than some 10 % (an outlier, a
kernel that switched) pulls linearly and not quadratically. Constants stay within physical bounds;
several starts guard against local minima. The form of a class is chosen from a ladder, simplest
first: a richer form must predict sites that it has not seen better by a margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel import forms
from roofprobe.costmodel.form_gradient import log_seconds
from roofprobe.costmodel.forms import Coefficients, FloatArray, Rates, Work
from roofprobe.costmodel.robust_fit import minimise

LOSS_SCALE: Final = 0.1
_LEAST_GAIN: Final = 0.03  # how much better a richer form must be to be taken


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant of the form: where the search starts and what bounds it."""

    start: float
    low: float
    high: float


# Efficiencies may pass 1: the datasheet is no bound, and caches serve what they hold. Exponents
# above 10 are a hard maximum to within a percent.
PARAMETERS: Final[Mapping[str, Parameter]] = MappingProxyType(
    {
        "compute_efficiency": Parameter(0.7, 0.01, 1.3),
        "memory_efficiency": Parameter(0.8, 0.01, 1.6),
        "t0_us": Parameter(6.0, 0.0, 2000.0),
        "exponent": Parameter(2.5, 1.0, 10.0),
        "wave": Parameter(0.3, 0.0, 1.2),
        "contention": Parameter(0.8, 0.0, 20.0),
        "l2_efficiency": Parameter(1.5, 0.1, 10.0),
        "host_floor_us": Parameter(0.0, 0.0, 5000.0),
        "quantise_passes": Parameter(2.0, 0.0, 20.0),
        "us_per_kilodepth": Parameter(0.3, 0.0, 20.0),
        "us_per_kilotoken": Parameter(5.0, 0.0, 100.0),
        "us_per_query_head": Parameter(0.002, 0.0, 0.1),
        "us_per_pair": Parameter(0.005, 0.0, 0.2),
        "us_per_hop": Parameter(0.5, 0.0, 50.0),
    }
)
_TERMS: Final = frozenset(name for name in PARAMETERS if name.startswith(("us_per", "quantise")))

_BASE: Final = ("compute_efficiency", "memory_efficiency", "t0_us")
_STREAMED: Final = ("memory_efficiency", "t0_us")
_SMOOTH: Final = (*_BASE, "exponent", "wave")
_PREFILL: Final = (_BASE, _SMOOTH, (*_SMOOTH, "us_per_kilotoken"))
_DECODE: Final = (
    _STREAMED,
    (*_STREAMED, "contention", "us_per_query_head"),
    (*_STREAMED, "contention", "us_per_query_head", "l2_efficiency"),
    (*_BASE, "contention", "us_per_query_head", "exponent"),
    (*_BASE, "contention", "us_per_query_head", "exponent", "l2_efficiency"),
)
# Class (and precision) → the forms to choose from, simplest first.
LADDERS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "gemm": (
            _BASE, _SMOOTH, (*_SMOOTH, "us_per_kilodepth"), (*_SMOOTH, "host_floor_us"),
            (*_SMOOTH, "us_per_kilodepth", "host_floor_us"),
        ),
        "attention_prefill": _PREFILL,
        "mla_prefill": _PREFILL,
        "attention_decode": _DECODE,
        "mla_decode": (
            _BASE, (*_BASE, "exponent"), (*_BASE, "exponent", "us_per_query_head"),
        ),
        "grouped_gemm": (_BASE, (*_BASE, "exponent"), (*_BASE, "exponent", "us_per_pair")),
        "elementwise": (_STREAMED,),
        "collective": (_STREAMED, (*_STREAMED, "us_per_hop")),
    }
)  # fmt: skip
QUANTISED: Final = frozenset({"fp8", "fp8-block", "int8", "mxfp8", "nvfp4"})


def ladder(op: str, precision: str) -> tuple[tuple[str, ...], ...]:
    """Return the forms of a class to choose from; quantised products also quantise activations."""
    forms_of_class = LADDERS[forms.OP_CLASSES[op].counts]
    if op == "gemm" and precision in QUANTISED:
        return tuple((*names, "quantise_passes") for names in forms_of_class)
    return forms_of_class


def coefficients(names: Sequence[str], values: FloatArray) -> Coefficients:
    """Return constants from a vector of fitted values; what is not fitted has no effect."""
    given = dict(zip(names, (float(value) for value in values), strict=True))
    exponent = given.get("exponent", float("inf"))
    return Coefficients(
        compute_efficiency=given.get("compute_efficiency", 1.0),
        memory_efficiency=given.get("memory_efficiency", 1.0),
        t0_s=given.get("t0_us", 0.0) * 1e-6,
        exponent=exponent,
        wave=given.get("wave", 0.0),
        contention=given.get("contention", 0.0),
        host_floor_s=given.get("host_floor_us", 0.0) * 1e-6,
        l2_efficiency=given.get("l2_efficiency", 0.0),
        terms={
            name: value
            for name, value in given.items()
            if name in _TERMS and value > 1e-6 * PARAMETERS[name].high
        },
    )


def fit_forms(
    work: Work,
    latency_s: FloatArray,
    rates: Rates,
    names: Sequence[str],
    kept: NDArray[np.bool_],
    *,
    starts: int = 2,
    seed: int = 0,
) -> list[Coefficients]:
    """Return the constants ``names`` that bring ``work`` nearest to ``latency_s`` (seconds).

    One element per row of ``kept`` (sets, rows of work), which says which rows count.
    """
    low = np.array([PARAMETERS[name].low for name in names])
    high = np.array([PARAMETERS[name].high for name in names])
    start = np.array([PARAMETERS[name].start for name in names])
    sets = len(kept)
    begin = np.tile(start, (sets, 1))
    least_us = np.array([latency_s[rows].min() * 1e6 for rows in kept])
    for i, name in enumerate(names):
        if name == "t0_us":
            begin[:, i] = 0.6 * least_us
        elif name == "host_floor_us":
            begin[:, i] = 1.05 * least_us  # below all rows it would have no gradient
    scale = np.maximum(np.median(begin, axis=0), 1e-3 * high)
    rng = np.random.default_rng(seed)
    jitter = np.exp(rng.normal(0.0, 0.4, (starts, len(names))))
    jitter[0] = 1.0
    begins = np.clip(begin * jitter[:, None], low + 1e-6 * scale, high - 1e-6 * scale)
    found, cost = minimise(
        lambda values: log_seconds(work, rates, names, values),
        np.log(latency_s),
        np.tile(kept, (starts, 1)),
        begins.reshape(-1, len(names)),
        low,
        high,
        scale,
        LOSS_SCALE,
    )
    best = cost.reshape(starts, sets).argmin(axis=0)
    return [coefficients(names, found[one * sets + at]) for at, one in enumerate(best)]


def take(work: Work, rows: NDArray[np.bool_]) -> Work:
    """Return some of the rows of counted work."""
    return Work(
        work.flops[rows], work.bytes[rows], work.fill[rows], work.streams[rows],
        {name: values[rows] for name, values in work.terms.items()}, work.on_link,
    )  # fmt: skip


def choose(
    work: Work,
    latency_s: FloatArray,
    rates: Rates,
    candidates: Sequence[tuple[str, ...]],
    held_out: Sequence[NDArray[np.bool_]],
) -> tuple[str, ...]:
    """Return the simplest form whose error at held-out rows no richer one beats by a margin.

    ``held_out`` are masks of rows that are left out in turn. A form with more constants than half
    of the rows is not tried.
    """
    best, least = candidates[0], float("inf")
    if not held_out:
        return best
    masks = np.stack(held_out)
    for names in candidates:
        if 2 * len(names) > len(latency_s) and names != candidates[0]:
            continue
        errors = []
        found = fit_forms(work, latency_s, rates, names, ~masks, starts=1)
        for mask, c in zip(masks, found, strict=True):
            predicted = forms.seconds(take(work, mask), c, rates)
            errors.append(np.minimum(np.abs(np.log(latency_s[mask] / predicted)), 0.5))
        error = float(np.mean(np.concatenate(errors)))
        if error < least * (1 - _LEAST_GAIN):
            best, least = names, error
    return best
