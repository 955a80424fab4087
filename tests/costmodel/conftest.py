"""Doubles of the cost model: a calibration whose times are simple to add up by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from roofprobe.costmodel.calibration import Estimate
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.hardware import Hardware
from roofprobe.records.schema import Reason

GIB = 1 << 30


@dataclass
class PlainCalibration:
    """Each operation takes what its entry of ``seconds`` says (a function of its shape, or 0)."""

    seconds: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    log_spread: float = 0.0
    shared: float = 1.0
    refuse: frozenset[str] = frozenset()
    provenance: tuple[Any, ...] = ()
    hardware: Hardware = field(
        default_factory=lambda: Hardware(
            name="plain",
            catalogue_key=None,
            memory_bytes=80 * GIB,
            units=100,
            peak_flops={"bf16": 1e15, "fp8": 2e15},
            bandwidth=1e12,
            link=1e11,
            l2_bytes=None,
            sources={},
        )
    )

    def supports(self, op: str, precision: str, kv_precision: str | None = None) -> Reason | None:
        if op in self.refuse:
            return Reason(code="not-measured", sentence=f"{op} was never measured on plain.")
        return None

    def fits(self, op: str, precision: str, kv_precision: str | None = None) -> list[Any]:
        return []

    def time(
        self, op: str, precision: str, *, kv_precision: str | None = None, **shape: Any
    ) -> Estimate:
        arrays = np.broadcast_arrays(*map(_array, shape.values()))
        size = arrays[0].shape
        at = dict(zip(shape, arrays, strict=True))
        asked: Callable[..., Any] = self.seconds.get(op, _free)
        median = np.zeros(size) + _array(asked(**at))
        return Estimate(
            median,
            np.full(size, self.log_spread),
            np.zeros(size, dtype=np.int64),
            np.full(size, self.shared),
        )


def _free(**_: Any) -> float:
    return 0.0


def _array(value: Any) -> FloatArray:
    return np.asarray(value, dtype=np.float64)


@pytest.fixture
def plain_calibration() -> type[PlainCalibration]:
    """Give the class of the double."""
    return PlainCalibration
