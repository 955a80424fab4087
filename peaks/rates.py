"""Operations per clock per unit of each architecture: what the silicon does in one cycle.

A peak is units x rate x clock. The rate counts the dense operations (one fused multiply-add is two)
that one unit (NVIDIA SM, AMD CU, Ascend AI core, Gaudi MME) retires per clock. Cards of one compute
capability may differ: GeForce halves tensor rates with FP32 accumulate, the H20 keeps a quarter.
Such variants are classes of their own, and a device that the catalogue does not know gets only the
rates on which all classes of its capability agree.

A rate is only as good as its ``basis``: many could only be read off, or fitted to, the very peaks
that they are then compared with. That is recorded per rate, and a small residual means little
there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from roofprobe.peaks.precisions import PEAK_TITLES
from roofprobe.peaks.sources import CatalogueError, load_sources, read_data

Basis = Literal["independent", "read_off", "fitted"]

_FILE: Final = "rates.toml"
_BASES: Final[tuple[Basis, ...]] = ("independent", "read_off", "fitted")


@dataclass(frozen=True, slots=True)
class Rate:
    """Dense operations per clock per unit (one FMA = 2), where they come from, and how firmly.

    ``settled`` is false where cards or sources disagree, or one inferred figure is all there is;
    the peak made from such a rate is no bound.
    """

    key: str
    ops_per_clock: float
    basis: Basis
    sources: tuple[str, ...]
    note: str = ""
    settled: bool = True


@dataclass(frozen=True, slots=True)
class RateClass:
    """The rates of one kind of unit, with those of its base class resolved.

    ``unit`` is the name of the unit, ``absent`` says in words which types it lacks, and
    ``boost_clock_keys`` are peaks quoted at the boost clock although others have a tensor clock.
    """

    name: str
    description: str
    unit: str
    rates: Mapping[str, Rate]
    compute_capability: str | None = None
    gcn_arch: str | None = None
    absent: str = ""
    boost_clock_keys: tuple[str, ...] = ()

    def ops_per_clock(self) -> dict[str, float]:
        """Dense operations per clock per unit by peak key."""
        return {key: rate.ops_per_clock for key, rate in self.rates.items()}

    def fitted_keys(self) -> tuple[str, ...]:
        """Peak keys whose rate was fitted to, or read off, a printed peak."""
        return tuple(key for key, rate in self.rates.items() if rate.basis != "independent")


@dataclass(frozen=True, slots=True)
class RateConflict:
    """A disagreement between public rate tables about a field of a class."""

    rate_class: str
    field: str
    sources: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class RateTable:
    """All classes by name, the conflicts, and the memory multipliers.

    ``memory_multipliers`` turn TechPowerUp's command clock into transfers per second, by memory
    type; ``driver_memory_multiplier`` does so for the clock that NVML and the CUDA driver report.
    """

    classes: Mapping[str, RateClass]
    conflicts: tuple[RateConflict, ...]
    memory_multipliers: Mapping[str, int]
    driver_memory_multiplier: int


@functools.cache
def load_rates() -> RateTable:
    """The rate table of the package; raises `CatalogueError` if it is malformed."""
    return parse_rates(read_data(_FILE), file=_FILE)


def parse_rates(data: Mapping[str, Any], *, file: str) -> RateTable:
    """Build the rate table from parsed TOML; raises `CatalogueError` naming file and key."""
    classes: dict[str, RateClass] = {}
    for name, row in data.get("class", {}).items():
        classes[name] = _rate_class(name, row, classes, file)
    try:
        multipliers = data["multipliers"]
        return RateTable(
            classes=classes,
            conflicts=tuple(
                RateConflict(
                    rate_class=row["class"],
                    field=row["field"],
                    sources=_sources(row["source"], file, "conflict"),
                    note=row["note"],
                )
                for row in data.get("conflict", [])
            ),
            memory_multipliers=dict(multipliers["techpowerup"]),
            driver_memory_multiplier=int(multipliers["cuda_driver"]),
        )
    except KeyError as error:
        raise CatalogueError(file, "", f"missing key {error}") from error


def agreed_rates(
    *, compute_capability: str | None = None, gcn_arch: str | None = None
) -> dict[str, Rate]:
    """The rates on which all classes of an architecture agree; empty for an unknown one.

    ``compute_capability`` is NVIDIA's ("9.0"); ``gcn_arch`` AMD's, with or without feature suffixes
    ("gfx942:sramecc+:xnack-"). A rate that one class changes or drops is left out.
    """
    arch = gcn_arch.split(":")[0].strip().casefold() if gcn_arch else None
    classes = [
        rate_class
        for rate_class in load_rates().classes.values()
        if (compute_capability and rate_class.compute_capability == compute_capability)
        or (arch and rate_class.gcn_arch == arch)
    ]
    if not classes:
        return {}
    return {
        key: rate
        for key, rate in classes[0].rates.items()
        if all(
            key in other.rates and other.rates[key].ops_per_clock == rate.ops_per_clock
            for other in classes
        )
    }


_CLASS_FIELDS: Final = frozenset(
    {"description", "unit", "compute_capability", "gcn_arch", "absent", "base", "drop"}
    | {"boost_clock_keys", "rates"}
)


def _rate_class(
    name: str, row: Mapping[str, Any], classes: Mapping[str, RateClass], file: str
) -> RateClass:
    unknown = sorted(set(row) - _CLASS_FIELDS)
    if unknown:
        raise CatalogueError(file, f"class.{name}.{unknown[0]}", "unknown field")
    for field in ("description", "unit"):
        if not isinstance(row.get(field), str):
            raise CatalogueError(file, f"class.{name}.{field}", "must be a text")
    rates: dict[str, Rate] = {}
    boost_keys: tuple[str, ...] = tuple(row.get("boost_clock_keys", ()))
    if "base" in row:
        if row["base"] not in classes:
            raise CatalogueError(file, f"class.{name}.base", f"no class {row['base']!r} above it")
        base = classes[row["base"]]
        rates = {key: rate for key, rate in base.rates.items() if key not in row.get("drop", ())}
        boost_keys = boost_keys or base.boost_clock_keys
    for key, entry in row.get("rates", {}).items():
        rates[key] = _rate(key, entry, file, f"class.{name}.rates.{key}")
    return RateClass(
        name=name,
        description=row["description"],
        unit=row["unit"],
        rates=rates,
        compute_capability=row.get("compute_capability"),
        gcn_arch=row.get("gcn_arch"),
        absent=row.get("absent", ""),
        boost_clock_keys=boost_keys,
    )


def _rate(key: str, entry: Mapping[str, Any], file: str, path: str) -> Rate:
    if key not in PEAK_TITLES:
        raise CatalogueError(file, path, "unknown peak key")
    rate = entry.get("rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
        raise CatalogueError(file, path, "rate must be a positive number")
    if entry.get("basis") not in _BASES:
        raise CatalogueError(file, path, f"basis must be one of {_BASES}")
    return Rate(
        key=key,
        ops_per_clock=rate,
        basis=entry["basis"],
        sources=_sources(entry.get("source"), file, path),
        note=entry.get("note", ""),
        settled=entry.get("settled", True),
    )


def _sources(keys: object, file: str, path: str) -> tuple[str, ...]:
    if not isinstance(keys, list) or not keys:
        raise CatalogueError(file, path, "source must list at least one source")
    for key in keys:
        if key not in load_sources():
            raise CatalogueError(file, path, f"unknown source {key!r}")
    return tuple(keys)
