"""A fleet's dataset: immutable Parquet parts, and a log that says which of them count.

    FLEET/log/00000001.json …             one entry per merge, each made once
    FLEET/parts/<id>.{runs,devices,metrics}.parquet
    FLEET/manifest.json                   the log folded; for people and other tools

An entry names the parts that it adds, the records of parts that no longer count (an older state of
a run that went on since, or the same one merged twice at once), and the files that were refused,
each with its reason, until they are mended or removed. A merge that dies leaves parts that no entry
names: they do not count. Two merges at once write two entries; which is first is decided by whose
file is made first, and the other looks at what changed and takes the next number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.extract import TABLES
from roofprobe.records.fleet.store import Store

FORMAT: Final = "roofprobe-fleet"
VERSION: Literal[1] = 1
LOG, PARTS, MANIFEST = "log", "parts", "manifest.json"
_ENTRY = re.compile(r"\d{8}\.json")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """The files of one batch of runs; what each holds in rows."""

    name: str
    runs: int
    devices: int
    metrics: int
    bytes: int


class Excluded(_Frozen):
    """A record in a part that does not count, and which one counts in its place."""

    part: str
    digest: str
    by: str


class Refused(_Frozen):
    """A file that is in no part: where it lay, and why. ``digest`` of what could be read."""

    source: str
    code: str
    sentence: str
    digest: str | None = None


class Entry(_Frozen):
    """One merge; ``cleared`` are sources refused before that were mended or removed since."""

    format: Literal["roofprobe-fleet"] = FORMAT
    schema_version: Literal[1] = VERSION
    at: str
    by: str
    parts: tuple[Part, ...] = ()
    dropped_parts: tuple[str, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    refused: tuple[Refused, ...] = ()
    cleared: tuple[str, ...] = ()


@dataclass(slots=True)
class State:
    """The log as far as it was read: what counts now.

    ``version`` is the last entry's number; ``dropped`` says of parts that no longer count since
    when.
    """

    version: int = 0
    merged_at: str | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    excluded: dict[tuple[str, str], Excluded] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def apply(self, entry: Entry) -> None:
        """Take in the next entry."""
        self.version += 1
        self.merged_at = entry.at
        for part in entry.parts:
            self.parts[part.name] = part
        for name in entry.dropped_parts:
            self.parts.pop(name, None)
            self.dropped[name] = entry.at
        for each in entry.excluded:
            self.excluded[each.part, each.digest] = each
        for source in entry.cleared:
            self.refused.pop(source, None)
        for refused in entry.refused:
            self.refused[refused.source] = refused
        self.excluded = {
            key: each for key, each in self.excluded.items() if each.part in self.parts
        }


class Fleet:
    """A dataset at a store; `state` is read when it is asked for."""

    def __init__(self, store: Store) -> None:
        """Name the place; nothing is read yet."""
        self.store = store

    def state(self, since: State | None = None) -> State:
        """Return what counts now, from what was known ``since``.

        Raises ``RoofprobeError`` (``newer-fleet``, ``damaged-fleet``).
        """
        state = since if since is not None else State()
        for name in self._entries()[state.version :]:
            state.apply(self._entry(name))
        return state

    def exists(self) -> bool:
        """Whether anything was ever merged here."""
        return bool(self._entries())

    def commit(self, entry: Entry, version: int) -> bool:
        """Write entry number ``version``; False where another merge was first."""
        data = entry.model_dump_json(indent=1, exclude_defaults=False).encode() + b"\n"
        return self.store.create(f"{LOG}/{version:08}.json", data)

    def write_manifest(self, state: State) -> None:
        """Write the folded log."""
        document = {
            "format": FORMAT,
            "schema_version": VERSION,
            "log_version": state.version,
            "tables": {table: urls(state.parts, table) for table in TABLES},
            "parts": [part.model_dump() for part in state.parts.values()],
            "excluded": [each.model_dump() for each in state.excluded.values()],
            "refused": [each.model_dump() for each in state.refused.values()],
        }
        data = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
        self.store.replace(MANIFEST, data)

    def _entries(self) -> list[str]:
        return [name for name in self.store.names(LOG) if _ENTRY.fullmatch(name)]

    def _entry(self, name: str) -> Entry:
        where = f"{self.store.where}/{LOG}/{name}"
        try:
            document: Any = json.loads(self.store.read(f"{LOG}/{name}"))
            if isinstance(document, dict) and _newer(document.get("schema_version")):
                raise RoofprobeError(
                    "newer-fleet",
                    f"{where} was written by a newer roofprobe; upgrade this one to read the fleet",
                )
            return Entry.model_validate(document)
        except (OSError, ValueError, ValidationError, RecursionError) as error:
            raise RoofprobeError(
                "damaged-fleet",
                f"cannot read {where} ({type(error).__name__}); restore it, or merge the runs anew "
                "into another folder",
            ) from error


def urls(parts: Iterable[str], table: str) -> list[str]:
    """Return the relative names of the files of one table."""
    return [f"{PARTS}/{name}.{table}.parquet" for name in parts]


def _newer(version: object) -> bool:
    return isinstance(version, int) and version > VERSION
