"""The datasheet catalogue: what vendors print for each accelerator, with sources and conflicts.

Rows live in ``data/accelerators/*.toml``; adding a card is adding a row (docs/adding-a-gpu.md). A
datasheet peak is a marketing figure at a stated clock, dense or with 2:4 sparsity, with a given
accumulator. It is not a bound: some cards run above the clock it was quoted at.

Nothing is read at import; `load` reads and checks all files once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from roofprobe.peaks.accelerator import Accelerator, Conflict, ConflictValue
from roofprobe.peaks.rates import load_rates
from roofprobe.peaks.rows import parse_accelerators
from roofprobe.peaks.sources import CatalogueError, Source, data_files, load_sources, read_text

__all__ = [
    "Accelerator",
    "Catalogue",
    "CatalogueError",
    "Conflict",
    "ConflictValue",
    "Source",
    "load",
]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All accelerators by key, and the sources by key."""

    accelerators: Mapping[str, Accelerator]
    sources: Mapping[str, Source]

    def __iter__(self) -> Iterator[Accelerator]:
        """The accelerators in the order of the files."""
        return iter(self.accelerators.values())

    def __len__(self) -> int:
        """The number of accelerators."""
        return len(self.accelerators)

    def __getitem__(self, key: str) -> Accelerator:
        """The accelerator of a key ("nvidia_h100_nvl"); raises `KeyError`."""
        return self.accelerators[key]


@functools.cache
def load() -> Catalogue:
    """The catalogue of the package, read once; raises `CatalogueError` if a file is malformed."""
    sources, classes = load_sources(), load_rates().classes
    accelerators: dict[str, Accelerator] = {}
    for file in data_files("accelerators"):
        rows = parse_accelerators(read_text(file), file=file, sources=sources, rate_classes=classes)
        for key, row in rows.items():
            if key in accelerators:
                raise CatalogueError(file, key, "is already in another file")
            accelerators[key] = row
    return Catalogue(accelerators=accelerators, sources=sources)
