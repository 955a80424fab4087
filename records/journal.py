"""The journal: one line per measurement, on disk before the next one begins.

``journal.jsonl`` starts with a header line (what was asked, of which devices, which cases) and then
holds measurements, events and the devices' health after the run, in the order in which they
happened. Each line is written whole and synced, so a run that is killed at any moment loses at most
the case that was being measured, and a last line that was cut off is recognised and dropped. It is
the source of truth for resuming.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import json_object, read_bytes, said
from roofprobe.records.schema import (
    METHOD_VERSION,
    SCHEMA_VERSION,
    Device,
    Environment,
    Event,
    Health,
    Measurement,
    Options,
    Record,
)

NAME = "journal.jsonl"
MAX_LINE_BYTES = 64 << 20
MAX_JOURNAL_BYTES = 512 << 20


class Header(Record):
    """The first line: everything that a resumed run must know, but the measurements."""

    schema_version: int = SCHEMA_VERSION
    method_version: int = METHOD_VERSION
    run_id: str
    started_at: str
    command: tuple[str, ...]
    options: Options
    environment: Environment
    devices: tuple[Device, ...]


class HealthAfter(Record):
    """How a device is after its cases; of a resumed run the last one counts."""

    device_id: str
    health: Health


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal holds. ``valid_bytes`` is where a cut-off last line would begin."""

    header: Header
    measurements: tuple[Measurement, ...]
    events: tuple[Event, ...]
    valid_bytes: int
    health_after: tuple[HealthAfter, ...] = ()


class JournalWriter:
    """Append lines to a journal, each synced to disk before the call returns.

    Raises ``RoofprobeError`` (``disk-full`` or ``unwritable``, exit code 3) when a line cannot be
    written; what was written before stays valid.
    """

    def __init__(self, folder: Path, *, truncate_to: int | None = None) -> None:
        """Open ``folder``'s journal; ``truncate_to`` drops a cut-off last line first."""
        self._path = folder / NAME
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if truncate_to is not None:
                os.ftruncate(self._file, truncate_to)
        except OSError as error:
            raise RoofprobeError(
                "unwritable", f"cannot write {self._path} ({error.strerror}); choose another --out"
            ) from error

    def header(self, header: Header) -> None:
        """Write the first line."""
        self._line("header", header)

    def measurement(self, measurement: Measurement) -> None:
        """Write one measurement."""
        self._line("measurement", measurement)

    def event(self, event: Event) -> None:
        """Write one event."""
        self._line("event", event)

    def health(self, health: HealthAfter) -> None:
        """Write how a device is after its cases."""
        self._line("health", health)

    def close(self) -> None:
        """Close the file; lines are already on disk."""
        os.close(self._file)

    def _line(self, kind: str, record: Record) -> None:
        data = {"kind": kind, **record.model_dump(mode="json", exclude_none=True)}
        line = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        start = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            # A part of a line must not stay in front of a later one.
            os.ftruncate(self._file, start)
            raise RoofprobeError(
                "disk-full",
                f"cannot write to {self._path} ({error.strerror}); everything measured before is "
                "kept: make room, then go on with --resume",
                exit_code=3,
            ) from error


def read_journal(folder: Path) -> Journal:
    """Read a journal.

    Raises ``RoofprobeError`` (``not-a-run``, ``newer-schema``, ``damaged-run``) with the line that
    is wrong. Only a last line without its newline is tolerated: that is how a kill looks.
    """
    path = folder / NAME
    try:
        data = read_bytes(path, MAX_JOURNAL_BYTES)
    except FileNotFoundError:
        raise RoofprobeError(
            "not-a-run", f"{folder} is not a run of roofprobe: it has no {NAME}"
        ) from None
    except OSError as error:
        raise RoofprobeError("unreadable", said(path, error)) from error
    valid = data.rfind(b"\n") + 1
    lines = data[:valid].split(b"\n")[:-1]
    if not lines:
        raise RoofprobeError(
            "damaged-run", f"{path} ends before its first line is complete; start a new run"
        )
    header = _header(path, lines[0])
    measurements: list[Measurement] = []
    events: list[Event] = []
    health: list[HealthAfter] = []
    for number, line in enumerate(lines[1:], start=2):
        fields = _fields(path, number, line)
        kind = fields.pop("kind", None)
        try:
            if kind == "measurement":
                measurements.append(Measurement.model_validate(fields))
            elif kind == "event":
                events.append(Event.model_validate(fields))
            elif kind == "health":
                health.append(HealthAfter.model_validate(fields))
            else:
                raise _damaged(path, number, f"its kind is {str(kind)[:40]!r}")
        except (ValidationError, RecursionError) as error:
            raise _damaged(path, number, first_problem(error)) from error
    return Journal(header, tuple(measurements), tuple(events), valid, tuple(health))


def has_begun(folder: Path) -> bool:
    """Return whether ``folder`` has a journal whose first line is whole, or is not to be read."""
    try:
        with open(folder / NAME, "rb") as file:
            return file.readline(MAX_LINE_BYTES + 1).endswith(b"\n")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # whoever reads it says why it cannot be read


def settled(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Return what a resumed run need not look at again: all but what time ran out for."""
    return tuple(m for m in measurements if m.reason is None or m.reason.code != "time-budget")


def last_of_each(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Return each case once, as it was measured last, in the order of its first appearance."""
    last = {(m.device_id, m.case.case_id): m for m in measurements}
    return tuple(last.values())


def done_keys(measurements: Sequence[Measurement]) -> set[tuple[str, str]]:
    """Return (device, case) of everything that a resumed run must not measure again."""
    return {(m.device_id, m.case.case_id) for m in measurements}


def first_problem(error: ValidationError | RecursionError) -> str:
    """Return the first problem of a validation error in a few words."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in problem["loc"][:8]) or "the record"
    return f"{where}: {problem['msg']}"


def check_version(path: Path, fields: dict[str, Any]) -> None:
    """Raise ``RoofprobeError`` when ``fields`` is not ours or of a newer schema."""
    version = fields.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RoofprobeError(
            "not-a-run", f"{path} is not a file of roofprobe: it names no schema version"
        )
    if version > SCHEMA_VERSION:
        raise RoofprobeError(
            "newer-schema",
            f"{path} has schema version {version} and this roofprobe knows up to "
            f"{SCHEMA_VERSION}: pip install --upgrade roofprobe",
        )


def _header(path: Path, line: bytes) -> Header:
    fields = _fields(path, 1, line)
    kind = fields.pop("kind", None)
    if kind != "header":
        raise RoofprobeError("not-a-run", f"{path} does not begin with a header of roofprobe")
    check_version(path, fields)
    try:
        return Header.model_validate(fields)
    except (ValidationError, RecursionError) as error:
        raise _damaged(path, 1, first_problem(error)) from error


def _fields(path: Path, number: int, line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise _damaged(path, number, f"it is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        return json_object(line)
    except ValueError as error:
        if number == 1:
            raise RoofprobeError(
                "not-a-run", f"{path} is not a journal of roofprobe: line 1 is not JSON"
            ) from error
        raise _damaged(path, number, f"it is no JSON object: {error}") from error


def _damaged(path: Path, number: int, what: str) -> RoofprobeError:
    return RoofprobeError(
        "damaged-run",
        f"line {number} of {path} was changed or damaged ({what}); restore the file, or start a "
        "new run without --resume",
    )
