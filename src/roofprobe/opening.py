"""Runs opened for whoever reads them: from the record, or where it was not completed, the journal.

Every command that reads a run reads it here, so that all say the same of a run that was killed:
what its journal holds was measured. A run that still goes on is told by the lock on its folder of
runs. torch is not needed, and what makes a record of a journal is loaded only where there is one.
"""

from __future__ import annotations

from pathlib import Path

from roofprobe.records import journal, runfolder
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import is_folder
from roofprobe.records.schema import Run


def read(path: Path) -> Run:
    """Return the run at ``path`` (a folder, a ``run.json``, or a folder of runs: the newest).

    Raises ``RoofprobeError`` as ``runfolder.read_run`` and ``journal.read_journal`` do.
    """
    return readable(path)[0]


def readable(path: Path) -> tuple[Run, Path]:
    """Return a run and its folder: its record, or, where that was not completed, its journal."""
    meant = runfolder.newest(path)
    folder = meant if is_folder(meant) else meant.parent
    try:
        run = runfolder.read_run(meant)
    except RoofprobeError as error:
        if error.code != "unfinished-run" or not journal.has_begun(folder):
            if meant != path:
                runfolder.read_run(path)  # names the folder that was asked for
            raise
        return from_journal(folder), folder
    if run.status == "running" and journal.has_begun(folder):
        return from_journal(folder), folder
    return run, folder


def from_journal(folder: Path) -> Run:
    """Return the record of the run in ``folder`` as its journal has it, incomplete or running."""
    from roofprobe.acceptance.verdict.judge import judge
    from roofprobe.run import record_in  # which itself draws the page of a folder at its end

    run = record_in(folder)
    if not runfolder.is_going_on(folder):
        return run
    running = run.model_copy(update={"status": "running", "finished_at": None})
    return running.model_copy(update={"verdict": judge(running)})
