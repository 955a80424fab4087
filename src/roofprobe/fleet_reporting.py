"""``probe fleet report``: judge a fleet, and write what is asked for beside what is printed.

Nothing is measured, and nothing of the fleet is written. A folder of runs is taken for a fleet that
ends with the command.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from roofprobe.acceptance.fleet.expected import read_expected
from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions, FleetVerdict
from roofprobe.acceptance.fleet.judge import fleet_verdict
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.history import Opened, opened, standing_refused
from roofprobe.records.runfolder import write_whole
from roofprobe.reporting.fleet import fleet_view
from roofprobe.reporting.fleet.fleet_html import to_html
from roofprobe.reporting.fleet.fleet_prometheus import prometheus_bytes
from roofprobe.run import record_in

PAGE, DOCUMENT, GAUGES = "fleet.html", "fleet.json", "fleet.prom"
_BY_DEFAULT: Final = FleetOptions()
_ADVICE: Final = "name another place"


@dataclass(frozen=True, slots=True)
class Reported:
    """A fleet's verdict, the files that are refused as yet, and what was written."""

    verdict: FleetVerdict
    refused: tuple[Refused, ...]
    written: tuple[Path, ...]


def report(
    source: str,
    *,
    out: Path | None = None,
    expect: Path | None = None,
    prometheus: Path | None = None,
    window_days: float | None = None,
    least_peers: int = _BY_DEFAULT.least_peers,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Reported:
    """Judge the fleet at ``source``; ``out`` is a folder for all files, or the page (``.html``).

    Raises ``RoofprobeError`` (``no-fleet``, ``empty-fleet``, ``unwritable``, ``bad-hosts``, …).
    """
    options = FleetOptions(
        expected=read_expected(expect) if expect else {},
        window_days=window_days,
        least_peers=least_peers,
    )
    with opened(source, record_in, progress=progress) as found:
        refused = (*standing_refused(found), *found.refused)
        state = replace(found.state, refused={each.source: each for each in refused})
        verdict = fleet_verdict(found.connection, options, where=source, state=state)
        files = _files(verdict, found, refused, out, prometheus)
        for path, data in files.items():
            _write(path, data)
    return Reported(verdict, refused, tuple(files))


def _files(
    verdict: FleetVerdict, found: Opened, refused: tuple[Refused, ...], out: Path | None,
    prometheus: Path | None,
) -> dict[Path, bytes]:  # fmt: skip
    files: dict[Path, bytes] = {}
    if out is not None:
        alone = out.suffix.lower() in (".html", ".htm")
        page = to_html(verdict, found.connection, refused).encode()
        files[out if alone else out / PAGE] = page
        if not alone:
            document = json.dumps(fleet_view.to_json(verdict), ensure_ascii=False, indent=1)
            files[out / DOCUMENT] = f"{document}\n".encode()
            files[out / GAUGES] = prometheus_bytes(verdict, found.state.merged_at)
    if prometheus is not None:
        files[prometheus] = prometheus_bytes(verdict, found.state.merged_at)
    return files


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RoofprobeError(
            "unwritable", f"cannot make {path.parent} ({error.strerror or error}); {_ADVICE}"
        ) from error
    write_whole(path, data, advice=_ADVICE, exit_code=2)
