"""``probe check`` as a user meets it: exit codes, documents, files, runs that cannot be judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from roofprobe.records.runfolder import write_run
from roofprobe.records.schema import Judgement, Run
from roofprobe.reporting.check_json import check_json_schema

EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "unknown": 3}
# What was changed of one H100's record, the verdict that it deserves, the code that says why.
COPIES: dict[str, tuple[Callable[[ModuleType, Run], Run], Judgement, str | None]] = {
    "itself": (lambda h100, run: run, "pass", None),
    "power-limit-lowered": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 500}),
        "fail", "RP-POWER-LIMIT",
    ),
    "power-limit-lowered-a-little": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 650}),
        "warn", "RP-POWER-LIMIT",
    ),
    "renamed-to-h200": (
        lambda h100, run: h100.with_device(run, name="NVIDIA H200"), "fail", "RP-IDENTITY",
    ),
    "bandwidth-30-percent-less": (
        lambda h100, run: h100.scaled(run, 0.7, lambda m: m.case.family == "memory"),
        "fail", "RP-BANDWIDTH",
    ),
    "half-of-the-rows-missing": (
        lambda h100, run: run.model_copy(update={"measurements": run.measurements[::2]}),
        "unknown", "RP-COMPLETE",
    ),
    "older-method": (
        lambda h100, run: run.model_copy(update={"method_version": 0}), "warn", "RP-METHOD",
    ),
}  # fmt: skip


def probe_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", "check", *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folders(
    h100: ModuleType, healthy: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Write every copy into a run folder."""
    root = tmp_path_factory.mktemp("copies")
    found = {}
    for name, (change, *_) in COPIES.items():
        found[name] = root / name
        found[name].mkdir()
        write_run(found[name], change(h100, healthy).model_copy(update={"run_id": name}))
    return found


@pytest.mark.parametrize(
    "name",
    [
        "itself", "power-limit-lowered", "renamed-to-h200", "bandwidth-30-percent-less",
        "half-of-the-rows-missing", "older-method",
    ],
)  # fmt: skip
def test_the_command_exits_with_the_verdict(name: str, folders: dict[str, Path]) -> None:
    _, judgement, code = COPIES[name]
    done = probe_check(str(folders[name]), "--json")
    assert done.returncode == EXIT_CODES[judgement], done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, check_json_schema())
    assert document["judgement"] == judgement
    assert document["exit_code"] == done.returncode
    assert code is None or code in {finding["code"] for finding in document["findings"]}


def test_strict_makes_a_warning_count(folders: dict[str, Path]) -> None:
    warned = str(folders["power-limit-lowered-a-little"])
    assert probe_check(warned).returncode == 0
    assert probe_check(warned, "--strict").returncode == 1


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("itself", 0, "OK"),
        ("power-limit-lowered-a-little", 1, "WARNING"),
        ("power-limit-lowered", 2, "CRITICAL"),
        ("half-of-the-rows-missing", 3, "UNKNOWN"),
    ],
)
def test_nagios_gets_one_line_and_its_own_codes(
    name: str, code: int, word: str, folders: dict[str, Path]
) -> None:
    done = probe_check(str(folders[name]), "--nagios")
    assert done.returncode == code
    assert done.stdout.startswith(f"ROOFPROBE {word}: ")
    assert len(done.stdout.splitlines()) == 1


def test_nagios_learns_that_there_is_no_run_as_unknown(tmp_path: Path) -> None:
    done = probe_check(str(tmp_path / "nothing"), "--nagios")
    assert done.returncode == 3
    assert done.stdout.startswith("ROOFPROBE UNKNOWN: there is no run")


def test_wrong_usage_exits_with_two(folders: dict[str, Path], tmp_path: Path) -> None:
    itself = str(folders["itself"])
    for arguments in (
        [str(tmp_path / "nothing")],
        [itself, "--against", str(tmp_path / "nothing")],
        [itself, "--json", "--markdown"],
        [itself, "--junit", str(tmp_path / "no" / "folder.xml")],
        [itself, "--junit", "-"],
        [itself, "--junit", str(tmp_path / "x"), "--prometheus", str(tmp_path / "a/../x")],
        [itself, "--against", itself],
    ):
        done = probe_check(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_the_command_writes_files_for_machines_and_markdown_for_people(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    junit, metrics = tmp_path / "junit.xml", tmp_path / "metrics.prom"
    done = probe_check(
        str(folders["power-limit-lowered"]), "--against", str(folders["itself"]), "--markdown",
        "--junit", str(junit), "--prometheus", str(metrics),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("## roofprobe verdict: fail")
    assert "RP-POWER-LIMIT" in junit.read_text()
    assert 'roofprobe_run_verdict{state="fail"} 1' in metrics.read_text()


def test_of_a_folder_of_runs_the_newest_is_judged(
    h100: ModuleType, healthy: Run, tmp_path: Path
) -> None:
    for name, run in (
        ("20260101T000000Z-h100", COPIES["power-limit-lowered"][0](h100, healthy)),
        ("20260102T000000Z-h100", healthy),
    ):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, run)
    assert probe_check(str(tmp_path)).returncode == 0


def test_a_newest_run_without_record_is_named_and_no_older_one_is_judged(
    healthy: Run, tmp_path: Path
) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    for folder in (runs / "20260101T000000Z-h100", other):
        folder.mkdir(parents=True)
        write_run(folder, healthy.model_copy(update={"run_id": folder.name}))
    killed = runs / "20260102T000000Z-h100"
    killed.mkdir()
    (killed / "journal.jsonl").write_text("")
    for arguments in ([str(runs)], [str(killed)], [str(other), "--against", str(runs)]):
        done = probe_check(*arguments)
        assert done.returncode == 3, arguments
        assert done.stdout == ""
        assert killed.name in done.stderr
        assert "has no record yet" in done.stderr
        assert f"`probe all --out {runs} --resume`" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--junit", "-"], "name a file"),
        (["--prometheus", "-"], "name a file"),
        (["--junit", "x", "--prometheus", "./x"], "name two files"),
    ],
)
def test_files_that_cannot_be_meant_are_refused_before_anything_is_written(
    options: list[str], words: str, folders: dict[str, Path]
) -> None:
    done = probe_check(str(folders["itself"]), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert not Path("-").exists()
    assert not Path("x").exists()


def test_a_run_is_not_held_against_itself_however_it_is_named(healthy: Run, tmp_path: Path) -> None:
    folder = tmp_path / "20260101T000000Z-h100"
    folder.mkdir()
    write_run(folder, healthy)
    for same in (folder, folder / "run.json", tmp_path):
        done = probe_check(str(folder), "--against", str(same))
        assert (done.returncode, done.stdout) == (2, "")
        assert "is the run that is judged" in done.stderr
