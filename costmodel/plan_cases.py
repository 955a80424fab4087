"""What is to be planned: options and columns, read and checked one case at a time.

The options of ``probe plan`` and the columns of ``--cases FILE.csv`` have the same names
(`COLUMNS`). A file's empty cell, or a column that it lacks, takes the option's value. What is wrong
with the whole file is an error; what is wrong with one row becomes that row's error, so that a
sweep of thousands of rows does not stop at one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import TooLarge, read_bytes, said

# A table of cases is text of a few dozen bytes per row; what is larger is another file.
LARGEST_FILE_BYTES: Final = 256_000_000
# Degrees and lengths beyond any system or model: absurd rather than large.
MOST_GPUS: Final = 1 << 20
MOST_TOKENS: Final = 1 << 27
MOST_REQUESTS: Final = 1 << 24
_NAN: Final = {"nan", "na", "n/a", "null", "none", "inf", "-inf", "infinity", "-infinity"}


@dataclass(frozen=True, slots=True)
class PlanCase:
    """One case: a model, how it is spread, and what is asked of it. None: not said.

    ``batch`` requests start together, ``concurrency`` requests are kept in flight; both are of the
    whole system. Lengths are tokens. Targets: ``ttft_ms``, ``tpot_ms`` (upper bounds) and a load in
    ``tokens_per_minute`` (output tokens) or ``requests_per_second``.
    """

    model: str
    precision: str | None = None
    kv_precision: str | None = None
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    batch: int | None = None
    concurrency: int | None = None
    input_len: int = 1024
    output_len: int = 1024
    gpus: int | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    tokens_per_minute: float | None = None
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class BadCase:
    """A case that cannot be planned: what was given, and why in a code and a sentence."""

    given: Mapping[str, Any]
    code: str
    sentence: str


COLUMNS: Final = tuple(field.name for field in fields(PlanCase))
_TEXTS: Final = frozenset(("model", "precision", "kv_precision"))
_RATES: Final = frozenset(("ttft_ms", "tpot_ms", "tokens_per_minute", "requests_per_second"))
_MOST: Final[Mapping[str, int]] = {
    **dict.fromkeys(("tp", "pp", "ep", "dp", "gpus"), MOST_GPUS),
    **dict.fromkeys(("input_len", "output_len"), MOST_TOKENS),
    **dict.fromkeys(("batch", "concurrency"), MOST_REQUESTS),
}


def read_cases(path: Path, defaults: Mapping[str, Any]) -> list[PlanCase | BadCase]:
    """Read a CSV of cases; ``defaults`` fill empty cells and missing columns.

    Raises ``RoofprobeError``: ``unreadable-cases``, ``empty-cases``, ``unknown-column``,
    ``repeated-column``, ``no-model``.
    """
    text = _text_of(path)
    rows = csv.reader(io.StringIO(text, newline=""), strict=False)
    header = _header(path, rows, defaults)
    found = [_row(header, cells, defaults) for cells in _cells(path, rows) if any(cells)]
    if not found:
        raise RoofprobeError("empty-cases", f"{path} has a header but no case below it.")
    return found


def _text_of(path: Path) -> str:
    try:
        return read_bytes(path, LARGEST_FILE_BYTES).decode("utf-8-sig")
    except TooLarge:
        raise RoofprobeError(
            "unreadable-cases", f"{path} is too large for a table of cases."
        ) from None
    except OSError as error:
        raise RoofprobeError(
            "unreadable-cases", f"{said(path, error)}; name a CSV of cases"
        ) from None
    except UnicodeDecodeError:
        raise RoofprobeError(
            "unreadable-cases", f"{path} is not UTF-8 text; name a CSV of cases"
        ) from None


def _cells(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        for row in rows:
            yield [cell.strip() for cell in row]
    except csv.Error as error:
        raise RoofprobeError("unreadable-cases", f"{path} is not a CSV ({error}).") from None


def _header(path: Path, rows: Iterator[list[str]], defaults: Mapping[str, Any]) -> list[str]:
    header = next(_cells(path, rows), [])
    if not any(header):
        raise RoofprobeError(
            "empty-cases", f"{path} is empty; its first line names columns: {', '.join(COLUMNS)}"
        )
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise RoofprobeError(
            "unknown-column",
            f"{path} has columns that no case has: {', '.join(map(shown, unknown[:5]))}; "
            f"known are {', '.join(COLUMNS)}",
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise RoofprobeError("repeated-column", f"{path} has {', '.join(repeated)} twice.")
    if "model" not in header and defaults.get("model") is None:
        raise RoofprobeError("no-model", f"{path} has no column model; add it or --model.")
    return header


def _row(header: list[str], cells: list[str], defaults: Mapping[str, Any]) -> PlanCase | BadCase:
    given = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    if len(cells) > len(header) and any(cells[len(header) :]):
        return BadCase(
            given, "bad-row", f"The row has {len(cells)} cells and the header {len(header)}."
        )
    return case_from(given, defaults)


def case_from(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> PlanCase | BadCase:
    """Return the case that ``given`` (texts or numbers by column) describes over ``defaults``."""
    if "batch" in given or "concurrency" in given:
        # What a row says replaces either option, or a default concurrency would contradict a batch.
        defaults = {k: v for k, v in defaults.items() if k not in ("batch", "concurrency")}
    values = {k: v for k, v in {**defaults, **given}.items() if v is not None}
    try:
        checked = {name: _value(name, value) for name, value in values.items()}
        if "model" not in checked:
            raise RoofprobeError("no-model", "No model is named; set --model or a column model.")
        if "batch" in checked and "concurrency" in checked:
            raise RoofprobeError(
                "batch-and-concurrency",
                "batch (requests that start together) and concurrency (requests kept in flight) "
                "exclude each other; give one.",
            )
        return PlanCase(**checked)
    except RoofprobeError as error:
        return BadCase(values, error.code, error.sentence)


def _value(name: str, value: Any) -> Any:
    if name not in COLUMNS:
        raise RoofprobeError(
            "unknown-column", f"No case has a {shown(str(name))}; known are {', '.join(COLUMNS)}."
        )
    if name in _TEXTS:
        text = str(value).strip()
        if not text or text.lower() in _NAN or isinstance(value, float):
            raise RoofprobeError(
                "bad-value", f"{name} is {shown(str(value))}, which names nothing."
            )
        return text
    number = _number(name, value)
    if name in _RATES:
        if not number > 0:
            raise RoofprobeError("bad-value", f"{name} is {number:g}; it must be above 0.")
        return number
    if number != int(number) or number < 1:
        raise RoofprobeError(
            "bad-value", f"{name} is {shown(str(value))}; it must be a whole number of at least 1."
        )
    if number > _MOST[name]:
        raise RoofprobeError(
            "absurd-value", f"{name} is {number:.0f}; at most {_MOST[name]} can be planned."
        )
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RoofprobeError(
            "bad-value", f"{name} is {shown(str(value))}, which is no number."
        ) from None
    if not math.isfinite(number):
        raise RoofprobeError("bad-value", f"{name} is {shown(str(value))}; give a finite number.")
    return number
