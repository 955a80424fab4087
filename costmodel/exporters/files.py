"""What an exporter returns: files by relative path, and what must be said of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Export:
    """Files of one planner, how many of their times were measured and modelled, and notes."""

    files: Mapping[str, bytes]
    measured: int = 0
    modelled: int = 0
    notes: tuple[str, ...] = field(default=())


def json_bytes(document: Any) -> bytes:
    """Return a JSON document with one key a line."""
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a CSV with a header; lines end with a line feed."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()


def figures(value: float, digits: int = 6) -> float:
    """Return a figure to so many digits: more would pretend to be known."""
    return float(f"{value:.{digits}g}")
