"""Reading runs in batches, each into one Parquet part, in worker processes.

A batch's records are held by one worker for as long as it reads them; what comes back is a few
lines. A file that kills its reader (too large for the memory, say) takes a batch with it: the
batch is then read run by run, and what kills its reader again is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Part, Refused
from roofprobe.records.fleet.extract import TABLES, Rows, columns, rows_of
from roofprobe.records.fleet.find import Found
from roofprobe.records.fleet.lean import READ_VERSIONS, LeanRun
from roofprobe.records.fleet.query import write_parquet
from roofprobe.records.journal import first_problem
from roofprobe.records.reading import read_bytes, said
from roofprobe.records.runfolder import MAX_RUN_BYTES
from roofprobe.records.schema import Run

Rebuild = Callable[[Path], Run]


@dataclass(frozen=True, slots=True)
class Standing:
    """One state of one run: where its rows are, and how far the run had come."""

    part: str
    digest: str
    run_key: str
    status: str
    finished_at: datetime | None
    n_metrics: int

    @property
    def rank(self) -> tuple[bool, datetime, int, str]:
        """What decides between states of one run: the complete, the later, the fuller."""
        finished = self.finished_at or datetime.min
        return self.status == "complete", finished, self.n_metrics, self.digest


@dataclass(frozen=True, slots=True)
class Job:
    """Runs to be read into one part, whose files are written into ``scratch``."""

    found: tuple[Found, ...]
    scratch: str
    rebuild: Rebuild | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a job: its part, unless nothing could be read; the states; the refused."""

    part: Part | None
    standings: tuple[Standing, ...]
    refused: tuple[Refused, ...]


def read_jobs(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Batch]]:
    """Yield what became of each job, in order; a job that kills its reader is taken apart."""
    if workers <= 1:
        for job in jobs:
            yield job, read_batch(job)
        return
    waiting = list(jobs)
    while waiting:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(read_batch, job) for job in waiting]
            done = 0
            for job, future in zip(waiting, futures, strict=True):
                batch = _result(future)
                if batch is None:
                    break
                done += 1
                yield job, batch
        if done == len(waiting):
            return
        # Any of those that ran could have been the one; they are few, so each is read alone.
        suspects, waiting = waiting[done : done + workers], waiting[done + workers :]
        for job in suspects:
            for found in job.found:
                alone = Job((found,), job.scratch, job.rebuild)
                yield alone, _read_alone(alone)


def _result(future: Future[Batch]) -> Batch | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _read_alone(job: Job) -> Batch:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        batch = _result(pool.submit(read_batch, job))
    if batch is not None:
        return batch
    (found,) = job.found
    refused = Refused(
        source=str(found.path),
        code="reader-died",
        sentence=f"{found.path} killed the process that read it; it may be too large for memory",
        digest=found.digest,
    )
    return Batch(None, (), (refused,))


def read_batch(job: Job) -> Batch:
    """Read the runs of a job and write their rows as one part."""
    name = uuid.uuid4().hex[:16]
    rows: list[Rows] = []
    refused: list[Refused] = []
    for found in job.found:
        read = _read(found, name, job.rebuild)
        if isinstance(read, Refused):
            refused.append(read)
        else:
            rows.append(read)
    if not rows:
        return Batch(None, (), tuple(refused))
    lines: dict[str, list[Any]] = {
        "runs": [each.run for each in rows],
        "devices": [row for each in rows for row in each.devices],
        "metrics": [row for each in rows for row in each.metrics],
    }
    size = 0
    for table, found_lines in lines.items():
        path = Path(job.scratch) / f"{name}.{table}.parquet"
        write_parquet(path, columns(table), _by_column(table, found_lines))
        size += path.stat().st_size
    part = Part(name=name, bytes=size, **{table: len(found) for table, found in lines.items()})
    standings = tuple(
        Standing(name, r.digest, r.run_key, r.status, r.finished_at, r.n_metrics)
        for r in (each.run for each in rows)
    )
    return Batch(part, standings, tuple(refused))


def _by_column(table: str, lines: Sequence[Any]) -> dict[str, list[Any]]:
    return {
        column.name: [getattr(line, column.name) for line in lines]
        for column in fields(TABLES[table])
    }


def _read(found: Found, part: str, rebuild: Rebuild | None) -> Rows | Refused:
    """Return one run's rows, or why there are none; never raises for what a file holds."""

    def no(code: str, sentence: str) -> Refused:
        return Refused(source=str(found.path), code=code, sentence=sentence, digest=found.digest)

    try:
        if found.journal:
            if rebuild is None:
                return no("unfinished-run", f"{found.path} has only a journal; finish the run")
            data = rebuild(found.path).model_dump_json().encode()
        else:
            data = read_bytes(found.path, MAX_RUN_BYTES)
        run = LeanRun.model_validate_json(data)
        if run.schema_version not in READ_VERSIONS:
            return no(
                "newer-schema",
                f"{found.path} has schema version {run.schema_version}; upgrade this roofprobe",
            )
        made = rows_of(run, part=part, digest=found.digest, source=str(found.path))
    except RoofprobeError as error:
        return no(error.code, error.sentence)
    except OSError as error:
        return no("unreadable", said(found.path, error))
    except ValidationError as error:
        return no("damaged-run", f"{found.path} is no whole record ({first_problem(error)})")
    except Exception as error:  # whatever a file holds must not stop the others
        return no("damaged-run", f"{found.path} is no whole record ({type(error).__name__})")
    if not made.devices:
        return no("no-device", f"{found.path} has no device in it")
    return made
