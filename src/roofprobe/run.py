"""The main flow: find devices, plan, measure, summarise, judge, render.

This is the one place that knows all rooms. It holds no torch: devices are found and measured in
worker processes, so a driver that hangs or crashes cannot take the run with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from roofprobe import retesting
from roofprobe.acceptance.verdict.judge import judge
from roofprobe.acceptance.verdict.validity import invalidate
from roofprobe.asking import ignored
from roofprobe.costmodel.calibrate import calibration_of_run
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.interrupting import deaf_to_interrupts, terminations_as_interrupts
from roofprobe.jobs import exchanges_of, expected_of, jobs_of
from roofprobe.probes import host
from roofprobe.probes.devices import select
from roofprobe.probes.health_reading import read_health
from roofprobe.probes.plan import plan_cases
from roofprobe.probes.runner import Outcome, Runner
from roofprobe.probes.worker_process import WORKER_COMMAND, discover_devices
from roofprobe.records import journal, runfolder
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import Options, Run
from roofprobe.records.support import support_of
from roofprobe.records.tables import measurements_csv
from roofprobe.records.tuned import with_tuned
from roofprobe.rendering import write_index
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.files import render_files
from roofprobe.reporting.progress import Progress

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
    made = runfolder.prepare_out(out)
    lock_at = out.parent if resume and (out / journal.NAME).exists() else out
    with runfolder.locked(lock_at, made), terminations_as_interrupts():
        if resume:
            folder, past = runfolder.resumable(out)
        else:
            folder, past = _begin(options, out, command, worker_command)
        header = past.header
        writer = journal.JournalWriter(folder, truncate_to=past.valid_bytes)
        jobs = jobs_of(header.devices, header.options, past.measurements)
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
                differing = ignored(options, header.options)
                if differing:
                    progress.message(differing)
            exchanges = exchanges_of(header.devices, header.options, past.measurements)
            progress.begin(header.devices, expected_of(jobs, exchanges), runner.time_left_s())
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
