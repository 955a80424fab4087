"""Merging: any number of run folders into a fleet, again and again, whatever state they are in.

The runs may come from any launcher and any release; each is looked at by itself. What was merged
before is recognised by its bytes and left alone; a run that went on since replaces its older
state; a file that cannot be read is listed with its reason and stops nothing.

Order of work: look at every file (its digest) → read what is new, a part per batch → decide which
state of each run counts → write one log entry, or decide again if another merge wrote one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from roofprobe.records.fleet import find
from roofprobe.records.fleet.batches import Batch, Job, Rebuild, Standing, read_jobs
from roofprobe.records.fleet.compact import compact
from roofprobe.records.fleet.dataset import PARTS, Entry, Excluded, Fleet, Refused, State
from roofprobe.records.fleet.extract import TABLES
from roofprobe.records.fleet.find import Found
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store

BATCH: Final = 64  # runs per part: some hundred devices' metrics in a MB or two
_MOST_WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did; ``total_runs`` and the like are of the fleet after it.

    ``known`` files were merged, or refused, before; ``replaced`` states of runs no longer count.
    ``cleared`` are places refused before, where the file was mended or removed since.
    """

    where: str
    version: int
    looked_at: int
    added: int
    known: int
    replaced: int
    refused: tuple[Refused, ...]
    cleared: tuple[str, ...]
    total_runs: int
    total_devices: int
    total_metrics: int
    seconds: float


def merge(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    rebuild: Rebuild | None = None,
    workers: int | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Merged:
    """Merge every run that ``sources`` name into the fleet at ``out``; see the module docstring.

    ``rebuild`` makes the record of a run folder that has only a journal (a picklable function of
    the folder); without it such runs are refused. ``progress`` is told how many runs of how many
    new ones were read. Raises ``RoofprobeError`` (``nothing-to-merge``, ``unwritable``,
    ``bad-fleet``, ``damaged-fleet``).
    """
    began = datetime.now(UTC)
    fleet = Fleet(open_store(out))
    state = fleet.state()
    paths, refused = find.candidates(sources)
    find.require(paths, refused)
    with ThreadPoolExecutor(_workers(workers)) as threads:  # hashing leaves Python's lock
        looked = list(threads.map(find.look, paths))
    refused += [each for each in looked if isinstance(each, Refused)]
    before = standings_in(fleet, state)
    known = {standing.digest for standing in before}
    known |= {each.digest for each in state.refused.values() if each.digest}
    new, again = find.once((each for each in looked if isinstance(each, Found)), known)
    batches = _read(fleet, new, rebuild, _workers(workers), batch, progress)
    refused += [each for made in batches for each in made.refused]
    alike = _refused_alike(again, refused, state)
    refused += alike
    bad = {each.digest for each in (*state.refused.values(), *refused)}
    good = [each.path for each in (*new, *again) if each.digest not in bad]
    replaced, cleared = _commit(
        fleet, state, before, batches, refused,
        lambda them: find.cleared(them, sources, good), began,
    )  # fmt: skip
    compact(fleet, state)
    fleet.write_manifest(state)
    total_runs, total_devices, total_metrics = _totals(fleet, state)
    return Merged(
        where=fleet.store.where,
        version=state.version,
        looked_at=len(looked),
        added=sum(len(made.standings) for made in batches),
        known=len(again) - len(alike),
        replaced=replaced,
        refused=tuple(refused),
        cleared=cleared,
        total_runs=total_runs,
        total_devices=total_devices,
        total_metrics=total_metrics,
        seconds=(datetime.now(UTC) - began).total_seconds(),
    )


def _refused_alike(
    again: Sequence[Found], refused: Sequence[Refused], state: State
) -> list[Refused]:
    """Return what is refused since its bytes were, at another place: empty files of two hosts."""
    why = {each.digest: each for each in (*state.refused.values(), *refused) if each.digest}
    told = {(each.source, each.digest) for each in (*state.refused.values(), *refused)}
    return [
        why[each.digest].model_copy(
            update={
                "source": str(each.path),
                "sentence": why[each.digest].sentence.replace(
                    why[each.digest].source, str(each.path)
                ),
            }
        )
        for each in again
        if each.digest in why and (str(each.path), each.digest) not in told
    ]


def _workers(asked: int | None) -> int:
    return asked or min(os.cpu_count() or 1, _MOST_WORKERS)


def _read(
    fleet: Fleet, new: Sequence[Found], rebuild: Rebuild | None, workers: int, size: int,
    progress: Callable[[int, int], None],
) -> list[Batch]:  # fmt: skip
    """Read new runs into parts and put those in their place, where no log entry names them yet."""
    batches = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="roofprobe-merge-") as scratch:
        jobs = [
            Job(tuple(new[at : at + size]), scratch, rebuild) for at in range(0, len(new), size)
        ]
        # a batch or two are read sooner than workers start
        for job, made in read_jobs(jobs, workers if len(jobs) > 2 else 1):
            for table in TABLES if made.part else ():
                assert made.part is not None
                name = f"{made.part.name}.{table}.parquet"
                fleet.store.add(f"{PARTS}/{name}", Path(scratch) / name)
            batches.append(made)
            done += len(job.found)
            progress(done, len(new))
    return batches


def _commit(
    fleet: Fleet, state: State, before: Sequence[Standing], batches: Sequence[Batch],
    refused: Sequence[Refused], over: Callable[[Iterable[Refused]], tuple[str, ...]],
    began: datetime,
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
    """Write the log entry, on top of whatever others wrote meanwhile.

    ``before`` is what counts in ``state``; it is read again only where others wrote. Return how
    many states it replaces, and which refused places it clears: those that are ``over`` and were
    not refused again.

    Without anything new nothing is written, so that merging again leaves the fleet as it is.
    """
    from roofprobe import __version__

    standings = [each for made in batches for each in made.standings]
    while True:
        unheard = tuple(each for each in refused if state.refused.get(each.source) != each)
        anew = {each.source for each in refused}
        cleared = over(each for each in state.refused.values() if each.source not in anew)
        if not standings and not unheard and not cleared:
            return 0, ()
        excluded = losers(before, standings)
        entry = Entry(
            at=began.isoformat(timespec="seconds"),
            by=f"roofprobe {__version__}",
            parts=tuple(made.part for made in batches if made.part),
            excluded=excluded,
            refused=unheard,
            cleared=cleared,
        )
        if fleet.commit(entry, state.version + 1):
            state.apply(entry)
            return len(excluded), cleared
        fleet.state(state)
        before = standings_in(fleet, state)


def losers(before: Iterable[Standing], now: Iterable[Standing]) -> tuple[Excluded, ...]:
    """Return those that do not count: of each run all states but one, of equal ones the later."""
    best: dict[str, Standing] = {}
    excluded = []
    for each in (*before, *now):
        held = best.setdefault(each.run_key, each)
        if held is each:
            continue
        winner, loser = (held, each) if held.rank >= each.rank else (each, held)
        best[each.run_key] = winner
        excluded.append(Excluded(part=loser.part, digest=loser.digest, by=winner.digest))
    return tuple(excluded)


def standings_in(fleet: Fleet, state: State) -> list[Standing]:
    """Return the states of runs that count in the fleet."""
    with connect(fleet, state) as connection:
        rows = connection.execute(
            "SELECT part, digest, run_key, status, finished_at, n_metrics FROM runs ORDER BY ALL"
        ).fetchall()
    return [Standing(*row) for row in rows]


def _totals(fleet: Fleet, state: State) -> tuple[int, int, int]:
    with connect(fleet, state) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM runs), "
            "(SELECT count(DISTINCT (host, device_id)) FROM devices), "
            "(SELECT coalesce(sum(n_metrics), 0)::BIGINT FROM runs)"
        ).fetchone()
    assert found is not None
    return found[0], found[1], found[2]
