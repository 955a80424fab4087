"""Reports drawn anew from what was recorded: of one run, of several side by side, of a folder.

Nothing is measured and nothing is judged again; torch is not needed. A run that was killed before
its record was complete is drawn from its journal, as incomplete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from roofprobe.opening import from_journal, readable
from roofprobe.records import runfolder
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import is_folder
from roofprobe.records.summaries import run_folders, summaries
from roofprobe.reporting.beside import NOTHING, beside_of
from roofprobe.reporting.files import render_reports
from roofprobe.reporting.pages.run_index import to_index
from roofprobe.reporting.pages.side_by_side import to_comparison

INDEX: Final = "index.html"
COMPARISON: Final = "comparison.html"
_ADVICE: Final = "choose another --out"


def report(
    paths: Sequence[Path], out: Path | None, *, index: bool = False, side_by_side: bool = False
) -> tuple[Path, ...]:
    """Write what ``probe report`` is asked for and return the paths of the files.

    One run gives its report.html and report.md, a folder of runs also its index.html, and
    several paths (or ``side_by_side``) one page of all their devices. Raises
    ``RoofprobeError`` for what cannot be read or written.
    """
    if index:
        return tuple(write_index(path, out) for path in _folders_of_runs(paths, out))
    if side_by_side or len(paths) > 1:
        return (_write_comparison(paths, out),)
    (path,) = paths
    written = _write_reports(path, out)
    if out is None and _holds_runs(path):
        written += (write_index(path, None),)
    return written


def write_index(folder: Path, out: Path | None = None, *, within_s: float | None = None) -> Path:
    """Write the page of a folder of runs; with ``within_s`` of as many of the newest as fit."""
    end = None if within_s is None else time.monotonic() + within_s
    folders = run_folders(folder)
    found = []
    for listed in summaries(folders, from_journal):
        found.append(listed)
        if end is not None and time.monotonic() > end:
            break
    title = folder.resolve().name
    page = to_index(found, title, n_unread=len(folders) - len(found))
    return _write(_place(out, folder, INDEX), page.encode())


def _folders_of_runs(paths: Sequence[Path], out: Path | None) -> Sequence[Path]:
    for path in paths:
        if not _holds_runs(path):
            raise RoofprobeError(
                "not-a-folder-of-runs", f"{path} is no folder of runs; --index lists such a folder"
            )
    if out is not None and (len(paths) > 1 or out.resolve() != paths[0].resolve()):
        raise RoofprobeError(
            "index-elsewhere",
            "an index.html links to the reports beside it, so it is written into the folder of "
            "runs; leave --out away",
        )
    return paths


def _holds_runs(path: Path) -> bool:
    return is_folder(path) and not runfolder.is_run_folder(path)


def _write_reports(path: Path, out: Path | None) -> tuple[Path, ...]:
    run, folder = readable(path)
    files = render_reports(run, beside_of(folder, run) if folder.exists() else NOTHING)
    if out is not None and out.suffix == ".html":
        return (_write(out, files["report.html"]),)
    return tuple(_write(_place(out, folder, name), data) for name, data in files.items())


def _write_comparison(paths: Sequence[Path], out: Path | None) -> Path:
    found = [readable(path) for path in paths]
    parents = {folder.resolve().parent for _, folder in found}
    beside = parents.pop() if len(parents) == 1 else Path()
    first, *others = map(str, paths)
    command = f"probe compare {first} {others[0]}" if others else f"probe check {first}"
    page = to_comparison([run for run, _ in found], command)
    return _write(_place(out, beside, COMPARISON), page.encode())


def _place(out: Path | None, folder: Path, name: str) -> Path:
    if out is None:
        return folder / name
    if out.suffix == ".html":
        return out
    return out / name


def _write(path: Path, data: bytes) -> Path:
    try:
        os.makedirs(path.parent, exist_ok=True)
    except OSError as error:
        raise RoofprobeError(
            "unwritable", f"cannot make {path.parent} ({error.strerror}); {_ADVICE}"
        ) from error
    runfolder.write_whole(path, data, advice=_ADVICE, exit_code=2)
    return path
