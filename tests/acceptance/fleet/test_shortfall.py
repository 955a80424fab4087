"""How far from its equals a figure is said to be."""

from __future__ import annotations

import pytest

from roofprobe.acceptance.fleet.present import Metric
from roofprobe.acceptance.fleet.shortfall import _off


@pytest.mark.parametrize(
    ("better", "effect", "told"),
    [
        ("higher", -0.083, "8.3% below"), ("higher", 0.02, "2.0% above"),
        ("lower", -0.083, "8.3% worse than"), ("lower", 0.02, "2.0% better than"),
    ],
)  # fmt: skip
def test_a_latency_that_is_worse_is_not_said_to_be_below(
    better: str, effect: float, told: str
) -> None:
    metric = Metric("latency dram", "latency", "dram", "latency", "ns", better, "latency")
    assert _off(effect, metric) == told
