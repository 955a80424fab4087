"""The main flow: find devices, plan, measure, summarise, judge, render.

This is the one place that knows all rooms. It holds no torch: devices are found and measured in
worker processes, so a driver that hangs or crashes cannot take the run with it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from roofprobe import retesting
from roofprobe.acceptance.verdict.judge import judge
from roofprobe.acceptance.verdict.validity import invalidate
from roofprobe.costmodel.calibrate import calibration_of_run
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.probes import host, peers
from roofprobe.probes.devices import select
from roofprobe.probes.health_reading import read_health
from roofprobe.probes.plan import expected_s, follow_ups, plan_cases, policy_for
from roofprobe.probes.runner import (
    WORKER_COMMAND,
    Job,
    Outcome,
    Planned,
    Runner,
    discover_devices,
)
from roofprobe.probes.together import Group, groups
from roofprobe.records import journal, runfolder
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import Case, Device, Measurement, Options, Run
from roofprobe.records.support import support_of
from roofprobe.records.tables import measurements_csv
from roofprobe.records.tuned import with_tuned
from roofprobe.rendering import write_index
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.files import render_files
from roofprobe.reporting.progress import Progress
from roofprobe.reporting.progress_state import Expected

# For reading the newest runs of the folder: a standard run takes 3 ms, so some three hundred.
_INDEX_S = 0.8


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended: its record, its folder, and whether it was cut short."""

    run: Run
    folder: Path
    interrupted: bool


def probe_all(
    options: Options,
    out: Path,
    *,
    progress: Progress,
    resume: bool = False,
    command: Sequence[str] = (),
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> Finished:
    """Measure what ``options`` ask for and write a run folder below ``out``.

    Raises ``RoofprobeError`` for what the user can mend. An interrupt (Ctrl-C, SIGTERM) ends the
    run as incomplete, with all that was measured written.
    """
    runfolder.prepare_out(out)
    lock_at = out.parent if resume and (out / journal.NAME).exists() else out
    with runfolder.locked(lock_at), terminations_as_interrupts():
        if resume:
            folder, past = runfolder.resumable(out)
        else:
            folder, past = _begin(options, out, command, worker_command)
        header = past.header
        writer = journal.JournalWriter(folder, truncate_to=past.valid_bytes)
        jobs = _plan(header.devices, header.options, past.measurements)
        runner = Runner(
            writer,
            progress,
            folder,
            seed=header.options.seed,
            # a resumed run may be given more time than it had
            time_budget_s=options.time_budget_s or header.options.time_budget_s,
            command=worker_command,
        )
        interrupted = False
        try:
            if resume:
                known = len(journal.done_keys(journal.settled(past.measurements)))
                runner.event("resumed", f"{known} cases were already measured")
                ignored = _ignored(options, header.options)
                if ignored:
                    progress.message(ignored)
            exchanges = _exchanges(header.devices, header.options, past.measurements)
            progress.begin(header.devices, _expected(jobs, exchanges), runner.time_left_s())
            outcome = runner.run(jobs)
            for group, wanted in exchanges:
                runner.together(group, wanted)
            _retest(runner, past, progress)
            runner.health(read_health(header.devices, worker_command))
        except KeyboardInterrupt:
            interrupted = True
            outcome = runner.outcome
            outcome.finished = False
            runner.event("interrupted", "the run was interrupted; --resume goes on with it")
        finally:
            with deaf_to_interrupts():
                progress.end()
        with deaf_to_interrupts():
            run = summarise(past, outcome)
            write_files(folder, run)
            writer.close()
            with suppress(RoofprobeError):  # the run itself is whole without it
                write_index(folder.parent, within_s=_INDEX_S)
        return Finished(run, folder, interrupted)


def _retest(runner: Runner, past: journal.Journal, progress: Progress) -> None:
    """Measure again what fell short, before it is called a failure."""
    run = summarise(past, runner.outcome)
    done = journal.done_keys(journal.settled((*run.measurements, *run.retests)))
    jobs = retesting.jobs_of(run, run.options, done)
    if jobs:
        runner.event("retest", retesting.told(jobs))
        for job in jobs:
            cases = [(case, seconds) for case, _, seconds in job.cases]
            progress.planned(job.device.device_id, cases)
        runner.run(jobs)


def _ignored(asked: Options, kept: Options) -> str | None:
    """Say which options of a resumed run are not those asked for now; None where all agree."""
    differing = [
        f"{name} {_told(getattr(kept, name))}, not {_told(getattr(asked, name))}"
        for name in Options.model_fields
        if name != "time_budget_s"
        and getattr(asked, name) not in (getattr(kept, name), Options.model_fields[name].default)
    ]
    if not differing:
        return None
    return f"--resume goes on with the options of the run: {'; '.join(differing)}"


def _told(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def summarise(past: journal.Journal, outcome: Outcome) -> Run:
    """Turn what the journal holds, and what was just measured, into the whole record."""
    header = past.header
    everything = journal.last_of_each((*past.measurements, *outcome.measurements))
    measured = tuple(m for m in everything if m.case.retest is None)
    repeated = tuple(m for m in everything if m.case.retest is not None)
    after = {found.device_id: found.health for found in past.health_after} | outcome.health_after
    devices = tuple(
        device.model_copy(update={"health_after": after.get(device.device_id)})
        for device in header.devices
    )
    ceilings = tuple(c for device in header.devices for c in ceilings_of(device))
    measurements = invalidate(measured, ceilings)
    run = Run(
        run_id=header.run_id,
        status="complete" if outcome.finished else "incomplete",
        started_at=header.started_at,
        finished_at=_now(),
        command=header.command,
        options=header.options,
        environment=header.environment,
        devices=devices,
        planned={
            device.device_id: tuple(case.case_id for case in plan_cases(device, header.options))
            for device in header.devices
        },
        measurements=measurements,
        retests=invalidate(repeated, ceilings),
        ceilings=ceilings,
        headlines=headlines_of(header.devices, measurements, ceilings),
        support=support_of(header.devices, measurements),
        events=(*past.events, *outcome.events),
        method_version=header.method_version,
    )
    return run.model_copy(update={"verdict": judge(run)})


def record_of(past: journal.Journal) -> Run:
    """Return the record of a run that has a journal only."""
    return summarise(past, Outcome(finished=False))


def record_in(folder: Path) -> Run:
    """Return the record of the run in ``folder`` that has a journal only."""
    return record_of(journal.read_journal(folder))


def write_files(folder: Path, run: Run) -> None:
    """Write every file of the run but the journal; the record itself comes first."""
    runfolder.write_run(folder, run)
    runfolder.write_whole(folder / "measurements.csv", measurements_csv(run))
    calibration = calibration_of_run(run)
    runfolder.write_whole(folder / "calibration.json", calibration_bytes(calibration))
    for name, data in render_files(run, Beside(calibration)).items():
        runfolder.write_whole(folder / name, data)


def exit_code(finished: Finished) -> int:
    """Return 0 when all that could be measured was, 1 on a failed verdict, 3 when incomplete."""
    if finished.run.status != "complete":
        return 3
    verdict = finished.run.verdict
    return 1 if verdict is not None and verdict.judgement == "fail" else 0


def _begin(
    options: Options, out: Path, command: Sequence[str], worker_command: Sequence[str]
) -> tuple[Path, journal.Journal]:
    """Find the devices, make the run folder, write the journal's header and a first record."""
    devices = select(discover_devices(worker_command), options.devices)
    started_at = _now()
    environment = host.environment()
    devices = with_tuned(devices, out, environment)
    health = read_health(devices, worker_command)
    devices = tuple(
        device.model_copy(update={"health_before": health[device.device_id]}) for device in devices
    )
    folder = runfolder.new_run_folder(out, started_at, environment.host)
    header = journal.Header(
        run_id=folder.name,
        started_at=started_at,
        command=tuple(command),
        options=options,
        environment=environment,
        devices=devices,
    )
    writer = journal.JournalWriter(folder)
    writer.header(header)
    writer.close()
    past = journal.read_journal(folder)
    running = summarise(past, Outcome(finished=False)).model_copy(
        update={"status": "running", "finished_at": None}
    )
    runfolder.write_run(folder, running)
    runfolder.point_latest(out, folder)
    return folder, past


def _plan(
    devices: Sequence[Device], options: Options, past: Sequence[Measurement]
) -> tuple[Job, ...]:
    """Return each device's cases that are still to be measured, and what may follow from them.

    What followed from earlier measurements of a resumed run is planned as it was then. A case that
    time ran out for gets another chance. Transfers between devices come last, each by itself.
    """
    past = journal.settled(past)
    done = journal.done_keys(past)

    def left(device: Device, cases: Sequence[Case]) -> tuple[Planned, ...]:
        return tuple(
            _planned(case, device, options)
            for case in cases
            if (device.device_id, case.case_id) not in done
        )

    jobs = []
    for device in devices:
        known = plan_cases(device, options)
        following = _Following(device, options)
        followed: dict[str, tuple[Case, ...]] = {}
        for measurement in past:
            if measurement.device_id == device.device_id and measurement.case.retest is None:
                followed[measurement.case.case_id] = following.cases(measurement)

        cases = [each for case in known for each in _expanded(case, followed)]
        jobs.append(Job(device, left(device, cases), following))
    between = peers.by_source(devices, options)
    return (*jobs, *(Job(device, left(device, cases), alone=True) for device, cases in between))


def _expanded(case: Case, followed: Mapping[str, Sequence[Case]]) -> Iterator[Case]:
    """Yield a case, then what followed from it, with what followed from that."""
    yield case
    for more in followed.get(case.case_id, ()):
        yield from _expanded(more, followed)


def _exchanges(
    devices: Sequence[Device], options: Options, past: Sequence[Measurement]
) -> tuple[tuple[Group, tuple[Case, ...]], ...]:
    """Return who exchanges data with whom, and which of their cases are still to be measured."""
    done = {case_id for _, case_id in journal.done_keys(journal.settled(past))}
    found = groups(devices, options)
    return tuple(
        (group, tuple(case for case in group.cases if case.case_id not in done)) for group in found
    )


def _expected(
    jobs: Sequence[Job], exchanges: Sequence[tuple[Group, Sequence[Case]]]
) -> list[Expected]:
    """Return every case that is to be measured, and how long each should take."""
    alone = [(job.device.device_id, case, s) for job in jobs for case, _, s in job.cases]
    together = [
        (group.devices[0].device_id, case, group.expected_s / len(group.cases))
        for group, wanted in exchanges
        for case in wanted
    ]
    return alone + together


class _Following:
    """What each measurement of one device calls for, in the light of those before it."""

    def __init__(self, device: Device, options: Options) -> None:
        self._device, self._options = device, options
        self._earlier: list[Measurement] = []

    def cases(self, measurement: Measurement) -> tuple[Case, ...]:
        more = follow_ups(measurement, self._earlier, self._device, self._options)
        self._earlier.append(measurement)
        return more

    def __call__(self, measurement: Measurement) -> tuple[Planned, ...]:
        return tuple(
            _planned(case, self._device, self._options) for case in self.cases(measurement)
        )


def _planned(case: Case, device: Device, options: Options) -> Planned:
    return case, policy_for(case, device, options), expected_s(case, device, options)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does (where we are the main thread)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = {
            number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
        }
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ignore interrupts while the files are written: it takes a second, and they are whole then."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def options_from(
    families: Sequence[str],
    device: str,
    tier: str,
    precision: str | None,
    time_budget: str | None,
    seed: int,
    *,
    search: str = "halving",
    sweep: str | None = None,
    compile_routes: bool = False,
) -> Options:
    """Return checked options; raises ``RoofprobeError`` naming what is allowed."""
    from roofprobe.kernels.rows import UnknownRowError, select

    words = tuple(word.lower() for word in _words(precision))
    if precision is not None and not any(words):
        raise RoofprobeError(
            "unknown-precision", "--precision needs a name, such as bf16; leave it out for all"
        )
    try:
        select(words)
    except UnknownRowError as error:
        raise RoofprobeError("unknown-precision", str(error.args[0])) from error
    return Options.model_validate(
        {
            "families": tuple(families),
            "devices": device,
            "tier": _one_of("tier", tier, ("quick", "standard", "soak")),
            "precisions": words,
            "search": _one_of("search", search, ("halving", "exhaustive", "none")),
            "sweeps": tuple(
                _one_of("sweep", word, ("layouts", "alignment")) for word in _words(sweep)
            ),
            "compile_routes": compile_routes,
            "time_budget_s": parse_duration_s(time_budget) if time_budget else None,
            "seed": seed,
        }
    )


def _words(text: str | None) -> tuple[str, ...]:
    """Return the words of a comma-separated list, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(","))) if text else ()


def _one_of(what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise RoofprobeError(
            f"unknown-{what}", f"there is no {what} {word!r}; choose one of {', '.join(known)}"
        )
    return word


def parse_duration_s(text: str, option: str = "--time-budget") -> float:
    """Return the seconds of ``90``, ``90s``, ``5m`` or ``1.5h``; raises ``RoofprobeError``."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, factor = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e7:
        raise RoofprobeError(
            "bad-time-budget",
            f"{option} {text!r} is not a duration; write 90s, 5m or 1h",
        )
    return seconds


def command_line() -> tuple[str, ...]:
    """Return the command as it was typed, for the record."""
    return ("probe", *sys.argv[1:])
