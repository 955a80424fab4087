"""Every command that reads a run says the same of one that was killed: what its journal holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from roofprobe.cli import app
from roofprobe.opening import read
from roofprobe.records.journal import Header, JournalWriter
from roofprobe.records.runfolder import locked, read_run, write_run
from roofprobe.records.schema import Run
from roofprobe.rendering import write_index

REFERENCE = Path(__file__).parents[1] / "reports/reference/cpu-amd-epyc-2-cores"


@pytest.fixture
def run() -> Run:
    return read_run(REFERENCE)


@pytest.fixture
def killed(run: Run, tmp_path: Path) -> Path:
    """Return the folder of a run that was killed after its last measurement."""
    folder = tmp_path / "reports" / "20000101T000000Z-killed"
    folder.mkdir(parents=True)
    fields = {name: getattr(run, name) for name in Header.model_fields if name != "schema_version"}
    writer = JournalWriter(folder)
    writer.header(Header(**fields))
    for measurement in run.measurements:
        writer.measurement(measurement)
    writer.close()
    left_out = {"measurements": (), "headlines": (), "verdict": None, "retests": ()}
    write_run(folder, run.model_copy(update={"status": "running", **left_out}))
    return folder


def probe(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("record", ["left running", "missing"])
def test_a_killed_run_is_read_from_its_journal_by_every_command(
    run: Run, killed: Path, record: str
) -> None:
    if record == "missing":
        (killed / "run.json").unlink()
    found = read(killed.parent)
    assert found.status == "incomplete"
    assert [m.case.case_id for m in found.measurements] == [
        m.case.case_id for m in run.measurements
    ]
    shown = json.loads(probe("show", killed, "--json").stdout)
    assert len(shown["measurements"]) == len(run.measurements)
    checked = json.loads(probe("check", killed, "--json").stdout)
    codes = {finding["code"] for finding in checked["findings"]}
    assert "RP-COMPLETE" in codes
    assert "has no result of" not in json.dumps(checked)
    compared = json.loads(probe("compare", REFERENCE, killed, "--json").stdout)
    assert compared["compared"] > 20
    fitted = probe("calibrate", killed, "--out", killed.parent / "c.json", "--json")
    assert json.loads(fitted.stdout)["devices"][0]["stream"]
    if record == "left running":
        out = killed.parent.parent / "exported"
        exported = probe("export", killed, "--to", "genz", "--out", out)
        assert exported.exit_code == 0, exported.output
    page = write_index(killed.parent).read_text()
    assert "<br>incomplete" in page
    assert "read fp32" in page
    assert "cannot be read" not in page


def test_a_run_whose_process_holds_the_lock_is_going_on(killed: Path) -> None:
    with locked(killed.parent):
        found = read(killed)
        assert (found.status, found.finished_at) == ("running", None)
        assert found.measurements
        assert "still going on" in probe("show", killed).stdout
        assert "still running" in probe("check", killed, "--json").stdout
    assert read(killed).status == "incomplete"


def test_a_run_killed_before_its_first_line_has_no_record(killed: Path) -> None:
    (killed / "run.json").unlink()
    (killed / "journal.jsonl").write_bytes(b'{"kind": "head')
    done = probe("show", killed.parent)
    assert done.exit_code == 3
    assert "has no record yet" in done.stderr


def test_a_killed_run_is_shown_without_torch(killed: Path) -> None:
    code = (
        "import sys\n"
        "from roofprobe.cli import app\n"
        f"try:\n    app(['show', {str(killed)!r}])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
