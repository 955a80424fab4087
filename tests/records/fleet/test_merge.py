from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet import batches
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.extract import TABLES
from roofprobe.records.fleet.find import Found
from roofprobe.records.fleet.merge import Merged, merge
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store
from roofprobe.records.schema import Run


def rows(fleet: Path | str, sql: str) -> list[tuple[Any, ...]]:
    with connect(Fleet(open_store(fleet))) as connection:
        return connection.execute(sql).fetchall()


def counts(fleet: Path | str) -> list[int]:
    return [rows(fleet, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]


def refusals(merged: Merged) -> dict[str, str]:
    return {Path(each.source).name: each.code for each in merged.refused}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


def test_every_host_s_runs_become_rows_of_three_tables(hosts: Any, fleet: Path) -> None:
    for host in hosts:
        host.write()
    merged = merge([host.out for host in hosts], fleet)
    assert (merged.added, merged.known, merged.replaced, merged.refused) == (3, 0, 0, ())
    assert (merged.total_runs, merged.total_devices) == tuple(counts(fleet)[:2]) == (3, 6)
    assert merged.total_metrics == counts(fleet)[2]
    metrics = rows(
        fleet,
        "SELECT metric, value, unit, better, ci_low, n FROM metrics "
        "WHERE device_id = 'GPU-node1-0' ORDER BY metric",
    )
    assert metrics == [
        ("compute bf16 burst", 601.0, "TFLOPS", "higher", 601.0 * 0.99, 20),
        ("compute bf16 clock", 1700.0, "MHz", "higher", None, None),
        ("compute bf16 energy", 1.1, "J/TFLOP", "lower", None, None),
        ("compute bf16 settled", 601.0 * 0.9, "TFLOPS", "higher", 601.0 * 0.9 * 0.99, 20),
        ("compute bf16 temperature", 71.0, "C", "lower", None, None),
        ("interconnect p2p slowest pair burst", 200.0, "GB/s", "higher", 198.0, 20),
        ("latency l2/default/4096 latency", 120.0, "ns", "lower", 120.0 * 0.99, 20),
        ("launch empty-graph latency", 2.5, "us", "lower", 2.475, 20),
    ]


def test_a_device_row_says_who_it_is_and_what_its_run_found(hosts: Any, fleet: Path) -> None:
    hosts[0].write()
    merge([hosts[0].out], fleet)
    (first, second) = rows(
        fleet,
        "SELECT sku, driver, power_limit_w, position, judgement, findings, n_ok FROM devices "
        "ORDER BY position",
    )
    assert first[:5] == ("h100-sxm", "580.1", 700.0, 0, "warn")
    assert json.loads(first[5]) == [{"code": "hot", "judgement": "warn", "sentence": "It is hot."}]
    assert second[4:] == ("pass", "[]", 6)


def test_a_device_without_a_catalogue_row_goes_by_its_name(hosts: Any, fleet: Path) -> None:
    run = hosts[0].run()
    devices = tuple(d.model_copy(update={"catalogue_key": None}) for d in run.devices)
    hosts[0].write(run.model_copy(update={"devices": devices}))
    merge([hosts[0].out], fleet)
    assert rows(fleet, "SELECT DISTINCT sku FROM metrics") == [("NVIDIA H100 80GB HBM3",)]


def test_merging_again_changes_no_file(hosts: Any, fleet: Path) -> None:
    hosts[0].write()
    merge([hosts[0].out], fleet)
    before = {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()}
    again = merge([hosts[0].out], fleet)
    assert (again.added, again.known, again.version) == (0, 1, 1)
    assert before == {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()}


def test_a_later_merge_adds_what_is_new(hosts: Any, fleet: Path) -> None:
    hosts[0].write()
    merge([hosts[0].out], fleet)
    hosts[0].write(hosts[0].run("2026-03-02T10:00:00+00:00"))
    hosts[1].write()
    merged = merge([host.out for host in hosts[:2]], fleet)
    assert (merged.added, merged.known, merged.total_runs, merged.total_devices) == (2, 1, 3, 4)


def test_a_copy_of_a_run_counts_once(hosts: Any, fleet: Path, tmp_path: Path) -> None:
    folder = hosts[0].write()
    shutil.copytree(folder, tmp_path / "copies" / "a")
    shutil.copy(folder / "run.json", tmp_path / "copies" / "b.json")
    merged = merge([hosts[0].out, tmp_path / "copies", str(tmp_path / "copies/*.json")], fleet)
    assert (merged.looked_at, merged.added, merged.known) == (3, 1, 2)
    assert counts(fleet)[0] == 1


@pytest.mark.parametrize("together", [True, False], ids=["in-one-merge", "later"])
def test_a_run_that_went_on_replaces_its_older_state(
    hosts: Any, fleet: Path, tmp_path: Path, together: bool
) -> None:
    whole = hosts[0].run()
    part = whole.model_copy(
        update={"status": "incomplete", "measurements": whole.measurements[:3], "headlines": ()}
    )
    hosts[0].write(part)
    if together:
        shutil.copytree(hosts[0].out, tmp_path / "older", symlinks=True)
        hosts[0].write(whole)
        merged = merge([tmp_path / "older", hosts[0].out], fleet)
    else:
        merge([hosts[0].out], fleet)
        hosts[0].write(whole)
        merged = merge([hosts[0].out], fleet)
    assert (merged.replaced, merged.total_runs, merged.total_devices) == (1, 1, 2)
    assert rows(fleet, "SELECT status FROM runs") == [("complete",)]
    assert len(rows(fleet, "FROM metrics WHERE metric = 'compute bf16 burst'")) == 2


def test_an_older_state_that_is_merged_late_does_not_count(hosts: Any, fleet: Path) -> None:
    whole = hosts[0].run()
    hosts[0].write(whole)
    merge([hosts[0].out], fleet)
    hosts[0].write(whole.model_copy(update={"status": "incomplete", "headlines": ()}))
    assert merge([hosts[0].out], fleet).replaced == 1
    assert rows(fleet, "SELECT status FROM runs") == [("complete",)]


def test_hosts_of_one_name_that_start_in_one_second_are_two(hosts: Any, fleet: Path) -> None:
    run = hosts[0].run()
    hosts[0].write(run)
    other = hosts[1]
    other.name, other.tflops = hosts[0].name, 555.0
    devices = run.devices
    twin = other.run()
    assert [d.device_id for d in twin.devices] == [d.device_id for d in devices]
    other.write(twin)
    assert merge([hosts[0].out, other.out], fleet).total_runs == 2


BROKEN = {
    "cut": (b'{"schema_version": 1, "run_id": "x", "devi', "damaged-run"),
    "empty": (b"", "damaged-run"),
    "binary": (bytes(range(256)) * 9, "damaged-run"),
    "no-object": (b"[1, 2]", "damaged-run"),
    "other": (b'{"name": "package"}', "damaged-run"),
    "deep": (b"[" * 100_000, "damaged-run"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_run_is_listed_and_stops_nothing(hosts: Any, fleet: Path, name: str) -> None:
    data, code = BROKEN[name]
    hosts[0].write()
    bad = hosts[0].out / "bad"
    bad.mkdir()
    (bad / "run.json").write_bytes(data)
    merged = merge([hosts[0].out], fleet)
    assert merged.added == 1
    assert refusals(merged) == {"run.json": code}
    assert json.loads((fleet / "manifest.json").read_text())["refused"][0]["code"] == code
    assert merge([hosts[0].out], fleet).version == merged.version  # heard once


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "newer": ({"schema_version": 99}, "newer-schema"),
    "no-version": ({"schema_version": None}, "damaged-run"),
    "no-time": ({"started_at": "yesterday"}, "damaged-run"),
    "no-device": ({"devices": []}, "no-device"),
    "text-for-a-number": ({"method_version": "x"}, "damaged-run"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_record_that_cannot_be_used_is_refused_with_its_reason(
    hosts: Any, fleet: Path, name: str
) -> None:
    changes, code = CHANGED[name]
    folder = hosts[0].write()
    document = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(document))
    merged = merge([hosts[0].out], fleet)
    assert (merged.added, refusals(merged)) == (0, {"run.json": code})


def test_what_a_later_release_adds_is_passed_over(hosts: Any, fleet: Path) -> None:
    folder = hosts[0].write()
    document = json.loads((folder / "run.json").read_text())
    document["weather"] = {"sun": 1}
    document["devices"][0]["colour"] = "green"
    (folder / "run.json").write_text(json.dumps(document))
    assert merge([hosts[0].out], fleet).added == 1


def test_what_an_earlier_release_lacked_has_a_default(hosts: Any, fleet: Path) -> None:
    folder = hosts[0].write()
    document = json.loads((folder / "run.json").read_text())
    for name in ("finished_at", "verdict", "options", "simulated", "method_version"):
        document.pop(name, None)
    for device in document["devices"]:
        for name in ("limits", "catalogue_key", "driver"):
            del device[name]
    (folder / "run.json").write_text(json.dumps(document))
    assert merge([hosts[0].out], fleet).added == 1
    assert rows(fleet, "SELECT judgement, tier FROM runs") == [("unknown", "standard")]


def test_a_source_that_does_not_exist_is_listed(hosts: Any, fleet: Path) -> None:
    hosts[0].write()
    merged = merge([hosts[0].out, fleet.parent / "nowhere"], fleet)
    assert (merged.added, refusals(merged)) == (1, {"nowhere": "not-found"})


def test_no_run_at_all_is_an_error_of_usage(tmp_path: Path, fleet: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RoofprobeError, match="there is no run to merge") as error:
        merge([tmp_path / "empty"], fleet)
    assert (error.value.code, error.value.exit_code) == ("nothing-to-merge", 2)
    assert not fleet.exists()


def rebuilt(folder: Path) -> Run:
    return Run.model_validate_json((folder / "kept.json").read_text())


def test_a_killed_run_is_made_from_its_journal(hosts: Any, fleet: Path) -> None:
    run = hosts[0].run(status="incomplete")
    folder = hosts[0].write(run.model_copy(update={"status": "running", "headlines": ()}))
    (folder / "journal.jsonl").write_text("{}\n")
    (folder / "kept.json").write_text(run.model_dump_json())
    assert refusals(merge([hosts[0].out], fleet)) == {folder.name: "unfinished-run"}
    (folder / "journal.jsonl").write_text("{}\n{}\n")
    merged = merge([hosts[0].out], fleet, rebuild=rebuilt)
    assert (merged.added, merged.refused) == (1, ())
    assert rows(fleet, "SELECT status FROM runs") == [("incomplete",)]


def failing(folder: Path) -> Run:
    raise ZeroDivisionError(folder)


def test_a_journal_that_cannot_be_made_a_run_is_refused(hosts: Any, fleet: Path) -> None:
    folder = hosts[0].write(hosts[0].run(status="running"))
    (folder / "journal.jsonl").write_text("{}\n")
    hosts[1].write()
    merged = merge([hosts[0].out, hosts[1].out], fleet, rebuild=failing)
    assert (merged.added, refusals(merged)) == (1, {folder.name: "damaged-run"})


def killed(folder: Path) -> Run:
    import os

    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_file_that_kills_its_reader_takes_no_other_with_it(hosts: Any, tmp_path: Path) -> None:
    paths = [host.write() / "run.json" for host in hosts]
    deadly = hosts[0].out / "deadly"
    deadly.mkdir()
    found = [Found(path, path.parent.name) for path in paths]
    jobs = [
        batches.Job((found[0], Found(deadly, "d", journal=True)), str(tmp_path), killed),
        batches.Job((found[1],), str(tmp_path), killed),
        batches.Job((found[2],), str(tmp_path), killed),
    ]
    made = list(batches.read_jobs(jobs, workers=2))
    assert sum(len(batch.standings) for _, batch in made) == 3
    assert [each.code for _, batch in made for each in batch.refused] == ["reader-died"]


def test_batches_of_any_size_make_the_same_tables(hosts: Any, tmp_path: Path) -> None:
    for host in hosts:
        host.write()
    sources = [host.out for host in hosts]
    columns = "host, device_id, metric, value"
    merge(sources, tmp_path / "one", batch=1, workers=2)
    merge(sources, tmp_path / "all")
    assert len(list((tmp_path / "one/parts").glob("*.metrics.parquet"))) == 3
    sql = f"SELECT {columns} FROM metrics ORDER BY ALL"
    assert rows(tmp_path / "one", sql) == rows(tmp_path / "all", sql)


def test_merges_at_once_lose_nothing_and_count_nothing_twice(hosts: Any, fleet: Path) -> None:
    for host in hosts:
        host.write()
    everything = [host.out for host in hosts]

    def one(sources: Sequence[Path]) -> Merged:
        return merge(sources, fleet)

    with ThreadPoolExecutor(6) as threads:
        list(
            threads.map(one, [*([host.out] for host in hosts), everything, everything, everything])
        )
    assert counts(fleet)[:2] == [3, 6]
    assert len(rows(fleet, "FROM metrics WHERE metric = 'compute bf16 burst'")) == 6
    numbers = [int(path.stem) for path in sorted((fleet / "log").iterdir())]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_merge_that_is_killed_leaves_a_fleet_that_the_next_one_completes(
    hosts: Any, fleet: Path
) -> None:
    for host in hosts:
        host.write()
    script = (
        "import sys, time; from roofprobe.records.fleet import merge as m; "
        "m._commit = lambda *a: (print('read', flush=True), time.sleep(60)); "
        "m.merge(sys.argv[2:], sys.argv[1])"
    )
    sources = [str(host.out) for host in hosts]
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(fleet), *sources], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"read\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert list((fleet / "parts").iterdir())
    assert merge(sources, fleet).total_runs == 3
    assert counts(fleet)[0] == 3


def test_launchers_of_their_own_write_folders_that_one_merge_takes(
    hosts: Any, fleet: Path, tmp_path: Path
) -> None:
    """Stand-ins of hosts: processes with a folder each, some killed in the middle of a file."""
    source = hosts[0].write() / "run.json"
    script = (
        "import json, pathlib, sys; out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True); "
        "run = json.loads(pathlib.Path(sys.argv[1]).read_text()); "
        "run['environment']['host'] = run['run_id'] = out.parent.name; "
        "text = json.dumps(run); cut = len(text) // (2 if sys.argv[3] == 'dies' else 1); "
        "(out / 'run.json').write_text(text[:cut])"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(source), str(tmp_path / f"shared/host{n}/run"),
             "dies" if n == 3 else "lives"]
        )
        for n in range(6)
    ]  # fmt: skip
    assert [process.wait() for process in started] == [0] * 6
    merged = merge([str(tmp_path / "shared/host*")], fleet)
    assert (merged.added, len(merged.refused)) == (5, 1)
    found = {host for (host,) in rows(fleet, "SELECT host FROM runs")}
    assert found == {f"host{n}" for n in range(6) if n != 3}


def test_a_fleet_may_lie_where_fsspec_reaches(hosts: Any) -> None:
    for host in hosts:
        host.write()
    where = f"memory://bucket/{time.monotonic_ns()}/fleet"
    merge([hosts[0].out], where)
    merged = merge([host.out for host in hosts], where)
    assert (merged.added, merged.known) == (2, 1)
    assert counts(where)[:2] == [3, 6]
    assert fsspec.filesystem("memory").exists(f"{where}/manifest.json")


def test_a_place_that_nothing_reaches_is_said(hosts: Any) -> None:
    hosts[0].write()
    with pytest.raises(RoofprobeError) as error:
        merge([hosts[0].out], "nowhere9://bucket/fleet")
    assert error.value.code == "bad-fleet"


def test_a_fleet_below_a_file_cannot_be_written(hosts: Any, tmp_path: Path) -> None:
    hosts[0].write()
    (tmp_path / "file").write_text("x")
    with pytest.raises(RoofprobeError) as error:
        merge([hosts[0].out], tmp_path / "file" / "fleet")
    assert error.value.code == "unwritable"


def test_a_log_of_a_newer_release_is_not_guessed_at(hosts: Any, fleet: Path) -> None:
    hosts[0].write()
    merge([hosts[0].out], fleet)
    entry = fleet / "log/00000001.json"
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"schema_version": 9}))
    with pytest.raises(RoofprobeError) as error:
        merge([hosts[0].out], fleet)
    assert error.value.code == "newer-fleet"


@pytest.mark.parametrize("damage", ["log", "part"])
def test_damage_to_the_fleet_itself_is_said(hosts: Any, fleet: Path, damage: str) -> None:
    hosts[0].write()
    merge([hosts[0].out], fleet)
    victim = next((fleet / "log").iterdir())
    if damage == "part":
        victim = next((fleet / "parts").glob("*.runs.parquet"))
        victim.unlink()
    else:
        victim.write_text("{")
    with pytest.raises(RoofprobeError) as error:
        merge([hosts[0].out], fleet)
    assert error.value.code == "damaged-fleet"


def test_a_fleet_beside_its_runs_is_not_searched_for_runs(hosts: Any, tmp_path: Path) -> None:
    hosts[0].write()
    inside = tmp_path / "fleet"
    merge([tmp_path], inside)
    again = merge([tmp_path], inside)
    assert (again.looked_at, again.added) == (1, 0)


def test_a_fleet_in_the_folder_of_its_runs_leaves_the_runs_to_be_found(
    hosts: Any, tmp_path: Path
) -> None:
    hosts[0].write()
    assert merge([tmp_path], tmp_path).added == 1
    folders = sorted(path.name for path in tmp_path.iterdir())
    hosts[1].write()
    again = merge([tmp_path], tmp_path)
    assert (again.looked_at, again.added, again.known, again.refused) == (2, 1, 1, ())
    assert {"log", "parts", "manifest.json"} < set(folders)


def test_a_disk_that_is_not_there_clears_no_refusal_and_an_old_log_is_read(
    hosts: Any, fleet: Path, tmp_path: Path
) -> None:
    good, bad = hosts[0].write(), hosts[1].write()
    (bad / "run.json").write_text("{}")
    merge([hosts[0].out, hosts[1].out], fleet)
    entry = fleet / "log/00000001.json"
    document = json.loads(entry.read_text())
    del document["cleared"]
    entry.write_text(json.dumps(document))
    shutil.move(hosts[1].out, tmp_path / "unmounted")
    merge([hosts[0].out, hosts[1].out], fleet)
    assert str(bad / "run.json") in Fleet(open_store(fleet)).state().refused
    hosts[1].out.mkdir()
    last = merge([good, hosts[1].out], fleet)
    assert set(last.cleared) == {str(bad / "run.json"), str(hosts[1].out)}
    assert not Fleet(open_store(fleet)).state().refused
