"""``probe validate``: run real models, calibrate, predict, compare, write.

It is an ordinary run of the family ``validate``, whose operations make its calibration; what is
added is the comparison and the file that keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from roofprobe.costmodel.calibration_file import read_calibration
from roofprobe.costmodel.validation import FILE, Validation, validate, validation_bytes
from roofprobe.probes.worker_process import WORKER_COMMAND
from roofprobe.records import runfolder
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Options
from roofprobe.reporting.beside import beside_of
from roofprobe.reporting.files import render_files
from roofprobe.reporting.progress import Progress
from roofprobe.run import Finished, probe_all


@dataclass(frozen=True, slots=True)
class Validated:
    """A finished run with its comparison."""

    finished: Finished
    validation: Validation


def validate_device(
    options: Options,
    out: Path,
    *,
    calibration: Path | None,
    progress: Progress,
    resume: bool = False,
    command: Sequence[str] = (),
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> Validated:
    """Run real models on this device and hold the prediction against them; write all files.

    ``calibration`` predicts where one is given, else the run's own operations do. Raises
    ``RoofprobeError`` for what the user can mend.
    """
    require_transformers()
    given = read_calibration(calibration) if calibration is not None else None
    finished = probe_all(
        options, out, progress=progress, resume=resume, command=command,
        worker_command=worker_command,
    )  # fmt: skip
    own = read_calibration(finished.folder) if given is None else given
    source = str(calibration) if given is not None else "the operations of this run"
    found = validate(finished.run, own, source=source)
    runfolder.write_whole(finished.folder / FILE, validation_bytes(found))
    # the run wrote its report before there was anything to compare
    beside = beside_of(finished.folder, finished.run)
    for name, data in render_files(finished.run, beside).items():
        runfolder.write_whole(finished.folder / name, data)
    return Validated(finished, found)


def require_transformers() -> None:
    """Raise ``RoofprobeError`` (``no-transformers``) where the package is not installed."""
    if find_spec("transformers") is None:
        raise RoofprobeError(
            "no-transformers",
            "`probe validate` runs a real model and needs transformers; "
            "pip install 'roofprobe[validate]'",
        )


def share_of(text: str) -> float:
    """Return 0.15 of ``15%`` or ``0.15``; raises ``RoofprobeError`` (``bad-bound``)."""
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 100:
        raise RoofprobeError("bad-bound", f"--fail-above {text!r} is no share; write 15% or 0.15")
    return value


def exit_code(done: Validated, fail_above: float | None) -> int:
    """Return 3 where not all was measured and compared, 1 above the bound, else 0."""
    if done.finished.run.status != "complete" or done.validation.median_error is None:
        return 3
    return int(fail_above is not None and done.validation.median_error > fail_above)
