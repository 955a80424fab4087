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

RUN_FILE = "run.json"
LATEST = "latest"
_LOCK = ".probe.lock"
_LEAST_FREE_BYTES = 16 << 20
# A run of eight GPUs with every sample is some tens of MiB.
MAX_RUN_BYTES = 256 << 20


def prepare_out(out: Path) -> None:
    """Make ``out`` if needed, and see that it can be written and has room.

    Raises ``RoofprobeError`` (``out-is-a-file``, ``unwritable``, ``disk-full``), exit code 2.
    """
    if out.exists() and not out.is_dir():
        raise RoofprobeError("out-is-a-file", f"--out {out} is a file; name a folder")
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


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold ``out`` for one run; raises ``RoofprobeError`` (``busy``) when another run has it."""
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
        yield
    finally:
        os.close(descriptor)


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
    """Read a run from its folder, its ``run.json``, or a folder of runs (the latest).

    Raises ``RoofprobeError`` (``not-a-run``, ``newer-schema``, ``damaged-run``, ``unreadable``).
    """
    try:
        file = _run_file(path)
        data = json_document(read_bytes(file, MAX_RUN_BYTES))
    except FileNotFoundError:
        if (path / JOURNAL_NAME).exists():
            raise RoofprobeError(
                "unfinished-run",
                f"the run at {path} was cut off before its {RUN_FILE} was written; its journal is "
                f"there: `probe all --out {path} --resume` goes on with it",
                exit_code=3,
            ) from None
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
        return Run.model_validate(data)
    except (ValidationError, RecursionError) as error:
        raise RoofprobeError(
            "damaged-run", f"{file} was changed or damaged ({first_problem(error)}); restore it"
        ) from error


def newest(path: Path, files: Sequence[str] = (RUN_FILE,)) -> Path:
    """Return the newest run of a folder of runs; any other path as it is.

    A run is a folder that holds one of ``files``. The names of run folders begin with the time at
    which they were begun, so the last is newest; ``latest`` goes before them.
    """
    try:
        if any((path / file).exists() for file in files):
            return path
        if any((path / LATEST / file).exists() for file in files):
            return path / LATEST
        runs = sorted({found.parent for file in files for found in path.glob(f"*/{file}")})
    except (OSError, ValueError):
        return path  # whoever reads it says why it cannot be read
    return runs[-1] if runs else path


def _run_file(path: Path) -> Path:
    if not is_folder(path):
        return path
    file, latest = path / RUN_FILE, path / LATEST / RUN_FILE
    return latest if not file.exists() and latest.exists() else file
