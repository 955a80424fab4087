"""``probe fleet`` and ``probe history``: their output, exit codes and messages."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.whole

RUN: dict[str, Any] = {
    "schema_version": 1,
    "run_id": "20260101T000000Z-a1",
    "status": "complete",
    "started_at": "2026-01-01T00:00:00+00:00",
    "finished_at": "2026-01-01T00:05:00+00:00",
    "options": {"families": ["compute"]},
    "environment": {
        "host": "a1", "os": "Linux", "kernel": "6.0", "python": "3.11", "roofprobe": "0.1.0",
    },
    "devices": [
        {"device_id": "GPU-1", "backend": "cuda", "name": "Example", "torch_device": "cuda:0"}
    ],
}  # fmt: skip
Write = Callable[..., Path]


def probe(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, **changed: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        document = copy.deepcopy(RUN) | {"run_id": name} | changed
        document["environment"]["host"] = name
        (folder / "run.json").write_text(json.dumps(document))
        return folder

    return written


def test_a_merge_says_what_it_added_and_the_next_one_what_it_knew(
    write: Write, tmp_path: Path
) -> None:
    write("a1")
    write("a2")
    first = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert first.returncode == 0, first.stderr
    assert "2 added, 0 known before, 0 replaced, 0 refused" in first.stdout
    assert first.stderr == "read 2 of 2 new runs\n"
    again = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet", "--json")
    told = json.loads(again.stdout)
    assert (told["added"], told["known"], told["total_runs"], told["version"]) == (0, 2, 2, 1)
    assert again.stderr == ""


def test_a_refused_run_is_told_with_its_reason_once_and_the_rest_is_merged(
    write: Write, tmp_path: Path
) -> None:
    write("a1")
    (write("a2") / "run.json").write_text('{"schema_version": 1}')
    first = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert first.returncode == 3
    assert "refused: damaged-run: " in first.stdout
    assert "1 added" in first.stdout
    again = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet", "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    manifest = json.loads((tmp_path / "fleet/manifest.json").read_text())
    assert "damaged-run" in json.dumps(manifest)


def test_a_refused_run_that_is_removed_or_mended_says_nothing_against_the_fleet_any_more(
    tmp_path: Path,
) -> None:
    runs, fleet = tmp_path / "sim/runs", tmp_path / "fleet"
    probe(
        "fleet", "simulate", "--hosts", "12", "--gpus", "2", "--seed", "1", "--out",
        tmp_path / "sim",
    )  # fmt: skip
    for name in ("gone", "mended"):
        (runs / name).mkdir()
        (runs / name / "run.json").write_text(f'{{"{name}": 1}}')
    assert probe("fleet", "merge", runs, "--out", fleet).returncode == 3
    before = probe("fleet", "report", fleet)
    assert before.returncode == 3
    assert "refused-files" in before.stdout
    shutil.rmtree(runs / "gone")
    other = next(runs.glob("*-sim-00003"))
    shutil.copy(other / "run.json", runs / "mended/run.json")
    elsewhere = probe("fleet", "merge", other, "--out", fleet)
    assert "mended or gone" not in elsewhere.stdout  # not below what was named
    merged = probe("fleet", "merge", runs, "--out", fleet)
    assert (merged.returncode, merged.stderr) == (0, "")
    assert "2 refused before are mended or gone" in merged.stdout
    after = probe("fleet", "report", fleet)
    assert (after.returncode, "refused-files" in after.stdout) == (0, False), after.stdout
    again = json.loads(probe("fleet", "merge", runs, "--out", fleet, "--json").stdout)
    assert (again["version"], again["cleared"]) == (2, [])


def test_each_of_several_empty_files_is_refused_by_its_own_name(
    write: Write, tmp_path: Path
) -> None:
    for host in ("a1", "a2"):
        (write(host) / "run.json").write_text("")
    first = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert first.returncode == 3
    assert "0 known before" in first.stdout
    (write("a3") / "run.json").write_text("")
    again = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert again.returncode == 3
    assert "2 known before" in again.stdout
    assert f"{tmp_path}/runs/a3/run.json is no whole record" in again.stdout
    refused = json.loads((tmp_path / "fleet/manifest.json").read_text())["refused"]
    assert sorted(Path(each["source"]).parent.name for each in refused) == ["a1", "a2", "a3"]
    assert probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet").returncode == 0


def test_many_refused_runs_are_counted_and_only_the_first_are_listed(
    write: Write, tmp_path: Path
) -> None:
    for number in range(13):
        (write(f"a{number}") / "run.json").write_text(f'{{"schema_version": {100 + number}}}')
    done = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert done.returncode == 3
    assert done.stdout.count("refused: ") == 10
    assert "refused in all: damaged-run 13" in done.stdout


def test_a_run_that_was_killed_is_made_from_its_journal(tmp_path: Path) -> None:
    from roofprobe.records import journal
    from roofprobe.records.schema import Device, Environment, Options

    folder = tmp_path / "runs/killed"
    folder.mkdir(parents=True)
    writer = journal.JournalWriter(folder)
    writer.header(
        journal.Header(
            run_id="killed", started_at="2026-01-01T00:00:00+00:00", command=(),
            options=Options(families=("compute",)),
            environment=Environment(**RUN["environment"]),
            devices=(Device(**RUN["devices"][0]),),
        )
    )  # fmt: skip
    writer.close()
    done = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["added"] == 1


def test_nothing_to_merge_is_a_question_of_usage(tmp_path: Path) -> None:
    done = probe("fleet", "merge", tmp_path / "nowhere", "--out", tmp_path / "fleet")
    assert done.returncode == 2
    assert "there is no run to merge" in done.stderr
    assert probe("fleet", "merge", tmp_path).returncode == 2


def test_names_from_files_cannot_write_to_the_terminal(write: Write, tmp_path: Path) -> None:
    (write("\x1b[2Jevil") / "run.json").write_text("{}")
    done = probe("fleet", "merge", tmp_path / "runs", "--out", tmp_path / "fleet")
    assert "\x1b" not in done.stdout


def test_history_of_a_folder_of_runs_lists_answers_and_refuses(
    write: Write, tmp_path: Path
) -> None:
    rate = {"unit": "TFLOPS", "median": 600.0, "ci_low": 599.0, "ci_high": 601.0, "n": 9}
    line = {"device_id": "GPU-1", "family": "compute", "label": "bf16", "regime": "burst"}
    write("a1", headlines=[line | {"rate": rate}])
    runs = tmp_path / "runs"
    listed = probe("history", runs)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "compute bf16 burst" in listed.stdout
    trend = probe("history", runs, "--metric", "bf16", "--gpu", "gpu-", "--json")
    assert json.loads(trend.stdout)["series"][0]["points"][0]["value"] == 600.0
    table = probe("history", runs, "--metric", "bf16", "--host", "a1")
    assert "2026-01-01 00:00" in table.stdout
    answer = probe("history", runs, "--sql", "SELECT host, value FROM metrics", "--csv")
    assert answer.stdout == "host,value\na1,600.0\n"
    for arguments, said in (
        (("--sql", "COPY metrics TO 'x'"), "exactly one SELECT"),
        (("--sql", "SELECT 1", "--metric", "bf16"), "stands alone"),
        (("--gpu", "GPU-1"), "--gpu needs --metric"),
        (("--metric", "bf16", "--since", "yesterday"), "is no date"),
        (("--csv", "--json"), "exclude each other"),
        (("--metric", "bf61"), "near it: compute bf16 burst"),
    ):
        refused = probe("history", runs, *arguments)
        assert refused.returncode == 2, arguments
        assert said in refused.stderr


def test_history_says_which_runs_are_left_out(write: Write, tmp_path: Path) -> None:
    write("a1")
    (write("a2") / "run.json").write_text("{}")
    done = probe("history", tmp_path / "runs")
    assert done.returncode == 0
    assert "left out, since it cannot be read" in done.stderr


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated fleet with one slow device and one missing host, merged."""
    folder = tmp_path_factory.mktemp("faulty")
    done = probe(
        "fleet", "simulate", "--hosts", "12", "--gpus", "2", "--seed", "1", "--out", folder / "sim",
        "--fault", "slow-gpu:1:12%", "--fault", "missing-host:1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SIMULATED: ")
    assert "slow-gpu by 12.0% (all): 1 device of sim-" in done.stdout
    merged = probe("fleet", "merge", folder / "sim/runs", "--out", (folder / "fleet").as_uri())
    assert merged.returncode == 0, merged.stderr
    return folder


def test_a_report_fails_for_a_slow_device_and_names_it(faulty: Path) -> None:
    truth = json.loads((faulty / "sim/truth.json").read_text())
    (slow,) = next(each["devices"] for each in truth["faults"] if each["kind"] == "slow-gpu")
    done = probe("fleet", "report", faulty / "fleet", "--out", faulty / "out")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("SIMULATED: ")
    assert "Fleet: FAIL" in done.stdout
    assert slow in done.stdout
    assert sorted(path.name for path in (faulty / "out").iterdir()) == [
        "fleet.html", "fleet.json", "fleet.prom",
    ]  # fmt: skip
    document = json.loads((faulty / "out/fleet.json").read_text())
    assert [device["device_id"] for device in document["devices"]] == [slow]
    assert "SIMULATED" in (faulty / "out/fleet.html").read_text()
    assert (faulty / "out/fleet.prom").read_text().startswith("# SIMULATED: ")


def test_a_report_as_json_keeps_to_its_schema_and_a_page_can_go_alone(faulty: Path) -> None:
    from jsonschema import Draft202012Validator

    page = faulty / "deep/page.html"
    done = probe(
        "fleet", "report", (faulty / "fleet").as_uri(), "--json", "--out", page,
        "--prometheus", faulty / "gauges.prom", "--expect", faulty / "sim/hosts.txt",
    )  # fmt: skip
    document = json.loads(done.stdout)
    Draft202012Validator(json.loads(probe("schema", "fleet").stdout)).validate(document)
    assert "missing-host" in {finding["code"] for finding in document["findings"]}
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    assert 'roofprobe_fleet_hosts{state="unknown"} 1' in (faulty / "gauges.prom").read_text()


def test_a_report_without_a_fault_passes_and_a_missing_host_makes_it_unknown(
    tmp_path: Path,
) -> None:
    for seed, arguments, code in ((1, (), 0), (1, ("--expect", tmp_path / "hosts.txt"), 3)):
        runs = tmp_path / "sim"
        if not runs.exists():
            probe(
                "fleet", "simulate", "--hosts", "12", "--gpus", "2", "--seed", seed, "--out", runs
            )
            (tmp_path / "hosts.txt").write_text("sim-00000 2\nelsewhere 8  # not there\n")
        done = probe("fleet", "report", runs / "runs", *arguments)
        assert done.returncode == code, done.stdout
    assert "Hosts without a run: elsewhere" in done.stdout


def test_what_cannot_be_reported_is_told_in_a_sentence(faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("node-1 many\n")
    for arguments, said in (
        ((tmp_path / "nowhere",), "there is nothing at"),
        ((tmp_path,), "there is no run to merge"),
        ((faulty / "fleet", "--expect", tmp_path / "file"), "node-1 many"),
        ((faulty / "fleet", "--expect", tmp_path / "none"), "none"),
        ((faulty / "fleet", "--out", tmp_path / "file"), "cannot"),
        ((faulty / "fleet", "--prometheus", tmp_path / "file/x.prom"), "cannot"),
    ):
        done = probe("fleet", "report", *arguments)
        assert done.returncode == 2, (arguments, done.stdout[:200])
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    wrong = probe(
        "fleet", "simulate", "--hosts", "2", "--out", tmp_path / "x", "--fault", "gremlin"
    )
    assert wrong.returncode == 2
    assert "slow-gpu" in wrong.stderr
    truth = (faulty / "sim/truth.json").read_bytes()
    used = probe("fleet", "simulate", "--hosts", "2", "--out", faulty / "sim")
    assert used.returncode == 2
    assert "has the runs of a simulated fleet already" in used.stderr
    assert (faulty / "sim/truth.json").read_bytes() == truth


def test_what_is_simulated_says_so_in_every_form_of_history(faulty: Path) -> None:
    fleet = faulty / "fleet"
    assert probe("history", fleet).stdout.startswith("SIMULATED: ")
    sql = ("--sql", "SELECT count(*) AS n FROM metrics")
    assert probe("history", fleet, *sql).stdout.startswith("SIMULATED: ")
    assert json.loads(probe("history", fleet, *sql, "--json").stdout)["simulated"]
    as_csv = probe("history", fleet, *sql, "--csv")
    assert as_csv.stdout.startswith("n\n")
    assert as_csv.stderr.startswith("SIMULATED: ")
