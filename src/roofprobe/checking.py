"""``probe check``: judge a run anew from its record, against earlier runs where some are named.

The verdict that the record holds is not asked: bands, catalogue and checks may have been mended
since, and a record can be changed. Nothing is measured and nothing of the run is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.opening import read
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import write_whole
from roofprobe.records.schema import Run, Verdict
from roofprobe.reporting.junit import junit_bytes
from roofprobe.reporting.prometheus import prometheus_bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """A run and the verdict on it, as of now."""

    run: Run
    verdict: Verdict


def check(
    run: Path,
    against: Sequence[Path] = (),
    *,
    junit: Path | None = None,
    prometheus: Path | None = None,
) -> Checked:
    """Judge the run at ``run`` (a folder, a ``run.json``, or a folder of runs: the newest).

    ``junit`` and ``prometheus`` are files to write the verdict to, whole or not at all. Raises
    ``RoofprobeError`` for what cannot be read or written, for a newest run that has no record yet
    (exit code 3), and where the run would be held against itself.
    """
    _check_files(junit, prometheus)
    record = read(run)
    references = [_reference(path, record) for path in against]
    verdict = judge(record, references)
    judged = record.model_copy(update={"verdict": verdict})
    for file, make in ((junit, junit_bytes), (prometheus, prometheus_bytes)):
        if file is not None:
            _write(file, make(judged, verdict))
    return Checked(judged, verdict)


def _reference(path: Path, run: Run) -> Run:
    reference = read(path)
    if reference.run_id == run.run_id:
        raise RoofprobeError(
            "same-run",
            f"--against {path} is the run that is judged ({run.run_id}), which is never slower "
            "than itself: name an earlier run",
        )
    return reference


def _check_files(junit: Path | None, prometheus: Path | None) -> None:
    for option, file in (("--junit", junit), ("--prometheus", prometheus)):
        if file == Path("-"):
            raise RoofprobeError(
                "no-file", f"{option} - would be a file of that name: name a file for it"
            )
    if junit is not None and prometheus is not None and _is_one_file(junit, prometheus):
        raise RoofprobeError(
            "same-file",
            f"--junit and --prometheus both name {junit}, and one would replace the other: name "
            "two files",
        )


def _is_one_file(a: Path, b: Path) -> bool:
    try:
        return a.resolve() == b.resolve()
    except (OSError, RuntimeError, ValueError):
        return a == b  # whoever writes it says why it cannot be written


def _write(file: Path, data: bytes) -> None:
    if not file.parent.is_dir() or file.is_dir():
        raise RoofprobeError(
            "unwritable", f"cannot write {file}: name a file in a folder that exists"
        )
    write_whole(file, data)
