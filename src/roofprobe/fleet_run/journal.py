"""The journal of a fleet run: a line per thing that happened, on disk before the next happens.

``OUT/fleet-run.jsonl`` begins with what was asked for; each slot's outcome follows as it comes, and
``end`` where the run ended by itself. The last outcome of a slot counts. A line that was cut off by
a crash is dropped. ``--resume`` repeats every slot that has no result yet.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from roofprobe.fleet_run.slots import Outcome
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import read_bytes, said

NAME: Final = "fleet-run.jsonl"
FORMAT: Final = "roofprobe-fleet-run"
VERSION: Final = 1
_MAX_BYTES: Final = 1 << 30


@dataclass(slots=True)
class Past:
    """What a journal tells: ``token`` marks the run on its nodes, ``nodes`` are devices by node.

    ``figures`` is what they depend on (`Asked.figures`), ``roofprobe`` the version that began it.
    """

    figures: dict[str, str | None]
    roofprobe: str
    at: str
    token: str
    nodes: dict[str, list[str]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    begun: bool = False  # whether anything was sent to a node
    valid_bytes: int = 0

    def done(self, node: str) -> list[str]:
        """Return the devices of ``node`` that have a result."""
        return [
            each.device
            for each in self.outcomes.values()
            if each.node == node and each.state != "unknown"
        ]


class Journal:
    """Appends to a journal; each line is on disk when ``write`` returns."""

    def __init__(self, out: Path, valid_bytes: int = 0) -> None:
        """Open the journal of ``out``, without what lies after its last whole line."""
        self._path = out / NAME
        try:
            self._file = open(self._path, "ab")  # noqa: SIM115 - closed by close()
            self._file.truncate(valid_bytes)
        except OSError as error:
            raise RoofprobeError("unwritable", said(self._path, error)) from error

    def write(self, what: str, **told: Any) -> None:
        """Write a line; raises ``RoofprobeError`` (``disk-full`` or ``unwritable``)."""
        line = {"what": what, "at": datetime.now(UTC).isoformat(timespec="seconds"), **told}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RoofprobeError(
                "disk-full" if error.errno == 28 else "unwritable",
                f"cannot write {self._path} ({error.strerror}); make room, then use --resume",
                exit_code=3,
            ) from error

    def outcome(self, outcome: Outcome) -> None:
        """Write what became of a slot."""
        self.write("slot", **asdict(outcome))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def begin(out: Path, figures: Mapping[str, str | None], resume: bool) -> tuple[Journal, Past]:
    """Open the journal of ``out`` and return it with what it tells already.

    ``figures`` is what they depend on. Raises ``RoofprobeError``: ``nothing-to-resume``,
    ``has-a-fleet-run`` (one lies there and ``resume`` was not asked for), ``other-options``,
    ``damaged-journal``.
    """
    from roofprobe import __version__

    path = out / NAME
    if resume and not path.exists():
        raise RoofprobeError(
            "nothing-to-resume", f"{out} holds no fleet run to resume; leave --resume away"
        )
    past = read(path) if path.exists() else None
    if past is not None and (past.begun or resume):
        if not resume:
            raise RoofprobeError(
                "has-a-fleet-run",
                f"{out} holds the fleet run of {past.at}; go on with it by --resume, or choose "
                "another --out",
            )
        _same(past, figures)
        journal = Journal(out, past.valid_bytes)
        journal.write("resumed", roofprobe=__version__)
        return journal, past
    token = secrets.token_hex(8)
    journal = Journal(out)
    journal.write(
        "begin", format=FORMAT, version=VERSION, roofprobe=__version__, token=token,
        figures=dict(figures),
    )  # fmt: skip
    return journal, Past(dict(figures), __version__, "", token)


def _same(past: Past, figures: Mapping[str, str | None]) -> None:
    """Refuse to go on otherwise than was begun: the results would not be comparable."""
    differing = [name for name, value in figures.items() if past.figures.get(name) != value]
    if not differing:
        return
    began, now = (
        ", ".join(_typed(name, told.get(name)) for name in differing)
        for told in (past.figures, figures)
    )
    by = f" (roofprobe {past.roofprobe})" if "method version" in differing else ""
    raise RoofprobeError(
        "other-options",
        f"the fleet run of {past.at} was begun {began}{by} and would go on {now}, which changes "
        "its figures: resume it as it was begun, or choose another --out",
    )


def _typed(name: str, value: str | None) -> str:
    return f"without {name}" if value is None else f"with {name} {value}"


def read(path: Path) -> Past:
    """Read a journal; raises ``RoofprobeError`` (``damaged-journal``)."""
    try:
        data = read_bytes(path, _MAX_BYTES)
    except OSError as error:
        raise RoofprobeError("unreadable", said(path, error)) from error
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines()
    try:
        first = json.loads(lines[0])
        if first["format"] != FORMAT or first["version"] != VERSION:
            raise ValueError("its first line is of another format")
        past = Past(
            dict(first["figures"]), str(first["roofprobe"]), str(first["at"]), str(first["token"])
        )
        if not past.token.isalnum():
            raise ValueError("its token is odd")
        for line in lines[1:]:
            _add(past, json.loads(line))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RoofprobeError(
            "damaged-journal",
            f"{path} was changed or damaged ({type(error).__name__}: {error}); choose another "
            "--out, and merge the runs of both",
        ) from None
    past.valid_bytes = end
    return past


def _add(past: Past, line: Mapping[str, Any]) -> None:
    told = {name: value for name, value in line.items() if name not in ("what", "at")}
    if line["what"] == "node":
        past.nodes[str(told["node"])] = [str(device) for device in told["devices"]]
    elif line["what"] == "sent":
        past.begun = True
    elif line["what"] == "slot":
        told["device_ids"] = tuple(told.get("device_ids", ()))
        outcome = Outcome(**told)
        past.outcomes[outcome.slot] = outcome


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many slots ended in each state."""
    return {
        state: sum(each.state == state for each in outcomes)
        for state in ("finished", "failed", "unknown")
    }
