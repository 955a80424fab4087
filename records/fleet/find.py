"""Which files a merge means, and in what state each run is, before anything of it is read.

A folder is searched to its depth; links are not followed, so that ``latest`` is no second run.
A finished run is its ``run.json``. Where that is missing, broken, or says that the run still goes
on, the journal beside it holds what was measured, and the run is made from it.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import LOG, MANIFEST, PARTS, Refused
from roofprobe.records.journal import NAME as JOURNAL_NAME
from roofprobe.records.reading import is_folder, read_bytes, said
from roofprobe.records.runfolder import MAX_RUN_BYTES, RUN_FILE

_RUNNING: Final = re.compile(rb'"status"\s*:\s*"running"')
_HEAD: Final = 2048  # the status stands among the first fields


@dataclass(frozen=True, slots=True)
class Found:
    """A run that may be read: its record, or its journal where that is all there is."""

    path: Path
    digest: str
    journal: bool = False


def candidates(sources: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[Refused]]:
    """Return run folders and record files that ``sources`` name, each once, sorted.

    A source is a file, a folder of any depth, or a pattern. What does not exist is refused.
    """
    found: dict[Path, None] = {}
    refused = []
    for source in (os.fspath(source) for source in sources):
        named = [source]
        if glob.has_magic(source) and not os.path.lexists(source):
            named = sorted(glob.glob(source, recursive=True))
        if not named or not any(os.path.lexists(name) for name in named):
            refused.append(
                Refused(
                    source=source,
                    code="not-found",
                    sentence=f"there is nothing at {source}; name folders, records or a pattern",
                )
            )
        for name in named:
            for path in _below(Path(name)):
                found.setdefault(Path(os.path.abspath(path)))
    return sorted(found), refused


def _below(path: Path) -> Iterator[Path]:
    if not is_folder(path):
        if path.exists():
            yield path
        return
    for folder, folders, files in os.walk(path, followlinks=False):
        # a fleet may lie among the runs that it is made from: only what is its own is passed over
        own = {LOG, PARTS} if MANIFEST in files and LOG in folders else set()
        folders[:] = sorted(each for each in folders if each not in own and each[0] != ".")
        if RUN_FILE in files or JOURNAL_NAME in files:
            yield Path(folder)


def cleared(
    refused: Iterable[Refused], sources: Sequence[str | os.PathLike[str]], good: Iterable[Path]
) -> tuple[str, ...]:
    """Return the places of ``refused`` that say nothing against a fleet any more, sorted.

    ``good`` are the runs that were found and counted now: what was refused there is mended. What
    lies at or below one of ``sources`` and is gone was removed, where that source itself is there:
    a disk that is not mounted removes nothing.
    """
    mended = {_run_folder(path) for path in good}
    named = [os.path.abspath(os.fspath(source)) for source in sources]

    def is_over(place: str, code: str) -> bool:
        path = Path(os.path.abspath(place))
        if path.exists() and _run_folder(path) in mended:
            return True
        if os.path.lexists(path):
            return code == "not-found"
        above = [str(each) for each in path.parents]
        return any(
            source in above and os.path.isdir(source)
            if not glob.has_magic(source)
            else any(fnmatch.fnmatchcase(each, source) for each in (str(path), *above))
            and os.path.isdir(_before_magic(source))
            for source in named
        )

    return tuple(
        sorted(
            each.source
            for each in refused
            if "://" not in each.source and is_over(each.source, each.code)
        )
    )


def _run_folder(path: Path) -> Path:
    return path.parent if path.name == RUN_FILE else path


def _before_magic(pattern: str) -> Path:
    path = Path(pattern)
    return next(each for each in path.parents if not glob.has_magic(str(each)))


def look(path: Path) -> Found | Refused:
    """Return what of a run can be read, with the digest of its bytes."""
    record = path / RUN_FILE if path.is_dir() else path
    journal = record.with_name(JOURNAL_NAME) if path.is_dir() else None
    has_journal = journal is not None and journal.exists()
    try:
        data = read_bytes(record, MAX_RUN_BYTES)
        if not (has_journal and (_RUNNING.search(data[:_HEAD]) or not _ends_whole(data))):
            return Found(record, _digest(data))
    except OSError as error:
        if not has_journal:
            return Refused(source=str(path), code="unreadable", sentence=said(record, error))
    assert journal is not None
    try:
        return Found(path, _digest(read_bytes(journal, MAX_RUN_BYTES)), journal=True)
    except OSError as error:
        return Refused(source=str(path), code="unreadable", sentence=said(journal, error))


def _ends_whole(data: bytes) -> bool:
    return data.rstrip()[-1:] == b"}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def once(found: Iterable[Found], known: Iterable[str]) -> tuple[list[Found], list[Found]]:
    """Return those whose digest is new, each once, and the others."""
    seen = set(known)
    new: list[Found] = []
    again: list[Found] = []
    for each in found:
        (again if each.digest in seen else new).append(each)
        seen.add(each.digest)
    return new, again


def require(paths: Sequence[Path], refused: Sequence[Refused]) -> None:
    """Raise ``RoofprobeError`` (``nothing-to-merge``) where there is no run at all."""
    if not paths:
        why = refused[0].sentence if refused else "no folder in them holds a run"
        raise RoofprobeError(
            "nothing-to-merge",
            f"there is no run to merge ({why}); name folders that hold run folders",
        )
