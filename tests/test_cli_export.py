"""``probe export`` as a process: what it writes and prints, and one sentence for what it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.costmodel.fit import Settings

DATA = Path(__file__).parent / "costmodel" / "data"


def export(source: Path, out: Path, planner: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", "export", str(source), "--to", planner, "--out",
         str(out), "--models", "llama-3.1-8b"], capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = [DATA / "gemm.csv", DATA / "attention.csv"]
    outcome = calibrate(tables, gpu="H100 SXM", framework="VLLM", settings=Settings(splits=2))
    file = tmp_path_factory.mktemp("source") / "calibration.json"
    file.write_bytes(calibration_bytes(outcome.file))
    return file


@pytest.mark.parametrize("planner", ["aiconfigurator", "llm-analysis", "genz"])
def test_the_files_are_listed_and_the_command_that_loads_them_is_printed(
    calibration: Path, tmp_path: Path, planner: str
) -> None:
    done = export(calibration, tmp_path / "out", planner)
    assert done.returncode == 0, done.stderr
    written = [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")]
    for name in written:
        assert (tmp_path / "out" / name).is_dir() or name in done.stdout
    assert "Load it:" in done.stdout
    assert str(tmp_path / "out") in done.stdout.split("Load it:")[1]


def truncated(calibration: Path, folder: Path) -> Path:
    (folder / "calibration.json").write_bytes(calibration.read_bytes()[:2000])
    return folder


def another_schema(calibration: Path, folder: Path) -> Path:
    (folder / "other.json").write_text('{"format": "other", "schema_version": 1}')
    return folder / "other.json"


def changed(calibration: Path, folder: Path) -> Path:
    document = json.loads(calibration.read_text())
    document["devices"][0]["ops"][0]["memory_efficiency"] = "fast"
    (folder / "calibration.json").write_text(json.dumps(document))
    return folder / "calibration.json"


def text(calibration: Path, folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing to see\n")
    return folder / "notes.txt"


def no_run(calibration: Path, folder: Path) -> Path:
    (folder / "notes.txt").write_text("")
    return folder


def missing(calibration: Path, folder: Path) -> Path:
    return folder / "missing"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (truncated, "is not JSON"),
        (another_schema, "neither a run nor a calibration.json"),
        (changed, "changed or damaged"),
        (text, "neither a run nor a calibration.json"),
        (no_run, "neither a run.json nor a calibration.json"),
        (missing, "there is no run at"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence_and_exit_code_2(
    calibration: Path, tmp_path: Path, make: Callable[[Path, Path], Path], says: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    done = export(make(calibration, place), tmp_path / "out", "aiconfigurator")
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("probe: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()
