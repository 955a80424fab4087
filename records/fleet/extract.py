"""From one run to rows of a fleet's tables: the run, its devices, and their metrics.

A metric is a number by which devices of one kind can be held against each other: what each line
of the result reached in bursts and settled, its pipe alone, the clock and the energy it took, the
temperature while it settled, the latency of loads and launches, and of the transfers to other
devices the slowest. Its name, ``<family> <label> <quantity>``, is the same on every host, so names
of peers and sizes that only one host has are left out of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, Literal

from roofprobe.records.fleet.lean import Device, Headline, LeanRun, Measurement, Middle

Better = Literal["higher", "lower"]
_SHOWN = ("fail", "warn", "unknown")
_STATES = ("ok", "skipped", "failed", "invalid")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run: ``run_key`` stays the same when the run goes on, ``digest`` is this state of it."""

    part: str
    digest: str
    run_key: str
    run_id: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    status: str
    tier: str
    method_version: int
    roofprobe: str
    torch: str | None
    python: str
    os: str
    kernel: str
    container: str | None
    judgement: str
    n_devices: int
    n_metrics: int
    source: str
    simulated: str | None


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device in one run. ``findings`` is JSON: those that are no pass, worst first."""

    part: str
    digest: str
    run_key: str
    run_id: str
    host: str
    started_at: datetime
    device_id: str
    position: int
    name: str
    sku: str
    architecture: str | None
    backend: str
    driver: str | None
    runtime: str | None
    power_limit_w: float | None
    max_sm_clock_mhz: float | None
    pci_bus_id: str | None
    pci_id: str | None
    pci_subsystem_id: str | None
    memory_bytes: int | None
    unit_count: int | None
    judgement: str
    findings: str
    n_ok: int
    n_skipped: int
    n_failed: int
    n_invalid: int


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of one device, with what it may be compared by."""

    part: str
    digest: str
    host: str
    started_at: datetime
    device_id: str
    sku: str
    driver: str | None
    power_limit_w: float | None
    method_version: int
    metric: str
    family: str
    label: str
    quantity: str
    unit: str
    better: Better
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int | None


@dataclass(frozen=True, slots=True)
class Rows:
    """What one run adds to the tables."""

    run: RunRow
    devices: tuple[DeviceRow, ...]
    metrics: tuple[MetricRow, ...]


# The type of each column, in DuckDB's words; the order of columns is that of the fields.
TYPES: Final[dict[str, str]] = {
    "started_at": "TIMESTAMP", "finished_at": "TIMESTAMP", "method_version": "INTEGER",
    "n_devices": "INTEGER", "n_metrics": "INTEGER", "position": "INTEGER",
    "power_limit_w": "DOUBLE", "max_sm_clock_mhz": "DOUBLE", "memory_bytes": "BIGINT",
    "unit_count": "INTEGER", "n_ok": "INTEGER", "n_skipped": "INTEGER", "n_failed": "INTEGER",
    "n_invalid": "INTEGER", "value": "DOUBLE", "ci_low": "DOUBLE", "ci_high": "DOUBLE",
    "n": "INTEGER",
}  # fmt: skip
TABLES: Final[dict[str, type[RunRow | DeviceRow | MetricRow]]] = {
    "runs": RunRow, "devices": DeviceRow, "metrics": MetricRow,
}  # fmt: skip


def columns(table: str) -> dict[str, str]:
    """Return the names and DuckDB types of a table's columns, in order."""
    return {field.name: TYPES.get(field.name, "VARCHAR") for field in fields(TABLES[table])}


@dataclass(frozen=True, slots=True)
class _Number:
    """A metric before it is said whose it is."""

    family: str
    label: str
    quantity: str
    unit: str
    better: Better
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None


def rows_of(run: LeanRun, *, part: str, digest: str, source: str) -> Rows:
    """Return what ``run`` adds to the tables; raises ``ValueError`` where a time is no time."""
    started_at = _moment(run.started_at)
    run_key = key_of(run)
    devices, metrics = [], []
    for position, device in enumerate(run.devices):
        own = [m for m in run.measurements if m.device_id == device.device_id]
        devices.append(_device_row(run, device, position, own, part, digest, run_key, started_at))
        for number in _unique(_numbers(run, device, own)):
            metrics.append(
                MetricRow(
                    part, digest, run.environment.host, started_at, device.device_id,
                    sku_of(device), device.driver, device.limits.power_limit_w,
                    run.method_version, f"{number.family} {number.label} {number.quantity}",
                    number.family, number.label, number.quantity, number.unit, number.better,
                    number.value, number.ci_low, number.ci_high, number.n,
                )
            )  # fmt: skip
    environment = run.environment
    row = RunRow(
        part=part,
        digest=digest,
        run_key=run_key,
        run_id=run.run_id,
        host=environment.host,
        started_at=started_at,
        finished_at=_moment(run.finished_at) if run.finished_at else None,
        status=run.status,
        tier=run.options.tier,
        method_version=run.method_version,
        roofprobe=environment.roofprobe,
        torch=environment.torch,
        python=environment.python,
        os=environment.os,
        kernel=environment.kernel,
        container=environment.container,
        judgement=run.verdict.judgement if run.verdict else "unknown",
        n_devices=len(devices),
        n_metrics=len(metrics),
        source=source,
        simulated=run.simulated,
    )
    return Rows(row, tuple(devices), tuple(metrics))


def key_of(run: LeanRun) -> str:
    """Return what identifies a run however far it has got: its name, its devices, its first case.

    Hosts of one name may start in the same second; their first figures still differ. A run goes on
    with what it had measured, so its first measurement stays.
    """
    first = next((m for m in run.measurements if m.status == "ok" and m.latency), None)
    told: list[object] = [
        run.run_id,
        run.started_at,
        sorted(device.device_id for device in run.devices),
    ]
    if first is not None and first.latency is not None:
        told += [first.case.case_id, first.started_at, first.latency.median]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def sku_of(device: Device) -> str:
    """Return the kind of a device: its row of the catalogue, or else its own name."""
    return device.catalogue_key or device.name


def _device_row(
    run: LeanRun, device: Device, position: int, own: list[Measurement], part: str, digest: str,
    run_key: str, started_at: datetime,
) -> DeviceRow:  # fmt: skip
    verdict = run.verdict
    found = [
        {"code": f.code, "judgement": f.judgement, "sentence": f.sentence}
        for f in (verdict.findings if verdict else ())
        if f.device_id == device.device_id
        and f.judgement in _SHOWN
        and (f.required or f.judgement != "unknown")
    ]
    found.sort(key=lambda finding: _SHOWN.index(finding["judgement"]))
    counts = {state: sum(m.status == state for m in own) for state in _STATES}
    return DeviceRow(
        part=part,
        digest=digest,
        run_key=run_key,
        run_id=run.run_id,
        host=run.environment.host,
        started_at=started_at,
        device_id=device.device_id,
        position=position,
        name=device.name,
        sku=sku_of(device),
        architecture=device.architecture,
        backend=device.backend,
        driver=device.driver,
        runtime=device.runtime,
        power_limit_w=device.limits.power_limit_w,
        max_sm_clock_mhz=device.limits.max_sm_clock_mhz,
        pci_bus_id=device.pci_bus_id,
        pci_id=device.pci_id,
        pci_subsystem_id=device.pci_subsystem_id,
        memory_bytes=device.memory_bytes,
        unit_count=device.unit_count,
        judgement=(verdict.devices.get(device.device_id, "unknown") if verdict else "unknown"),
        findings=json.dumps(found, ensure_ascii=False),
        n_ok=counts["ok"],
        n_skipped=counts["skipped"],
        n_failed=counts["failed"],
        n_invalid=counts["invalid"],
    )


def _unique(numbers: Iterator[_Number]) -> Iterator[_Number]:
    """Yield the first number of each name; later ones of a name are damage or a repeat."""
    seen: set[tuple[str, str, str]] = set()
    for number in numbers:
        key = (number.family, number.label, number.quantity)
        if key not in seen:
            seen.add(key)
            yield number


def _numbers(run: LeanRun, device: Device, own: list[Measurement]) -> Iterator[_Number]:
    valid = [m for m in own if m.status == "ok"]
    by_case = {m.case.case_id: m for m in valid}
    for headline in run.headlines:
        if headline.device_id == device.device_id:
            yield from _of_headline(headline, by_case)
    for measurement in valid:
        yield from _latencies(measurement)
    yield from _slowest_transfers(valid)


def _of_headline(headline: Headline, by_case: dict[str, Measurement]) -> Iterator[_Number]:
    family, label = headline.family, headline.label

    def middle(quantity: str, found: Middle | None) -> Iterator[_Number]:
        if found is not None:
            yield _Number(family, label, quantity, found.unit, "higher", *_interval(found))

    yield from middle(headline.regime, headline.rate)
    if headline.regime != "settled":
        yield from middle("settled", headline.settled)
    yield from middle("pipe", headline.pipe_rate)
    if headline.sm_clock_mhz is not None:
        yield _Number(family, label, "clock", "MHz", "higher", headline.sm_clock_mhz)
    if headline.energy_j_per_tflop is not None:
        yield _Number(family, label, "energy", "J/TFLOP", "lower", headline.energy_j_per_tflop)
    settled = by_case.get(headline.settled_case_id or "")
    if settled is not None and settled.telemetry and settled.telemetry.temperature_c:
        hottest = settled.telemetry.temperature_c.max
        yield _Number(family, label, "temperature", "C", "lower", hottest)


def _interval(found: Middle) -> tuple[float, float, float, int]:
    return found.median, found.ci_low, found.ci_high, found.n


def _latencies(measurement: Measurement) -> Iterator[_Number]:
    case = measurement.case
    for family, unit, figure in _LATENCIES:
        found = figure(measurement)
        if case.family == family and found is not None:
            label = case.case_id.partition("/")[2] or case.case_id
            yield _Number(family, label, "latency", unit, "lower", *_interval(found))


_LATENCIES: Final[tuple[tuple[str, str, Callable[[Measurement], Middle | None]], ...]] = (
    ("latency", "ns", lambda m: m.access_ns),
    ("launch", "us", lambda m: m.latency),
)


def _slowest_transfers(valid: list[Measurement]) -> Iterator[_Number]:
    """Yield per kind of transfer between devices the slowest of the pairs, each at its best size.

    A small message's rate says nothing; the best of a pair's sizes is what its link does.
    """
    best: dict[tuple[str, str], Measurement] = {}
    for m in valid:
        if m.case.peer is not None and m.rate is not None:
            pair = (m.case.op, m.case.peer.device_id)
            known = best.get(pair)
            if known is None or known.rate is None or m.rate.median > known.rate.median:
                best[pair] = m
    for op in dict.fromkeys(op for op, _ in best):
        rates = [m.rate for (other, _), m in best.items() if other == op and m.rate]
        slowest = min(rates, key=lambda rate: rate.median)
        yield _Number(
            "interconnect", f"{op} slowest pair", "burst", slowest.unit, "higher",
            *_interval(slowest),
        )  # fmt: skip


def _moment(text: str) -> datetime:
    """Return a time without a zone, in UTC, as DuckDB keeps it."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
