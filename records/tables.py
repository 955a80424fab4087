"""Runs as tables: one tidy row per measurement, units in the column names.

``clock_mhz`` is counted by the device while it worked, ``sm_clock_mhz`` sampled by the driver; both
are medians. A search has no latency of its own: its columns say what it found, and ``m``, ``n`` and
``k`` stay empty. The steps of a search and the traces of sensors are in ``run.json`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roofprobe.records.schema import Distribution, Measurement, Run, Search, Span

if TYPE_CHECKING:
    import pandas as pd

# The sizes of a model's operations, beside m, n and k.
MODEL_SIZES: tuple[str, ...] = (
    "batch", "query_len", "kv_len", "heads", "kv_heads", "head_dim", "kv_rank", "rope_dim",
    "nope_dim", "v_dim", "tokens", "experts", "topk", "hidden", "inter", "local_experts", "rows",
    "width",
)  # fmt: skip
COLUMNS: tuple[str, ...] = (
    "run_id", "device_id", "device_name", "case_id", "family", "op", "row", "role", "retest",
    "precision", "route", "engine", "regime", "layout", "scaling", "config", "kv_precision",
    "accumulator", "fast_accum", "pipe", "sparsity", "pattern", "peer", "m", "n", "k", "elements",
    *MODEL_SIZES, "status", "reason_code", "reason", "median_us", "ci_low_us", "ci_high_us",
    "p10_us", "p90_us", "best_us", "samples", "rate", "rate_ci_low", "rate_ci_high", "rate_p10",
    "rate_p90", "rate_best", "rate_unit", "flops", "bytes_read", "bytes_written", "array_bytes",
    "error", "tolerance", "buffer_sets", "launches_per_sample", "timer", "stop_reason",
    "clock_mhz", "sm_clock_mhz", "mem_clock_mhz", "power_w", "temperature_c", "throttle_reasons",
    "energy_j_per_tflop", "kernel", "library", "instruction", "fallback", "search_method",
    "search_elapsed_s", "search_candidates", "search_best_m", "search_best_n", "search_best_k",
    "search_best_tflops", "notes", "started_at",
)  # fmt: skip


# Whole numbers that not every row has; pandas would make them floats.
_WHOLE: tuple[str, ...] = (
    "retest", "m", "n", "k", "elements", *MODEL_SIZES, "samples", "flops", "bytes_read",
    "bytes_written", "array_bytes", "buffer_sets", "launches_per_sample", "search_candidates",
    "search_best_m", "search_best_n", "search_best_k",
)  # fmt: skip


def measurements_frame(run: Run) -> pd.DataFrame:
    """Return all measurements of ``run``, skipped and failed ones and repeats too, a row each."""
    import pandas as pd

    names = {device.device_id: device.name for device in run.devices}
    measured = (*run.measurements, *run.retests)
    rows = [_row(run, names, measurement) for measurement in measured]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(_WHOLE, "Int64"))


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
            "case_id", "family", "op", "row", "role", "retest", "precision", "route", "engine",
            "regime", "layout", "scaling", "config", "kv_precision", "accumulator", "fast_accum",
            "pipe", "sparsity", "pattern",
        }),
        "peer": case.peer.device_id if case.peer else None,
        **case.shape,
        "status": measurement.status,
        "reason_code": measurement.reason.code if measurement.reason else None,
        "reason": measurement.reason.sentence if measurement.reason else None,
        "flops": measurement.flops,
        "bytes_read": measurement.bytes_read,
        "bytes_written": measurement.bytes_written,
        "array_bytes": measurement.array_bytes,
        "kernel": measurement.kernel,
        "clock_mhz": measurement.clock_mhz.median if measurement.clock_mhz else None,
        "energy_j_per_tflop": measurement.energy_j_per_tflop,
        "notes": " ".join(dict.fromkeys(note.code for note in measurement.notes)) or None,
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
    if measurement.identity:
        row |= measurement.identity.model_dump(include={"library", "instruction", "fallback"})
        row["kernel"] = row["kernel"] or " ".join(measurement.identity.names) or None
    if measurement.search:
        row |= _search(measurement.search)
    telemetry = measurement.telemetry
    if telemetry:
        for name in ("sm_clock_mhz", "mem_clock_mhz", "power_w", "temperature_c"):
            span: Span | None = getattr(telemetry, name)
            row[name] = span.median if span else None
        row["throttle_reasons"] = " ".join(telemetry.throttle_reasons) or None
    return {name: row.get(name) for name in COLUMNS}


def _search(search: Search) -> dict[str, Any]:
    m, n, k = search.best or (None, None, None)
    return {
        "search_method": search.method,
        "search_elapsed_s": search.elapsed_s,
        "search_candidates": search.candidates,
        "search_best_m": m,
        "search_best_n": n,
        "search_best_k": k,
        "search_best_tflops": search.best_tflops,
    }


def _distribution(value: Distribution | None, pattern: str) -> dict[str, float]:
    if value is None:
        return {}
    parts = ("median", "ci_low", "ci_high", "p10", "p90", "best")
    return {pattern.format(part): getattr(value, part) for part in parts}
