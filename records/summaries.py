"""Many runs at a glance: of each record only what a table of runs shows, read fast.

A record of a standard run is 1.5 MB, and a folder holds a thousand of them. A model of the few
fields that are wanted is filled straight from the bytes, and the rest is passed over, which takes a
tenth of the time of a whole reading. A run that cannot be read is in the list, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import NAME as JOURNAL_NAME
from roofprobe.records.journal import check_version, first_problem, has_begun
from roofprobe.records.reading import MIB, is_folder, read_bytes, said
from roofprobe.records.runfolder import LATEST, RUN_FILE, is_run_folder
from roofprobe.records.schema import Family, Judgement, NonNegative, Run, RunStatus

_MOST_BYTES: Final = 128 * MIB


class _Part(BaseModel):
    """A frozen value that passes over the fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class RateSummary(_Part):
    """The median of a rate, as `Distribution` has it."""

    unit: str
    median: NonNegative


class HeadlineSummary(_Part):
    """What a table of runs shows of a `Headline`."""

    device_id: str
    family: Family
    label: str
    rate: RateSummary
    share_datasheet: float | None = None


class DeviceSummary(_Part):
    """What a table of runs shows of a `Device`."""

    device_id: str
    torch_device: str
    backend: str
    name: str
    catalogue_key: str | None = None
    driver: str | None = None

    @property
    def kind(self) -> str:
        """What makes devices alike: the catalogue's row, else the name."""
        return self.catalogue_key or self.name


class EnvironmentSummary(_Part):
    """Host and versions of a run."""

    host: str
    roofprobe: str
    torch: str | None = None


class FindingSummary(_Part):
    """One answer of a run's verdict: which check, and how it was judged."""

    code: str
    judgement: Judgement
    device_id: str | None = None


class VerdictSummary(_Part):
    """The judgement of a run, and what it amounts to."""

    judgement: Judgement
    findings: tuple[FindingSummary, ...] = ()


class OptionsSummary(_Part):
    """What a run was asked for."""

    tier: str = "standard"


class RunSummary(_Part):
    """What a table of runs shows of a `Run`."""

    schema_version: int
    method_version: int = 1
    run_id: str
    status: RunStatus
    started_at: str
    options: OptionsSummary
    environment: EnvironmentSummary
    devices: tuple[DeviceSummary, ...] = ()
    headlines: tuple[HeadlineSummary, ...] = ()
    verdict: VerdictSummary | None = None
    simulated: str | None = None

    def is_disturbed(self, device_id: str) -> bool:
        """Return whether its verdict warns that others used a device while it was measured."""
        return self.verdict is not None and any(
            found.code == "RP-NOT-ALONE"
            and found.judgement != "pass"
            and found.device_id == device_id
            for found in self.verdict.findings
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A run folder: its summary, or why there is none, and whether it has a report."""

    folder: Path
    run: RunSummary | None
    problem: str | None
    has_report: bool


def run_folders(out: Path) -> tuple[Path, ...]:
    """Return the run folders in ``out``, the newest by name first; raises ``RoofprobeError``.

    Names begin with the time of the start, so their order is that of time.
    """
    try:
        found = [
            path
            for path in out.iterdir()
            if path.name != LATEST and is_folder(path) and is_run_folder(path)
        ]
    except OSError as error:
        raise RoofprobeError("unreadable", said(out, error)) from error
    return tuple(sorted(found, key=lambda path: path.name, reverse=True))


def summaries(
    folders: tuple[Path, ...], rebuild: Callable[[Path], Run] | None = None
) -> Iterator[Listed]:
    """Yield what each folder holds; one that cannot be read says why.

    ``rebuild`` makes a record of the journal of a run that did not complete its own.
    """
    for folder in folders:
        has_report = (folder / "report.html").is_file()
        try:
            yield Listed(folder, _summary(folder, rebuild), None, has_report)
        except RoofprobeError as error:
            yield Listed(folder, None, error.sentence, has_report)


def newest_first(found: Sequence[Listed]) -> list[Listed]:
    """Sort runs by when they started, as their records tell, else their names; names break ties."""
    return sorted(found, key=lambda each: (_started(each), each.folder.name), reverse=True)


def _started(listed: Listed) -> datetime:
    told = listed.run.started_at if listed.run else listed.folder.name.partition("-")[0]
    try:
        started = datetime.fromisoformat(told)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)


def _summary(folder: Path, rebuild: Callable[[Path], Run] | None) -> RunSummary:
    try:
        found = read_summary(folder / RUN_FILE)
    except RoofprobeError as error:
        if error.code != "unfinished-run" or rebuild is None or not has_begun(folder):
            raise
        return summary_of(rebuild(folder))
    if found.status == "running" and rebuild is not None and has_begun(folder):
        return summary_of(rebuild(folder))
    return found


def summary_of(run: Run) -> RunSummary:
    """Return of a whole record what a table of runs shows."""
    return RunSummary.model_validate(run.model_dump(mode="json"))


def read_summary(file: Path) -> RunSummary:
    """Read the summary of a ``run.json``; raises ``RoofprobeError`` saying what is wrong."""
    try:
        data = read_bytes(file, _MOST_BYTES)
    except FileNotFoundError:
        unfinished = (file.parent / JOURNAL_NAME).exists()
        why = "it was killed or still runs" if unfinished else f"it has no {RUN_FILE}"
        raise RoofprobeError("unfinished-run", f"no record yet: {why}") from None
    except OSError as error:
        raise RoofprobeError("unreadable", said(file, error)) from error
    try:
        found = RunSummary.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        raise RoofprobeError(
            "damaged-run", f"{file.name} was changed or damaged ({first_problem(error)})"
        ) from error
    check_version(Path(file.name), {"schema_version": found.schema_version})
    return found
