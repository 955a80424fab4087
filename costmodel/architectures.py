"""The table of architectures: which config field holds which size, and what no field says.

Rows live in ``data/architectures.toml``; supporting an architecture whose layers are made of known
parts is adding a row.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

Rule = bool | str
Names = Mapping[str, tuple[str, ...]]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row; the file's head says what each field means.

    A `Rule` is true, false, or the name of the config field that says so.
    """

    key: str
    classes: tuple[str, ...]
    model_types: tuple[str, ...]
    source: str
    attention: Literal["gqa", "mla"] = "gqa"
    qkv_bias: Rule = False
    out_bias: Rule = False
    mlp_bias: Rule = False
    qk_norm: str = "none"
    sinks: bool = False
    gated: bool = True
    norms: int = 2
    norm_bias: bool = False
    learned_positions: bool = False
    window: str = "none"
    moe: str = "none"
    shared: str = "none"
    expert_bias: bool = False
    router_bias: bool = False
    correction_bias: bool = False
    shared_gate: bool = False
    unmodelled: str | None = None
    text: str | None = None
    flat: bool = False
    names: Names = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One kind of encoder: its fields, which types have a gated MLP, whether it ends in mergers."""

    key: str
    model_types: tuple[str, ...]
    kind: Literal["vision", "audio"]
    source: str
    names: Names
    defaults: Mapping[str, object]
    gated_types: tuple[str, ...] = ()
    mergers: bool = False


@dataclass(frozen=True, slots=True)
class ArchitectureTable:
    """All rows, by class, model type or encoder type; and the one that stands in for others."""

    by_class: Mapping[str, Architecture]
    by_type: Mapping[str, Architecture]
    encoders: Mapping[str, EncoderRow]
    approximate: Architecture


@functools.cache
def load_architectures() -> ArchitectureTable:
    """The table of the package, read once; raises `ValueError` if two rows claim one name."""
    data = importlib.resources.files("roofprobe.costmodel") / "data" / "architectures.toml"
    document = tomllib.loads(data.read_text(encoding="utf-8"))
    common = _names(document.pop("common")["fields"])
    encoder_rows: dict[str, dict[str, Any]] = document.pop("encoders")
    rows = [_row(key, table, common) for key, table in document.items()]
    return ArchitectureTable(
        by_class=_index((name, row) for row in rows for name in row.classes),
        by_type=_index((name, row) for row in rows for name in row.model_types),
        encoders=_index(
            (name, row)
            for row in (_encoder(key, table) for key, table in encoder_rows.items())
            for name in row.model_types
        ),
        approximate=next(row for row in rows if row.key == "approximate"),
    )


def _row(key: str, table: dict[str, Any], common: Names) -> Architecture:
    values = {name: value for name, value in table.items() if name != "fields"}
    values["names"] = {**common, **_names(table.get("fields", {}))}
    values["classes"] = tuple(values["classes"])
    values["model_types"] = tuple(values["model_types"])
    unknown = set(values) - {f.name for f in fields(Architecture)}
    if unknown:
        raise ValueError(f"architectures.toml: {key}: unknown fields {sorted(unknown)}")
    return Architecture(key=key, **values)


def _names(table: Mapping[str, str | list[str]]) -> Names:
    return {
        size: (found,) if isinstance(found, str) else tuple(found) for size, found in table.items()
    }


def _encoder(key: str, table: dict[str, Any]) -> EncoderRow:
    return EncoderRow(
        key=key,
        model_types=tuple(table["model_types"]),
        kind=table["kind"],
        source=table["source"],
        names=_names(table["fields"]),
        defaults=table["defaults"],
        gated_types=tuple(table.get("gated_types", ())),
        mergers=table.get("mergers", False),
    )


def _index(pairs: Iterable[tuple[str, Row]]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for name, row in pairs:
        if name in found:
            raise ValueError(f"architectures.toml: {name} is in two rows")
        found[name] = row
    return found
