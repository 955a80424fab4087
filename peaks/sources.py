"""Where a catalogue value comes from, and how the data files are read.

Every number about a device is somebody's statement: a vendor's page, a list that quotes it, the
output of a driver. ``data/sources.toml`` names them once; each value of the catalogue lists the
keys of those that state it, so that a reader can weigh a figure and re-check it.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any, Final

KINDS: Final = (
    "vendor",
    "vendor-quoted",
    "registry",
    "secondary",
    "driver-output",
    "notes",
    "derived",
)


class CatalogueError(ValueError):
    """A catalogue file is malformed; the sentence names the file, the key and what is wrong."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        """Say that ``key`` in ``file`` has ``problem``."""
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")
        self.file = file
        self.key = key
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Source:
    """One source: whose words they are (``kind``), its title, where it was read (``locator``)."""

    key: str
    kind: str
    title: str
    locator: str


def _data() -> Traversable:
    return importlib.resources.files("roofprobe.peaks").joinpath("data")


def data_files(folder: str) -> tuple[str, ...]:
    """Names of the TOML files in a folder of ``peaks/data``, sorted."""
    names = (entry.name for entry in _data().joinpath(folder).iterdir())
    return tuple(f"{folder}/{name}" for name in sorted(names) if name.endswith(".toml"))


def read_text(file: str) -> str:
    """The text of ``peaks/data/<file>``."""
    resource = _data()
    for part in file.split("/"):
        resource = resource.joinpath(part)
    return resource.read_text(encoding="utf-8")


def read_data(file: str) -> dict[str, Any]:
    """Parse ``peaks/data/<file>``; raises `CatalogueError` where it is not TOML."""
    return parse_toml(read_text(file), file=file)


def parse_toml(text: str, *, file: str) -> dict[str, Any]:
    """Parse TOML text; raises `CatalogueError` with the parser's line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(file, "", f"not valid TOML: {error}") from error


@functools.cache
def load_sources() -> dict[str, Source]:
    """All sources by key; raises `CatalogueError` for an unknown kind or a missing title."""
    file = "sources.toml"
    return {key: _source(key, row, file) for key, row in read_data(file).items()}


def _source(key: str, row: object, file: str) -> Source:
    if not isinstance(row, dict) or set(row) != {"kind", "title", "locator"}:
        raise CatalogueError(file, key, "a source has exactly kind, title and locator")
    if row["kind"] not in KINDS:
        raise CatalogueError(file, key, f"unknown kind {row['kind']!r}, use one of {KINDS}")
    for field in ("title", "locator"):
        if not isinstance(row[field], str) or not row[field].strip():
            raise CatalogueError(file, f"{key}.{field}", "must be a non-empty text")
    return Source(key=key, kind=row["kind"], title=row["title"], locator=row["locator"])
