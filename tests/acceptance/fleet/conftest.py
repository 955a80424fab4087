"""Fleets for the tests: tables made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions, FleetVerdict
from roofprobe.acceptance.fleet.judge import fleet_verdict
from roofprobe.records.fleet.extract import TABLES, columns

METRICS = (
    *(
        f"compute {row} {quantity}"
        for row in ("fp32", "bf16", "fp8", "int8")
        for quantity in ("burst", "settled", "clock")
    ),
    *(f"memory {row} burst" for row in ("read", "write", "copy", "triad")),
    "latency device latency",
)
MONDAY = datetime(2026, 3, 2, 6)


@dataclass(slots=True)
class Told:
    """One device of one run, by hand: ``figures`` are values by metric."""

    host: str = "a"
    device_id: str = "GPU-00000000-0000-0000-0000-000000000000"
    figures: dict[str, float] = field(default_factory=dict)
    position: int = 0
    day: float = 0.0
    sku: str = "card"
    driver: str | None = "580"
    power_limit_w: float | None = 700.0
    subsystem: str | None = "10de:0001"
    units: int | None = 132
    max_clock_mhz: float | None = None
    judgement: str = "pass"
    findings: str = "[]"
    status: str = "complete"
    method_version: int = 1

    def times(self, factor: float, *words: str) -> Told:
        """Return it ``factor`` times as fast in the metrics that hold any of ``words``."""
        figures = {
            name: value * (1 / factor if name.endswith("latency") else factor)
            if any(word in name for word in words) else value
            for name, value in self.figures.items()
        }  # fmt: skip
        return replace(self, figures=figures)


@pytest.fixture
def told() -> type[Told]:
    return Told


@pytest.fixture
def equals() -> Callable[..., list[Told]]:
    """Give a function that makes ``n`` devices, four a host, spread by a percent or so."""

    def make(n: int, *, first: int = 0, spread: float = 0.005, **more: Any) -> list[Told]:
        generator = np.random.default_rng(first + 7)
        made = []
        for number in range(first, first + n):
            board = np.exp(generator.normal(0, spread))
            figures = {
                name: 1000 * board * np.exp(generator.normal(0, spread / 4)) for name in METRICS
            }
            made.append(
                Told(host=f"h{number // 4:03}",
                     device_id=f"GPU-00000000-0000-0000-0000-{number:012}", position=number % 4,
                     figures=figures, **more)
            )  # fmt: skip
        return made

    return make


@pytest.fixture
def judge(
    tables: Callable[[Sequence[Told]], duckdb.DuckDBPyConnection],
) -> Callable[..., FleetVerdict]:
    """Give the function that judges devices as a fleet, with options of the verdict."""

    def of(devices: Sequence[Told], **options: Any) -> FleetVerdict:
        return fleet_verdict(tables(devices), FleetOptions(**options))

    return of


@pytest.fixture
def tables() -> Iterator[Callable[[Sequence[Told]], duckdb.DuckDBPyConnection]]:
    """Give a function that puts devices into the tables of a fleet."""
    connection = duckdb.connect(":memory:")

    def fill(devices: Sequence[Told]) -> duckdb.DuckDBPyConnection:
        rows: dict[str, list[dict[str, Any]]] = {"runs": [], "devices": [], "metrics": []}
        runs: dict[tuple[str, float, str], list[Told]] = {}
        for each in devices:
            runs.setdefault((each.host, each.day, each.status), []).append(each)
        for (host, day, status), members in runs.items():
            _add_run(rows, host, MONDAY + timedelta(days=day), status, members)
        for table in TABLES:
            types = columns(table)
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            names = ", ".join(f"{name} {kind}" for name, kind in types.items())
            connection.execute(f"CREATE TABLE {table} ({names})")
            frame = pd.DataFrame(rows[table], columns=list(types), dtype=object)
            connection.register("frame", frame)
            casts = ", ".join(f"CAST({name} AS {kind})" for name, kind in types.items())
            connection.execute(f"INSERT INTO {table} SELECT {casts} FROM frame")
            connection.unregister("frame")
        return connection

    yield fill
    connection.close()


def _add_run(
    rows: dict[str, list[dict[str, Any]]], host: str, at: datetime, status: str,
    members: Sequence[Told],
) -> None:  # fmt: skip
    digest = f"{host}/{at.isoformat()}/{status}"
    rows["runs"].append(
        {
            "digest": digest, "run_key": digest, "run_id": digest, "host": host, "started_at": at,
            "finished_at": at + timedelta(minutes=8), "status": status, "tier": "standard",
            "method_version": members[0].method_version, "judgement": "pass",
            "n_devices": len(members), "n_metrics": sum(len(m.figures) for m in members),
        }
    )  # fmt: skip
    for each in members:
        of_run = {"digest": digest, "host": host, "started_at": at, "device_id": each.device_id}
        shared = {"sku": each.sku, "driver": each.driver, "power_limit_w": each.power_limit_w}
        rows["devices"].append(
            of_run | shared | {
                "run_key": digest, "position": each.position, "name": f"Some {each.sku}",
                "backend": "cuda", "pci_subsystem_id": each.subsystem, "unit_count": each.units,
                "max_sm_clock_mhz": each.max_clock_mhz,
                "judgement": each.judgement, "findings": each.findings,
            }
        )  # fmt: skip
        for metric, value in each.figures.items():
            family, quantity = metric.split()[0], metric.split()[-1]
            lower = quantity in ("latency", "energy", "temperature")
            rows["metrics"].append(
                of_run | shared | {
                    "method_version": each.method_version, "metric": metric, "family": family,
                    "label": " ".join(metric.split()[1:-1]), "quantity": quantity,
                    "unit": "TFLOPS", "better": "lower" if lower else "higher", "value": value,
                }
            )  # fmt: skip
