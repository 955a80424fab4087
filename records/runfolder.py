"""Run folders: where a run is written, how it is found again, how files appear whole.

``OUT/<UTC start>-<host>/`` is one run; ``OUT/latest`` points at the newest. Files other than the
journal are written beside their name and renamed, so a reader sees the old one or the new one. A
lock on ``OUT`` keeps a second run from writing, and measuring, beside the first; the system drops
it when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import NAME as JOURNAL_NAME
from roofprobe.records.journal import Journal, check_version, first_problem, read_journal
from roofprobe.records.reading import (
    NotAFile,
    TooLarge,
    is_folder,
    json_document,
    read_bytes,
    said,
)
from roofprobe.records.schema import Run
from roofprobe.records.upgrading import upgraded

RUN_FILE = "run.json"
LATEST = "latest"
_LOCK = ".probe.lock"
_STAMP = re.compile(r"\d{8}T\d{6}Z-")
_LEAST_FREE_BYTES = 16 << 20
# A run of eight GPUs with every sample is some tens of MiB.
MAX_RUN_BYTES = 256 << 20


def prepare_out(out: Path) -> tuple[Path, ...]:
    """Make ``out`` if needed, see that it can be written and has room, and return what was made.

    Those folders come innermost first. Raises ``RoofprobeError`` (``out-is-a-file``,
    ``unwritable``, ``disk-full``), exit code 2.
    """
    if out.exists() and not out.is_dir():
        raise RoofprobeError("out-is-a-file", f"--out {out} is a file; name a folder")
    made = tuple(folder for folder in (out, *out.parents) if not folder.exists())
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial = out / f".probe-{os.getpid()}"
        trial.write_bytes(b"roofprobe")
        trial.unlink()
    except NotADirectoryError:
        raise RoofprobeError(
            "out-is-a-file", f"a part of --out {out} is a file; name a folder"
        ) from None
    except OSError as error:
        raise RoofprobeError(
            "unwritable", f"cannot write to --out {out} ({error.strerror}); choose another folder"
        ) from error
    free = shutil.disk_usage(out).free
    if free < _LEAST_FREE_BYTES:
        raise RoofprobeError(
            "disk-full",
            f"--out {out} has {free / 2**20:.0f} MiB free and a run needs "
            f"{_LEAST_FREE_BYTES >> 20}; make room or choose another folder",
        )
    return made


@contextmanager
def locked(out: Path, made: Sequence[Path] = ()) -> Iterator[None]:
    """Hold ``out`` for one run; raises ``RoofprobeError`` (``busy``) when another run has it.

    A run that is refused takes back its lock and the folders that were ``made`` for it, as far as
    nothing else is in them.
    """
    new = not (out / _LOCK).exists()
    descriptor = os.open(out / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise RoofprobeError(
                "busy",
                f"another run (process {holder}) is writing to {out}; wait for it, or choose "
                "another --out (two runs at once would also disturb each other's figures)",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        except RoofprobeError:
            if new:
                (out / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # the first that is not empty ends it
                for folder in made:
                    folder.rmdir()
            raise
    finally:
        os.close(descriptor)


def is_going_on(folder: Path) -> bool:
    """Return whether a process measures the run in ``folder``: its runs are locked, it is newest.

    A run that is resumed by the name of its folder, with newer ones beside it, is not told.
    """
    out = folder.resolve().parent
    try:
        descriptor = os.open(out / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return newest(out).resolve() == folder.resolve()
    finally:
        os.close(descriptor)
    return False


def new_run_folder(out: Path, started_at: str, host: str) -> Path:
    """Make ``OUT/<UTC start>-<host>`` (a number is added when it exists) and return it."""
    stamp = datetime.fromisoformat(started_at).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    safe_host = re.sub(r"[^A-Za-z0-9.-]+", "-", host).strip("-.") or "host"
    base = f"{stamp}-{safe_host}"[:120]
    for number in range(1, 1000):
        folder = out / (base if number == 1 else f"{base}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise RoofprobeError(
                "unwritable", f"cannot make {folder} ({error.strerror}); choose another --out"
            ) from error
        return folder
    raise RoofprobeError("unwritable", f"{out} already has 999 runs named {base}")


def point_latest(out: Path, folder: Path) -> None:
    """Make ``OUT/latest`` point at ``folder``; where links cannot be made, nothing points."""
    link = out / f".{LATEST}-{os.getpid()}"
    with suppress(OSError):
        link.symlink_to(folder.name)
        os.replace(link, out / LATEST)


def resumable(out: Path) -> tuple[Path, Journal]:
    """Return the folder and journal of the run that ``--resume`` should go on with.

    ``out`` may be a run folder itself; else the newest run in it counts. Raises
    ``RoofprobeError`` when there is none or it cannot be read.
    """
    if (out / JOURNAL_NAME).exists():
        return out, read_journal(out)
    folder = out / LATEST
    if not folder.exists():
        runs = sorted(path.parent for path in out.glob(f"*/{JOURNAL_NAME}"))
        if not runs:
            raise RoofprobeError(
                "nothing-to-resume", f"{out} holds no run to resume; leave --resume away"
            )
        folder = runs[-1]
    folder = folder.resolve()
    return folder, read_journal(folder)


_RESUME = "the journal beside it keeps every measurement: make room, then repeat with --resume"


def write_whole(path: Path, data: bytes, *, advice: str = _RESUME, exit_code: int = 3) -> None:
    """Write ``path`` whole or not at all; raises ``RoofprobeError`` when it cannot be written.

    ``advice`` ends the sentence of that error; a file that the user named is a matter of usage,
    ``exit_code`` 2.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RoofprobeError(
            "disk-full" if error.errno == 28 else "unwritable",
            f"cannot write {path} ({error.strerror}); {advice}",
            exit_code=exit_code,
        ) from error


def write_run(folder: Path, run: Run) -> None:
    """Write ``run.json``."""
    write_whole(folder / RUN_FILE, run_bytes(run))


def run_bytes(run: Run) -> bytes:
    """Return the JSON document of ``run``; absent values are left out."""
    data = run.model_dump(mode="json", exclude_none=True)
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"


def read_run(path: Path) -> Run:
    """Read a run from its folder, its ``run.json``, or a folder of runs (the newest).

    Raises ``RoofprobeError`` (``not-a-run``, ``newer-schema``, ``damaged-run``, ``unreadable``, and
    with exit code 3 ``unfinished-run`` where the run that is meant has only its journal).
    """
    try:
        file = run_file(path)
        data = json_document(read_bytes(file, MAX_RUN_BYTES))
    except FileNotFoundError:
        raise RoofprobeError(
            "not-a-run", f"there is no run at {path}: name a run folder or its {RUN_FILE}"
        ) from None
    except (NotAFile, TooLarge) as error:
        raise RoofprobeError(
            "not-a-run", f"{said(path, error)}; name a run folder or its {RUN_FILE}"
        ) from None
    except OSError as error:
        raise RoofprobeError("unreadable", said(path, error)) from error
    except ValueError as error:
        journal = file.name == RUN_FILE and (file.parent / JOURNAL_NAME).exists()
        advice = (
            "its journal may be whole: repeat the run's command with --resume"
            if journal
            else f"name a run folder or its {RUN_FILE}"
        )
        raise RoofprobeError(
            "damaged-run", f"{file} is truncated or not JSON ({error}); {advice}"
        ) from error
    if not isinstance(data, dict):
        raise RoofprobeError("not-a-run", f"{file} is not a run of roofprobe")
    check_version(file, data)
    try:
        return Run.model_validate(upgraded(file, data))
    except (ValidationError, RecursionError) as error:
        raise RoofprobeError(
            "damaged-run", f"{file} was changed or damaged ({first_problem(error)}); restore it"
        ) from error


def run_file(path: Path) -> Path:
    """Return the ``run.json`` that ``path`` means: itself, its own, or that of its newest run.

    Raises ``RoofprobeError`` (``unfinished-run``, exit code 3) where that run has only a journal.
    """
    if not is_folder(path):
        return path
    folder = path if is_run_folder(path) else _newest(path)
    if folder is None or (folder / RUN_FILE).exists():
        return (folder or path) / RUN_FILE
    which = f"the run {path}" if folder == path else f"the newest run of {path}, {folder.name},"
    raise RoofprobeError(
        "unfinished-run",
        f"{which} has no record yet, since it was killed or still runs: go on with "
        f"`probe all --out {shlex.quote(str(folder.parent))} --resume`, or name the folder of "
        "another run",
        exit_code=3,
    )


def newest(path: Path) -> Path:
    """Return the newest run of a folder of runs, finished or not; any other path as it is."""
    try:
        if is_folder(path) and not is_run_folder(path):
            return _newest(path) or path
    except (OSError, ValueError):
        pass  # whoever reads it says why it cannot be read
    return path


def _newest(out: Path) -> Path | None:
    """Return the newest run folder in ``out``, finished or not; None where there is none.

    Names begin with the time of the start, so the last is newest. ``latest`` decides among other
    names, but an older one that it was left at does not hide a newer run.
    """
    runs = sorted(
        path for path in out.iterdir()
        if path.name != LATEST and is_folder(path) and is_run_folder(path)
    )  # fmt: skip
    stamped = [path for path in runs if _STAMP.match(path.name)]
    if not is_folder(out / LATEST) or not is_run_folder(out / LATEST):
        return next(reversed(stamped or runs), None)
    pointed = (out / LATEST).resolve()
    if stamped and _STAMP.match(pointed.name) and stamped[-1].name > pointed.name:
        return stamped[-1]
    return pointed


def is_run_folder(folder: Path) -> bool:
    """Whether ``folder`` is that of a run, finished or not: it has a record or a journal."""
    return (folder / RUN_FILE).exists() or (folder / JOURNAL_NAME).exists()
