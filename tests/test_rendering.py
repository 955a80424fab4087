"""The command that draws reports anew, from runs as they lie in folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roofprobe.cli import app
from roofprobe.opening import readable
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import read_run, write_run
from roofprobe.records.schema import Run
from roofprobe.rendering import report, write_index

REFERENCE = Path(__file__).parents[1] / "reports/reference/cpu-amd-epyc-2-cores"
JOURNAL = """{"kind": "header", "schema_version": 1, "run_id": "killed", "started_at":
"2000-01-01T00:00:00+00:00", "command": [], "options": {"families": ["compute"]},
"environment": {"host": "h", "os": "Linux", "kernel": "6", "python": "3.11", "roofprobe": "0.1"},
"devices": []}"""

Runs = Callable[..., Path]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Give ``runs("a", host="x")``: a run folder with the record of a small run, changed."""

    def made(name: str, host: str = "example", **changes: object) -> Path:
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        run = Run.model_validate(
            {
                "run_id": name, "status": "complete", "started_at": "2000-01-01T00:00:00+00:00",
                "options": {"families": ["compute"]},
                "environment": {"host": host, "os": "Linux", "kernel": "6", "python": "3.11",
                                "roofprobe": "0.1"},
                "devices": [{"device_id": "cpu", "torch_device": "cpu", "backend": "cpu",
                             "name": "Example CPU"}],
                **changes,
            }
        )  # fmt: skip
        write_run(folder, run)
        return folder

    return made


def test_a_run_is_drawn_anew_into_its_folder_and_nothing_else_is_written(runs: Runs) -> None:
    folder = runs("a")
    assert report([folder], None) == (folder / "report.md", folder / "report.html")
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html", "report.md", "run.json",
    ]  # fmt: skip
    assert report([folder / "run.json"], None)[1].read_text().startswith("<!doctype html>")


def test_out_is_a_folder_or_the_page_itself(runs: Runs, tmp_path: Path) -> None:
    folder = runs("a")
    assert report([folder], tmp_path / "new") == (
        tmp_path / "new/report.md", tmp_path / "new/report.html",
    )  # fmt: skip
    assert report([folder], tmp_path / "deep/page.html") == (tmp_path / "deep/page.html",)
    assert not (folder / "report.html").exists()
    with pytest.raises(RoofprobeError, match="choose another --out"):
        report([folder], folder / "run.json" / "x")


def test_a_folder_of_runs_means_its_newest_and_gets_its_index(runs: Runs) -> None:
    runs("20000101T000000Z-a")
    newest = runs("20000102T000000Z-b")
    out = newest.parent
    assert report([out], None) == (
        newest / "report.md", newest / "report.html", out / "index.html",
    )  # fmt: skip
    assert report([out], None, index=True) == (out / "index.html",)
    page = (out / "index.html").read_text()
    assert 'href="20000102T000000Z-b/report.html"' in page
    assert "20000101T000000Z-a/report.html" not in page  # it has no report


def test_a_run_that_has_only_its_journal_is_drawn_as_incomplete(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "journal.jsonl").write_text(JOURNAL.replace("\n", " ") + "\n")
    run, where = readable(folder)
    assert (run.status, run.run_id, where) == ("incomplete", "killed", folder)
    report([folder], None)
    assert "did not come to its end" in (folder / "report.html").read_text()
    assert not (folder / "run.json").exists()


def test_a_record_left_running_is_drawn_from_its_journal(runs: Runs) -> None:
    folder = runs("killed", status="running")
    (folder / "journal.jsonl").write_text(JOURNAL.replace("\n", " ") + "\n")
    assert readable(folder)[0].status == "incomplete"
    assert read_run(folder).status == "running"


def test_several_runs_stand_side_by_side_beside_them(runs: Runs, tmp_path: Path) -> None:
    a, b = runs("a"), runs("b", host="other")
    (page,) = report([a, b], None)
    assert page == a.parent / "comparison.html"
    text = page.read_text()
    assert f"probe compare {a} {b}" in text
    assert '<th scope="row">host</th><td class="differs">example</td>' in text
    (page,) = report([a], tmp_path, side_by_side=True)
    assert page == tmp_path / "comparison.html"
    assert f"probe check {a}" in page.read_text()


def test_an_index_stays_with_its_runs(runs: Runs, tmp_path: Path) -> None:
    folder = runs("a")
    with pytest.raises(RoofprobeError, match="is no folder of runs"):
        report([folder], None, index=True)
    with pytest.raises(RoofprobeError, match="leave --out away"):
        report([folder.parent], tmp_path, index=True)


def test_an_index_within_no_time_lists_the_newest_and_counts_the_rest(runs: Runs) -> None:
    for day in (1, 2, 3):
        folder = runs(f"2000010{day}T000000Z-a")
    page = write_index(folder.parent, within_s=0).read_text()
    assert "20000103T000000Z-a" in page
    assert "20000102T000000Z-a" not in page
    assert "2 older runs are not listed" in page


def test_the_command_says_what_it_wrote(runs: Runs) -> None:
    folder = runs("a")
    done = CliRunner().invoke(app, ["report", str(folder), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "written": [str(folder / "report.md"), str(folder / "report.html")]
    }
    done = CliRunner().invoke(app, ["report", str(folder / "nothing")])
    assert done.exit_code == 2


def test_a_kept_record_stands_beside_itself(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(REFERENCE, copy)
    (page,) = report([REFERENCE, copy], tmp_path)
    text = page.read_text()
    assert text.count("+0.0%") > 20
    assert text.count("<svg") == 3
    assert len(text.encode()) < 100_000


def test_a_folder_of_one_run_gets_its_index_too(runs: Runs) -> None:
    folder = runs("20000101T000000Z-a")
    assert report([folder.parent], None)[-1] == folder.parent / "index.html"
    assert not (folder / "index.html").exists()
