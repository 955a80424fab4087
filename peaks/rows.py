"""From a TOML row to an `Accelerator`, refusing anything that is not well-formed.

A value line is ``[value, source, ...]``: a number without a source cannot be written down. Every
refusal is a `CatalogueError` that names the file, the row and the field, so that whoever adds a
card is told what to mend. The rules that keep a table honest stand here too: a dense peak is never
above the sparse one, and neither the founding notes nor our own arithmetic is the source of a peak.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from roofprobe.peaks.accelerator import Accelerator, Conflict, ConflictValue
from roofprobe.peaks.precisions import PEAK_TITLES
from roofprobe.peaks.rates import RateClass
from roofprobe.peaks.sources import CatalogueError, Source, parse_toml

_PLAIN_TEXT: Final = ("name", "vendor", "rate_class", "dense_basis")
_TEXT: Final = frozenset(
    {"architecture", "compute_capability", "gcn_arch", "launch", "form_factor", "mem_type"}
)
_TEXTS: Final = frozenset(
    {"driver_names", "pci_ids", "pci_subsystem_ids", "excluded_subsystem_ids"}
)
_COUNTS: Final = frozenset(
    {"devices_per_module", "unit_count", "vector_core_count", "tpc_count", "mem_bus_bits"}
    | {"mem_clock_multiplier", "pcie_gen"}
)
_NUMBERS: Final = frozenset(
    {"boost_clock_mhz", "tensor_clock_mhz", "tensor_clock_mhz_assumed", "mem_gb", "mem_bw_gbps"}
    | {"mem_clock_mhz", "l2_mb", "infinity_cache_mb", "sram_mb", "tdp_w", "nvlink_gbps"}
    | {"hccs_gbps", "nic_tbit_per_s"}
)
_SOURCED: Final = _TEXT | _TEXTS | _COUNTS | _NUMBERS
_PARTS: Final = frozenset({"dense", "sparse", "conflicts", "aliases", "founding_column"})
_KNOWN: Final = _SOURCED | _PARTS | frozenset(_PLAIN_TEXT)

_KEY: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_PCI_ID: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_CAPABILITY: Final = re.compile(r"[1-9][0-9]?\.[0-9]")
_LAUNCH: Final = re.compile(r"20[0-9]{2}(-(0[1-9]|1[0-2]))?")
_PATTERNS: Final = {"compute_capability": _CAPABILITY, "launch": _LAUNCH}


def parse_accelerators(
    text: str,
    *,
    file: str,
    sources: Mapping[str, Source],
    rate_classes: Mapping[str, RateClass],
) -> dict[str, Accelerator]:
    """Every row of one catalogue file, by key; raises `CatalogueError` at the first fault."""
    rows: dict[str, Accelerator] = {}
    for key, row in parse_toml(text, file=file).items():
        if not isinstance(row, dict):
            raise CatalogueError(file, key, "a row is a table: [vendor_model]")
        rows[key] = _Row(file, key, row, sources, rate_classes).accelerator()
    return rows


class _Row:
    """One row while it is read: knows the file and key that an error must name."""

    def __init__(
        self,
        file: str,
        key: str,
        row: Mapping[str, Any],
        sources: Mapping[str, Source],
        rate_classes: Mapping[str, RateClass],
    ) -> None:
        self.file = file
        self.key = key
        self.row = row
        self.known_sources = sources
        self.rate_classes = rate_classes
        self.sources: dict[str, tuple[str, ...]] = {}

    def error(self, field: str, problem: str) -> CatalogueError:
        return CatalogueError(self.file, f"{self.key}.{field}" if field else self.key, problem)

    def accelerator(self) -> Accelerator:
        if not _KEY.fullmatch(self.key):
            raise self.error("", "a key is lower case with underscores, like nvidia_h100_nvl")
        for field in self.row:
            if field not in _KNOWN:
                raise self.error(field, "unknown field")
        plain: dict[str, Any] = {field: self.plain_text(field) for field in _PLAIN_TEXT}
        rate_class = self.rate_classes.get(plain["rate_class"])
        if rate_class is None:
            raise self.error("rate_class", f"no class {plain['rate_class']!r} in rates.toml")
        values = {field: self.value(field) for field in self.row if field in _SOURCED}
        if "architecture" not in values:
            raise self.error("architecture", "is missing")
        capability = values.get("compute_capability")
        if capability != rate_class.compute_capability and rate_class.compute_capability:
            raise self.error(
                "compute_capability",
                f"is {capability}, but {rate_class.name} is {rate_class.compute_capability}",
            )
        dense, sparse = self.peaks("dense"), self.peaks("sparse")
        for key, value in sparse.items():
            if key in dense and dense[key] > value:
                raise self.error(f"dense.{key}", f"{dense[key]} is above the sparse {value}")
        founding = self.row.get("founding_column")
        if founding is not None and not isinstance(founding, str):
            raise self.error("founding_column", "must be a text")
        return Accelerator(
            key=self.key,
            **plain,
            **values,
            unit_kind=rate_class.unit,
            sources=self.sources,
            dense=dense,
            sparse=sparse,
            conflicts=tuple(self.conflicts()),
            aliases=self.texts("aliases", self.row.get("aliases", [])),
            founding_column=founding,
        )

    def plain_text(self, field: str) -> str:
        value = self.row.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "must be a non-empty text")
        return value

    def value(self, field: str) -> Any:
        """The value of a ``[value, source, ...]`` line; notes its sources."""
        value = self.sourced(field, self.row[field])
        if field in _TEXTS:
            items = self.texts(field, value)
            if not items:
                raise self.error(field, "must list at least one")
            if field != "driver_names":
                self.require(field, items, _PCI_ID, "like 10de:2330, in lower case")
            return items
        if field in _TEXT:
            if not isinstance(value, str) or not value.strip():
                raise self.error(field, "must be a non-empty text")
            if field in _PATTERNS:
                self.require(field, [value], _PATTERNS[field], "like 9.0, or 2024-03 for a launch")
            return value
        number = self.number(field, value)
        if field in _COUNTS and not isinstance(value, int):
            raise self.error(field, f"{value} must be a whole number")
        return number

    def require(
        self, field: str, values: Iterable[str], pattern: re.Pattern[str], how: str
    ) -> None:
        for value in values:
            if not pattern.fullmatch(value):
                raise self.error(field, f"{value!r} must be written {how}")

    def peaks(self, part: str) -> dict[str, float]:
        table = self.row.get(part, {})
        if not isinstance(table, dict):
            raise self.error(part, "must be a table of peaks")
        peaks: dict[str, float] = {}
        for key, entry in table.items():
            path = f"{part}.{key}"
            if key not in PEAK_TITLES:
                raise self.error(path, f"unknown peak key; known: {', '.join(PEAK_TITLES)}")
            peaks[key] = self.number(path, self.sourced(path, entry))
            kinds = {self.known_sources[source].kind for source in self.sources[path]}
            if kinds <= {"notes", "derived"}:
                raise self.error(path, "a peak needs a source beyond the notes and arithmetic")
        return peaks

    def sourced(self, path: str, entry: object) -> Any:
        if not isinstance(entry, list) or len(entry) < 2:
            raise self.error(path, "must be [value, source, ...] with at least one source")
        self.sources[path] = self.checked_sources(path, entry[1:])
        return entry[0]

    def checked_sources(self, path: str, keys: Collection[object]) -> tuple[str, ...]:
        for key in keys:
            if not isinstance(key, str) or key not in self.known_sources:
                raise self.error(path, f"no source {key!r} in sources.toml")
        return tuple(str(key) for key in keys)

    def number(self, path: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(path, f"{value!r} must be a number")
        if not math.isfinite(value) or value <= 0:
            raise self.error(path, f"{value} must be positive; leave out what is unknown")
        return value

    def texts(self, field: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(
            isinstance(item, str) and item.strip() for item in value
        ):
            raise self.error(field, "must be a list of non-empty texts")
        return tuple(value)

    def conflicts(self) -> Iterable[Conflict]:
        rows = self.row.get("conflicts", [])
        if not isinstance(rows, list):
            raise self.error("conflicts", "must be [[key.conflicts]] tables")
        for row in rows:
            path = "conflicts"
            if not isinstance(row, dict) or not {"field", "values"} <= set(row) <= {
                "field",
                "values",
                "note",
            }:
                raise self.error(path, "a conflict has field, values and perhaps note")
            field, note = row["field"], row.get("note", "")
            if not isinstance(field, str) or field not in _SOURCED | set(PEAK_TITLES):
                raise self.error(path, f"{field!r} is neither a field nor a peak key")
            path = f"conflicts.{field}"
            if not isinstance(note, str) or not isinstance(row["values"], list):
                raise self.error(path, "note must be a text and values a list")
            yield Conflict(
                field, tuple(self.conflict_value(path, entry) for entry in row["values"]), note
            )

    def conflict_value(self, path: str, entry: object) -> ConflictValue:
        if not isinstance(entry, list) or len(entry) < 2:
            raise self.error(path, "each value must be [value, source, ...]")
        value = entry[0]
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.error(path, f"{value!r} must be a number or a text")
        return ConflictValue(value, self.checked_sources(path, entry[1:]))
