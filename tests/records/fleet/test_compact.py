from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.fleet import compact as room
from roofprobe.records.fleet.compact import compact
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.merge import merge
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store

DAYS = [f"2026-03-{day:02}T10:00:00+00:00" for day in range(1, 8)]


def rows(fleet: Fleet, sql: str) -> list[tuple[Any, ...]]:
    with connect(fleet) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def nightly(hosts: Any, tmp_path: Path) -> Fleet:
    """A fleet that was merged every night, one of the runs in two states."""
    for day in DAYS:
        run = hosts[0].run(day)
        if day == DAYS[2]:
            hosts[0].write(run.model_copy(update={"status": "incomplete", "headlines": ()}))
            merge([hosts[0].out], tmp_path / "fleet")
        hosts[0].write(run)
        merge([hosts[0].out], tmp_path / "fleet")
    return Fleet(open_store(tmp_path / "fleet"))


def test_small_parts_become_one_with_the_rows_that_counted(nightly: Fleet) -> None:
    sql = "SELECT * EXCLUDE (part) FROM metrics ORDER BY ALL"
    before = rows(nightly, sql)
    state = nightly.state()
    assert len(state.parts) == 8
    assert compact(nightly, state, most_parts=3)
    assert rows(nightly, sql) == before
    assert rows(nightly, "SELECT count(*), count(DISTINCT part) FROM runs") == [(7, 1)]
    assert len(nightly.state().parts) == 1
    assert not nightly.state().excluded


def test_few_parts_stay_as_they_are(nightly: Fleet) -> None:
    assert not compact(nightly, nightly.state(), most_parts=8)
    assert len(nightly.state().parts) == 8


def test_a_merge_that_came_first_leaves_its_parts_alone(
    nightly: Fleet, hosts: Any, tmp_path: Path
) -> None:
    state = nightly.state()
    hosts[1].write()
    merge([hosts[1].out], tmp_path / "fleet")
    assert not compact(nightly, state, most_parts=3)
    assert rows(nightly, "SELECT count(*) FROM runs") == [(8,)]


def test_dropped_files_go_once_nobody_can_be_reading_them(
    nightly: Fleet, hosts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "fleet" / "parts"
    compact(nightly, nightly.state(), most_parts=3)
    assert len(list(parts.glob("*.runs.parquet"))) == 9  # eight old ones and the new
    monkeypatch.setattr(room, "KEPT", timedelta(0))
    for host in hosts[1:]:
        host.write()
        merge([host.out], tmp_path / "fleet")
    compact(nightly, nightly.state(), most_parts=1)
    # the one part that counts, and the three just dropped for it
    assert len(list(parts.glob("*.runs.parquet"))) == 4
    assert rows(nightly, "SELECT count(*) FROM runs") == [(9,)]


def test_a_merge_after_compaction_knows_what_was_merged(
    nightly: Fleet, hosts: Any, tmp_path: Path
) -> None:
    compact(nightly, nightly.state(), most_parts=3)
    again = merge([hosts[0].out], tmp_path / "fleet")
    assert (again.added, again.known, again.total_runs) == (0, 7, 7)
