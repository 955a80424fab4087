"""Hand-made measurements; the figures are round and of no real device."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.records.schema import Case, Distribution, Measurement, Span

CASE_FIELDS = frozenset(Case.model_fields)


def distribution(median: float, unit: str = "TFLOPS", n: int = 10) -> Distribution:
    return Distribution(
        unit=unit, median=median, ci_low=median, ci_high=median, p10=median, p90=median,
        best=median, n=n,
    )  # fmt: skip


class Maker:
    """Makes measurements of one row: ``make(800.0, role="anchor", clock=1500.0)``."""

    distribution = staticmethod(distribution)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, tflops: float | None = None, **fields: Any) -> Measurement:
        self.count += 1
        case = {name: fields.pop(name) for name in list(fields) if name in CASE_FIELDS}
        clock = fields.pop("clock", None)
        if clock is not None:
            fields["clock_mhz"] = Span(min=clock, median=clock, max=clock)
        made: dict[str, Any] = {
            "case_id": f"case-{self.count}",
            "family": "compute",
            "op": "pipe" if case.get("role") == "pipe" else "gemm",
            "precision": "bf16",
            "route": "torch.mm",
            "shape": {"m": 1, "n": 1, "k": 1},
            "row": case.get("precision", "bf16"),
            "pipe": "tensor",
            **case,
        }
        if tflops is not None:
            fields.setdefault("rate", distribution(tflops))
        fields.setdefault("status", "ok" if tflops is not None else "skipped")
        fields.setdefault("device_id", "GPU-x")
        return Measurement(case=Case(**made), **fields)


@pytest.fixture
def make() -> Maker:
    return Maker()
