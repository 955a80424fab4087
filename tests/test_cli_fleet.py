"""``probe fleet`` and ``probe history``: their output, exit codes and messages."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
