"""Keep a run in the repository as a reference: its record and its reports, without its owner.

Run as ``python tools/reference_run.py RUN NAME`` to put a run into reports/reference/NAME, without
what identifies its host, as ``probe bundle`` does; without arguments (``make reference``) to draw
all reports there anew, as the code draws them now.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from roofprobe.acceptance.bundle.archive import write_bundle
from roofprobe.acceptance.bundle.redaction import Redactor
from roofprobe.acceptance.bundle.redaction_words import known_here
from roofprobe.records.runfolder import read_run
from roofprobe.rendering import report
from roofprobe.reporting.files import render_bundled

ROOT = Path(__file__).parents[1] / "reports" / "reference"
# The record and what cannot be made from it by drawing; samples are in the record.
KEPT = ("run.json", "calibration.json")


def keep(run: Path, name: str) -> Path:
    """Put the record of ``run``, without its owner, into the folder ``name`` and return that."""
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        redactor = Redactor([], known_here())
        packed = write_bundle(run, f"{temporary}/", redactor=redactor, render=render_bundled)
        with zipfile.ZipFile(packed.path) as bundle:
            for kept in KEPT:
                if kept in bundle.namelist():
                    (folder / kept).write_bytes(bundle.read(kept))
    read_run(folder)
    return folder


def main() -> None:
    """Keep the run of the command line, then draw what is kept."""
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), sys.argv[2])
    for folder in sorted(path.parent for path in ROOT.glob("*/run.json")):
        for path in report([folder], None):
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
