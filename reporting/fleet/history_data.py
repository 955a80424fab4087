"""What ``probe history`` says as JSON and as CSV: the same fields, times in UTC, absent as null."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from roofprobe.records.fleet.history import MetricLine, Selected, Series


def metrics_json(lines: Sequence[MetricLine]) -> dict[str, Any]:
    """Return the metrics as one JSON document."""
    return {"metrics": [plain(asdict(line)) for line in lines]}


def series_json(series: Sequence[Series]) -> dict[str, Any]:
    """Return the series as one JSON document; each point with its change, None across methods."""
    return {"series": [_series(each) for each in series]}


def selected_json(selected: Selected) -> dict[str, Any]:
    """Return what a SELECT said as one JSON document: a list of objects."""
    rows = [dict(zip(names_of(selected), map(plain, row), strict=True)) for row in selected.rows]
    return {"columns": list(names_of(selected)), "rows": rows}


def series_csv(series: Sequence[Series]) -> bytes:
    """Return one line per figure, units in their own column."""
    heads = (
        "metric", "unit", "device_id", "position", "name", "sku", "started_at", "host", "value",
        "ci_low", "ci_high", "n", "effect_to_first", "effect_to_previous", "driver",
        "power_limit_w", "method_version", "roofprobe", "torch", "simulated",
    )  # fmt: skip
    rows = []
    for document in (_series(each) for each in series):
        points = document.pop("points")
        rows += [[{**document, **point}[head] for head in heads] for point in points]
    return _csv(heads, rows)


def metrics_csv(lines: Sequence[MetricLine]) -> bytes:
    """Return one line per metric."""
    heads = ("metric", "unit", "n_figures", "n_devices", "first_at", "last_at")
    return _csv(heads, ([plain(asdict(line))[head] for head in heads] for line in lines))


def selected_csv(selected: Selected) -> bytes:
    """Return the rows of a SELECT."""
    return _csv(names_of(selected), ([plain(cell) for cell in row] for row in selected.rows))


def _series(series: Series) -> dict[str, Any]:
    document = plain(asdict(series))
    first = 0
    for number, point in enumerate(document["points"]):
        if series.points[number].method_version != series.points[first].method_version:
            first = number
        point["effect_to_first"] = series.effect(number, first) if number > first else None
        point["effect_to_previous"] = series.effect(number, number - 1) if number else None
    return dict(document)


def plain(value: Any) -> Any:
    """Return a value that JSON has; times end with their zone."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds") + ("Z" if value.tzinfo is None else "")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def names_of(selected: Selected) -> tuple[str, ...]:
    """Return the names of columns, each once."""
    seen: dict[str, int] = {}
    found = []
    for name in selected.columns:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(found)


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow(
            [json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in row]
        )
    return out.getvalue().encode("utf-8", "replace")
