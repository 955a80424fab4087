"""A fleet's present in figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.fleet import pictures
from roofprobe.records.fleet.history import Opened, opened
from roofprobe.records.fleet.pictures import Median


def run_of(host: str, day: int, rates: list[float], **changed: Any) -> dict[str, Any]:
    devices = [
        {"device_id": f"GPU-{host}-{at}", "backend": "cuda", "name": "Example", "index": at,
         "driver": changed.get("driver", "580.1"), "pci_subsystem_id": changed.get("board")}
        for at in range(len(rates))
    ]  # fmt: skip
    headlines = [
        {"device_id": f"GPU-{host}-{at}", "family": "compute", "label": "bf16", "regime": "burst",
         "rate": {"unit": "TFLOPS", "median": rate, "ci_low": rate, "ci_high": rate, "n": 9},
         "energy_j_per_tflop": 1000 / rate}
        for at, rate in enumerate(rates)
    ]  # fmt: skip
    return {
        "schema_version": 1, "run_id": f"{day}-{host}", "status": "complete",
        "started_at": f"2026-01-{day:02}T00:00:00+00:00",
        "environment": {"host": host, "roofprobe": "0.1.0"},
        "devices": devices, "headlines": headlines,
        "method_version": changed.get("method_version", 1),
    }  # fmt: skip


RUNS = (
    run_of("a", 1, [500, 500]),
    run_of("a", 20, [700, 630]),
    run_of("b", 20, [700, 700], driver="581.0"),
    run_of("c", 20, [650, 651], board="10de:1"),
)
PLAIN = Median("Example", None, None, 1, None, "compute bf16 burst", 700, 679)
ENERGY = Median("Example", None, None, 1, None, "compute bf16 energy", 1000 / 700, 1.5)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Opened]:
    for run in RUNS:
        folder = tmp_path / str(run["run_id"])
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(run))
    with opened(str(tmp_path)) as found:
        yield found


def test_the_latest_run_of_each_device_counts(fleet: Opened) -> None:
    pictures.prepare(fleet.connection, [PLAIN], None)
    burst, _ = pictures.spreads(fleet.connection)
    assert (burst.n, burst.quantiles[0], burst.quantiles[-1]) == (6, 630, 700)
    assert sum(burst.bins) == 6
    assert [(mark.host, mark.position, mark.value) for mark in burst.marks] == [
        ("a", 1, 630), ("c", 0, 650), ("c", 1, 651),
    ]  # fmt: skip
    assert burst.n_beyond == 3
    assert burst.marks[0].effect == pytest.approx(-0.1)


def test_a_window_leaves_out_devices_that_were_not_seen_in_it(
    fleet: Opened, tmp_path: Path
) -> None:
    late = run_of("d", 30, [700])
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(late))
    with opened(str(tmp_path)) as found:
        pictures.prepare(found.connection, [PLAIN], 5)
        assert pictures.spreads(found.connection)[0].n == 1
        pictures.prepare(found.connection, [PLAIN], 10)
        assert pictures.spreads(found.connection)[0].n == 7


def test_a_device_is_held_against_the_group_that_fits_it_best(fleet: Opened) -> None:
    of_driver = replace(PLAIN, driver="581.0", median=1400, bound=1300)
    of_board = replace(PLAIN, variant="pci_subsystem_id=10de:1", median=650, bound=600)
    pictures.prepare(fleet.connection, [PLAIN, of_driver, of_board], None)
    cells = dict(pictures.worst_by_host(fleet.connection, ["compute bf16 burst"], 9))
    effects = {host: cell["compute bf16 burst"].effect for host, cell in cells.items()}
    assert effects == pytest.approx({"a": -0.1, "b": -0.5, "c": 0.0})


def test_where_lower_is_better_more_is_worse(fleet: Opened) -> None:
    pictures.prepare(fleet.connection, [ENERGY], None)
    ((host, cells), *_) = pictures.worst_by_host(fleet.connection, ["compute bf16 energy"], 1)
    assert (host, cells["compute bf16 energy"].position) == ("a", 1)
    assert cells["compute bf16 energy"].effect == pytest.approx(-1 / 9)
    assert pictures.n_hosts(fleet.connection) == 3


def test_without_criteria_there_are_spreads_and_no_effects(fleet: Opened) -> None:
    pictures.prepare(fleet.connection, [], None)
    assert [spread.marks for spread in pictures.spreads(fleet.connection)] == [(), ()]
    assert pictures.worst_by_host(fleet.connection, ["compute bf16 burst"], 9) == ()


def test_medians_by_day_follow_one_device_a_host_or_all(fleet: Opened) -> None:
    def days(**wanted: Any) -> list[tuple[int, float, int]]:
        found = pictures.by_day(fleet.connection, "compute bf16 burst", **wanted)
        return [(day.day.day, day.value, day.n) for day in found]

    assert days(device_id="GPU-a-1") == [(1, 500, 1), (20, 630, 1)]
    assert days(hosts=("a",)) == [(1, 500, 2), (20, 665, 2)]
    assert days(sku="Example") == [(1, 500, 2), (20, 675.5, 6)]
    assert days(host="nobody") == []
