"""Runs as tables: one tidy row per measurement, units in the column names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roofprobe.records.schema import Distribution, Measurement, Run, Span

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: tuple[str, ...] = (
    "run_id", "device_id", "device_name", "case_id", "family", "op", "precision", "route",
    "engine", "regime", "layout", "accumulator", "fast_accum", "pattern", "m", "n", "k",
    "elements", "status", "reason_code", "reason", "median_us", "ci_low_us", "ci_high_us",
    "p10_us", "p90_us", "best_us", "samples", "rate", "rate_ci_low", "rate_ci_high", "rate_p10",
    "rate_p90", "rate_best", "rate_unit", "flops", "bytes_read", "bytes_written", "array_bytes",
    "error", "tolerance", "buffer_sets", "launches_per_sample", "timer", "stop_reason",
    "sm_clock_mhz", "mem_clock_mhz", "power_w", "temperature_c", "throttle_reasons", "kernel",
    "started_at",
)  # fmt: skip


def measurements_frame(run: Run) -> pd.DataFrame:
    """Return all measurements of ``run``, skipped and failed ones too, as one row each."""
    import pandas as pd

    names = {device.device_id: device.name for device in run.devices}
    rows = [_row(run, names, measurement) for measurement in run.measurements]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measurements_csv(run: Run) -> bytes:
    """Return ``measurements.csv``."""
    return bytes(measurements_frame(run).to_csv(index=False), "utf-8")


def _row(run: Run, names: dict[str, str], measurement: Measurement) -> dict[str, Any]:
    case = measurement.case
    row: dict[str, Any] = {
        "run_id": run.run_id,
        "device_id": measurement.device_id,
        "device_name": names.get(measurement.device_id),
        **case.model_dump(include={
            "case_id", "family", "op", "precision", "route", "engine", "regime", "layout",
            "accumulator", "fast_accum", "pattern",
        }),
        **case.shape,
        "status": measurement.status,
        "reason_code": measurement.reason.code if measurement.reason else None,
        "reason": measurement.reason.sentence if measurement.reason else None,
        "flops": measurement.flops,
        "bytes_read": measurement.bytes_read,
        "bytes_written": measurement.bytes_written,
        "array_bytes": measurement.array_bytes,
        "kernel": measurement.kernel,
        "started_at": measurement.started_at,
    }  # fmt: skip
    row |= _distribution(measurement.latency, "{}_us")
    row |= _distribution(measurement.rate, "rate_{}")
    if measurement.latency:
        row["samples"] = measurement.latency.n
    if measurement.rate:
        row |= {"rate": measurement.rate.median, "rate_unit": measurement.rate.unit}
    if measurement.correctness:
        row |= measurement.correctness.model_dump(include={"error", "tolerance"})
    if measurement.timing:
        row |= measurement.timing.model_dump(
            include={"buffer_sets", "launches_per_sample", "timer", "stop_reason"}
        )
    telemetry = measurement.telemetry
    if telemetry:
        for name in ("sm_clock_mhz", "mem_clock_mhz", "power_w", "temperature_c"):
            span: Span | None = getattr(telemetry, name)
            row[name] = span.median if span else None
        row["throttle_reasons"] = " ".join(telemetry.throttle_reasons) or None
    return {name: row.get(name) for name in COLUMNS}


def _distribution(value: Distribution | None, pattern: str) -> dict[str, float]:
    if value is None:
        return {}
    parts = ("median", "ci_low", "ci_high", "p10", "p90", "best")
    return {pattern.format(part): getattr(value, part) for part in parts}
