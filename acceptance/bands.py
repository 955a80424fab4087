"""Bands: below which share of its peak a figure is worth a warning, and below which it fails.

They live in ``data/bands.toml``, each with its source, and are checked when they are read: a key
that is not known, a band that fails before it warns, or two that are equally near is refused, since
a rule that silently does not apply judges nothing.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.precisions import NAMES
from roofprobe.peaks.rates import load_rates

Kind = Literal["dense", "sparse", "vector"]
Share = Annotated[float, Field(gt=0, lt=1)]
_FILE = "bands.toml"


class BandsError(ValueError):
    """The file of bands is malformed; the sentence says where."""


class _Rule(BaseModel):
    """What all rules have: which cards they are about, and who says so, in short and in full."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rows: list[str] = []
    classes: list[str] = []
    reference: Annotated[str, Field(min_length=10, max_length=60)]
    source: Annotated[str, Field(min_length=10)]

    @property
    def nearness(self) -> int:
        """How closely the rule names a card: 2 its row, 1 its rate class, 0 any."""
        return 2 if self.rows else 1 if self.classes else 0

    def fits(self, row: str, rate_class: str) -> bool:
        """Whether the rule is about a card of the catalogue."""
        if self.rows:
            return row in self.rows
        return not self.classes or rate_class in self.classes

    @model_validator(mode="after")
    def _about_known_cards(self) -> _Rule:
        if self.rows and self.classes:
            raise ValueError("name rows or classes, not both")
        unknown = set(self.rows) - set(load().accelerators)
        unknown |= set(self.classes) - set(load_rates().classes)
        if unknown:
            raise ValueError(f"the catalogue has no {', '.join(sorted(unknown))}")
        return self


class Band(_Rule):
    """A band: shares of a peak, between 0 and 1; without ``fail_below`` nothing fails."""

    warn_below: Share
    fail_below: Share | None = None

    @model_validator(mode="after")
    def _warns_first(self) -> Band:
        if self.fail_below is not None and self.fail_below >= self.warn_below:
            raise ValueError("fail_below must lie under warn_below")
        return self


class ComputeBand(Band):
    """A band of matrix products (``dense``, ``sparse``) or of the vector pipe."""

    precisions: Annotated[list[str], Field(min_length=1)]
    kind: Kind = "dense"

    @model_validator(mode="after")
    def _of_known_precisions(self) -> ComputeBand:
        unknown = set(self.precisions) - set(NAMES)
        if unknown:
            raise ValueError(f"there is no precision {', '.join(sorted(unknown))}")
        return self


class MemoryBand(Band):
    """A band of streaming kernels."""

    kernels: Annotated[list[str], Field(min_length=1)]


class LinkRule(_Rule):
    """What one NVLink carries, GB/s, both directions together."""

    link_gbps: Annotated[float, Field(gt=0)]


_AnyRule = TypeVar("_AnyRule", bound=_Rule)


class Bands(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    compute: list[ComputeBand]
    memory: list[MemoryBand]
    nvlink: list[LinkRule]

    def of_compute(
        self, row: str, rate_class: str, precision: str, kind: Kind
    ) -> ComputeBand | None:
        """Return the nearest band of a precision on a card; None where none is about it."""
        return _nearest(
            [b for b in self.compute if b.kind == kind and precision in b.precisions],
            row,
            rate_class,
        )

    def of_memory(self, row: str, rate_class: str, kernel: str) -> MemoryBand | None:
        """Return the nearest band of a streaming kernel on a card; None where none is about it."""
        return _nearest([b for b in self.memory if kernel in b.kernels], row, rate_class)

    def of_link(self, row: str, rate_class: str) -> LinkRule | None:
        """Return what one NVLink of a card carries; None where it is not known."""
        return _nearest(self.nvlink, row, rate_class)


def _nearest(rules: list[_AnyRule], row: str, rate_class: str) -> _AnyRule | None:
    fitting = [rule for rule in rules if rule.fits(row, rate_class)]
    return max(fitting, key=lambda rule: rule.nearness, default=None)


def parse_bands(text: str) -> Bands:
    """Read a file of bands; raises `BandsError` at the first fault."""
    try:
        bands = Bands.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BandsError(f"{_FILE}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BandsError(f"{_FILE}: {where}: {problem['msg']}") from error
    _refuse_twins(
        (f"{p} ({b.kind})", scope, b.nearness)
        for b in bands.compute
        for p in b.precisions
        for scope in b.rows or b.classes or ["any"]
    )
    _refuse_twins(
        (k, scope, b.nearness)
        for b in bands.memory
        for k in b.kernels
        for scope in b.rows or b.classes or ["any"]
    )
    return bands


def _refuse_twins(keys: Iterable[tuple[str, str, int]]) -> None:
    seen: set[tuple[str, str, int]] = set()
    for key in keys:
        if key in seen:
            raise BandsError(f"{_FILE}: two bands are about {key[0]} of {key[1]}")
        seen.add(key)


@functools.cache
def load_bands() -> Bands:
    """The bands of the package, read once; raises `BandsError` if the file is malformed."""
    file = importlib.resources.files("roofprobe.acceptance").joinpath("data").joinpath(_FILE)
    return parse_bands(file.read_text(encoding="utf-8"))
