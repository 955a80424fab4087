"""Derivatives agree with differences, and the formula with the one that predicts."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel import forms
from roofprobe.costmodel.closed_fit import PARAMETERS, coefficients, ladder
from roofprobe.costmodel.form_gradient import log_seconds
from roofprobe.costmodel.forms import Rates

RATES = Rates(1e15, 3e12, link=4e11, units=132, l2_bytes=5e7)
HEADS = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0}


def spread(seed: int, low: float, high: float) -> np.ndarray:
    return np.asarray(2.0 ** np.random.default_rng(seed).uniform(low, high, 40))


@pytest.mark.parametrize(
    ("op", "precision", "shape"),
    [
        ("gemm", "fp8", {"m": spread(0, 0, 14), "n": 4096.0, "k": spread(1, 8, 14)}),
        ("attention_decode", "bf16",
         {"batch": spread(2, 0, 8), "kv_len": spread(3, 2, 16), **HEADS}),
        ("attention_prefill", "bf16",
         {"batch": spread(4, 0, 5), "query_len": spread(5, 2, 13), "kv_len": 9000.0, **HEADS}),
        ("all_reduce", "bf16", {"bytes": spread(6, 10, 30), "ranks": 4.0}),
    ],
)  # fmt: skip
def test_slopes_are_those_of_the_predicting_formula(
    op: str, precision: str, shape: dict[str, np.ndarray]
) -> None:
    work = forms.count(op, precision, shape, RATES)
    for names in ladder(op, precision):
        start = np.array([PARAMETERS[name].start or 5.0 for name in names])
        values = np.stack([start, np.minimum(1.3 * start, [PARAMETERS[n].high for n in names])])
        logs, jacobian = log_seconds(work, RATES, names, values)
        for row, found in zip(values, logs, strict=True):
            expected = forms.seconds(work, coefficients(names, row), RATES)
            assert np.exp(found) == pytest.approx(expected, rel=1e-9)
        for i, name in enumerate(names):
            step = np.zeros(len(names))
            step[i] = 1e-6 * start[i]
            up, down = (log_seconds(work, RATES, names, values + s)[0] for s in (step, -step))
            assert jacobian[i] == pytest.approx((up - down) / (2 * step[i]), 1e-4, 1e-7), name
