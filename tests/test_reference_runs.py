"""The reports kept in the repository are of runs that read, and look as the code draws them now."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest

from roofprobe.records.runfolder import read_run
from roofprobe.reporting.beside import beside_of
from roofprobe.reporting.files import render_reports

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "reports/reference").glob("*/run.json"))
KEPT = {"run.json", "calibration.json", "report.html", "report.md"}
# Other versions of matplotlib place the parts of a figure a little elsewhere.
DRAWN_WITH = "3.11.2"

pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def without_drawings(page: str) -> str:
    """Return a page without what lies in its figures, their classes, and the hash of these."""
    page = re.sub(r"(<svg[^>]*>).*?</svg>", r"\1", page, flags=re.DOTALL)
    page = re.sub(r"^figure \.v\d+ .*$", "", page, flags=re.MULTILINE)
    return re.sub(r"style-src [^;]*;", "", page)


def test_the_reports_are_what_the_code_draws_now(folder: Path) -> None:
    run = read_run(folder)
    drawn = render_reports(run, beside_of(folder, run))
    remedy = "draw the kept reports anew: make reference"
    assert (folder / "report.md").read_bytes() == drawn["report.md"], remedy
    kept, now = (folder / "report.html").read_text("utf-8"), drawn["report.html"].decode()
    assert without_drawings(kept) == without_drawings(now), remedy
    if matplotlib.__version__ == DRAWN_WITH:
        assert kept == now, remedy


def test_the_folder_is_small_and_says_nothing_about_its_owner(folder: Path) -> None:
    files = {path.name: path for path in folder.iterdir()}
    assert files.keys() == KEPT
    assert sum(path.stat().st_size for path in files.values()) < 2_500_000
    assert read_run(folder).environment.host.startswith("host-")
    for path in files.values():
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text("utf-8")), path
