"""What a fleet is now: of each device its latest run, as a table, and its metrics as a matrix.

A device is known by its id where that is one in the world (a UUID), else by host and id. The matrix
holds logarithms with the sign that makes more better, so that a difference of two is a ratio of
speeds in any metric, and a missing figure is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.acceptance.fleet.fleet_verdict import Aspect
from roofprobe.acceptance.fleet.robust import Array

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

NORMAL_95: Final = 1.96
_UNIQUE_ID: Final = 16  # characters; a UUID has 36, "cpu" or "cuda:0" less
OWNER: Final = (
    f"CASE WHEN length(device_id) >= {_UNIQUE_ID} THEN device_id ELSE host || '/' || device_id END"
)
_BY_FAMILY: Final[dict[str, Aspect]] = {
    "compute": "compute", "llm": "compute", "memory": "memory", "interconnect": "interconnect",
    "latency": "latency", "launch": "launch",
}  # fmt: skip
_BY_QUANTITY: Final[dict[str, Aspect]] = {
    "clock": "clock", "energy": "energy", "temperature": "heat",
}  # fmt: skip


def aspect_of(family: str, quantity: str, unit: str) -> Aspect:
    """Return what a metric tells about."""
    if quantity in _BY_QUANTITY:
        return _BY_QUANTITY[quantity]
    aspect = _BY_FAMILY.get(family, "compute")
    if aspect == "compute" and unit.endswith("B/s"):
        return "memory"
    if aspect == "compute" and quantity == "settled":
        return "sustained"
    return aspect


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the matrix."""

    metric: str
    family: str
    label: str
    quantity: str
    unit: str
    better: Any  # "higher" or "lower"
    aspect: Aspect

    @property
    def sign(self) -> float:
        """1 where more is better."""
        return 1.0 if self.better == "higher" else -1.0


@dataclass(frozen=True, slots=True)
class Present:
    """The devices (a row each, by host and position) and their metrics.

    ``logs`` and ``halves`` are (devices, metrics): the signed logarithm of each figure, and half of
    its 95 % interval as a share (0 where it has none).
    """

    devices: pd.DataFrame
    metrics: tuple[Metric, ...]
    logs: Array
    halves: Array

    def value(self, device: int, metric: int) -> float:
        """Return a figure as it was measured."""
        return float(np.exp(self.metrics[metric].sign * self.logs[device, metric]))


def read_present(connection: duckdb.DuckDBPyConnection, window_days: float | None) -> Present:
    """Return what counts as the fleet's present; see `FleetOptions.window_days`."""
    since = "TRUE"
    if window_days is not None:
        since = (
            "d.started_at >= (SELECT max(started_at) FROM devices) "
            f"- INTERVAL ({float(window_days)} * 86400) SECOND"
        )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE present AS
        SELECT row_number() OVER (ORDER BY host, position, device_id) - 1 AS row, *
        FROM (
            SELECT d.*, {OWNER.replace("device_id", "d.device_id").replace("host", "d.host")}
                AS owner, r.status, r.method_version, r.finished_at, r.tier
            FROM devices d JOIN runs r USING (digest) WHERE {since}
            QUALIFY row_number() OVER (
                PARTITION BY d.host, d.device_id ORDER BY d.started_at DESC, d.digest
            ) = 1
        )
        """
    )
    devices = connection.execute("SELECT * FROM present ORDER BY row").df()
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE names AS
        SELECT row_number() OVER (ORDER BY metric) - 1 AS col, * FROM (
            SELECT metric, any_value(family) AS family, any_value(label) AS label,
                any_value(quantity) AS quantity, any_value(unit) AS unit,
                any_value(better) AS better
            FROM metrics GROUP BY metric
        )
        """
    )
    metrics = tuple(
        Metric(name, family, label, quantity, unit, better, aspect_of(family, quantity, unit))
        for name, family, label, quantity, unit, better in connection.execute(
            "SELECT metric, family, label, quantity, unit, better FROM names ORDER BY col"
        ).fetchall()
    )
    found = connection.execute(
        """
        SELECT p.row::INTEGER AS row, n.col::INTEGER AS col, m.value,
            coalesce((m.ci_high - m.ci_low) / 2 / m.value, 0) AS half
        FROM metrics m JOIN present p ON m.digest = p.digest AND m.device_id = p.device_id
        JOIN names n USING (metric) WHERE m.value > 0
        """
    ).fetchnumpy()
    logs = np.full((len(devices), len(metrics)), np.nan)
    halves = np.zeros_like(logs)
    signs = np.array([metric.sign for metric in metrics])
    logs[found["row"], found["col"]] = np.log(found["value"])
    halves[found["row"], found["col"]] = found["half"]
    return Present(devices, metrics, logs * signs, halves)
