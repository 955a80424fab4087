"""Run planned cases in one worker process per device, and lose nothing when one dies.

Each case is handed to the device's worker, and its measurement journaled, before the next one
begins. A worker that crashes, prints nonsense or does not answer in time is replaced: its case ends
as ``failed`` with the reason, and the following cases go on. Accelerators are measured side by
side; the CPU afterwards, alone, since it also feeds them; then, one at a time, the jobs that
concern several devices.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from roofprobe.probes import together
from roofprobe.probes.measure import Policy
from roofprobe.probes.refusals import refusal
from roofprobe.probes.together import Group
from roofprobe.probes.worker_process import OPEN_TIMEOUT_S, WORKER_COMMAND, Worker, WorkerGone
from roofprobe.records.journal import HealthAfter, JournalWriter
from roofprobe.records.schema import Case, Device, Event, Health, Measurement, Reason

_COOL_DOWN_SLACK_S = 30.0
_CRASHES_IN_A_ROW = 4
# Why a worker ends after a reply, though it did not crash.
_ENDINGS = {
    "device-context-lost": "the device's context was lost and a new worker was started",
    "graph-capture-failed": "a graph capture failed, which may leave torch in disorder, "
    "and a new worker was started",
}


class Watcher(Protocol):
    """Is told what happens; the progress display is one."""

    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        """More cases than were known at the start follow; how many seconds each should take."""
        ...

    def started(self, device_id: str, case: Case) -> None:
        """A case begins."""
        ...

    def finished(self, device_id: str, measurement: Measurement) -> None:
        """A case has ended and is on disk."""
        ...

    def message(self, sentence: str) -> None:
        """Something else that the user should know."""
        ...


Planned = tuple[Case, Policy, float]


@dataclass(frozen=True, slots=True)
class Job:
    """A device and its cases, each with its sampling policy and expected duration.

    ``follow_ups`` names what a measurement calls for; it is measured right after it. A job that is
    ``alone`` runs while no other does. Before the first case it waits up to ``cool_down_s`` for the
    device to be idle and cool.
    """

    device: Device
    cases: tuple[Planned, ...]
    follow_ups: Callable[[Measurement], tuple[Planned, ...]] = lambda measurement: ()
    alone: bool = False
    cool_down_s: float = 0.0


@dataclass
class Outcome:
    """What a run of jobs made: measurements and events, in order, and whether all cases ran.

    ``health_after`` is of each device, by its id.
    """

    measurements: list[Measurement] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    health_after: dict[str, Health] = field(default_factory=dict)
    finished: bool = True


class Runner:
    """Runs jobs, journals what comes, and can be stopped at any moment."""

    def __init__(
        self,
        journal: JournalWriter,
        watcher: Watcher,
        folder: Path,
        *,
        seed: int,
        time_budget_s: float | None = None,
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        """Write to ``journal``, tell ``watcher``, keep workers' logs in ``folder``."""
        self._journal = journal
        self._watcher = watcher
        self._folder = folder
        self._seed = seed
        self._command = tuple(command)
        self._deadline = time.monotonic() + time_budget_s if time_budget_s else None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._workers: set[Worker] = set()
        self._failure: BaseException | None = None
        self._given_up: dict[str, Reason] = {}  # by device, for its jobs to come
        self.outcome = Outcome()

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Run all jobs; returns when they are done. Interrupts stop the workers and pass on."""
        alone = [job for job in jobs if job.alone or job.device.backend == "cpu"]
        together = [job for job in jobs if not (job.alone or job.device.backend == "cpu")]
        for group in (together, *([job] for job in alone)):
            threads = [
                threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in group
            ]
            try:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    while thread.is_alive():
                        thread.join(0.2)
            except BaseException:
                self.stop()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join(10)
                raise
            if self._failure is not None:
                self.outcome.finished = False
                raise self._failure
        return self.outcome

    def together(self, group: Group, cases: Sequence[Case]) -> None:
        """Measure what a group of devices does together; the time budget counts here too."""
        first = group.devices[0]
        reason = self._over_budget(group.expected_s)
        if reason is not None:
            for case in cases:
                self._keep(_unmeasured(case, first, "skipped", reason))
            return
        with open(self._folder / "collectives.log", "ab") as log:
            together.measure(group, cases, self._keep, log)

    def time_left_s(self) -> float | None:
        """Return the seconds that are left of the time budget, ``None`` where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def stop(self) -> None:
        """Stop after what is already on disk: workers are ended at once."""
        self._stop.set()
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.kill()

    def event(self, code: str, sentence: str, device_id: str | None = None) -> None:
        """Record something that happened to the run."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = Event(at=at, code=code, sentence=sentence, device_id=device_id)
        with self._lock:
            self._journal.event(event)
            self.outcome.events.append(event)

    def health(self, found: Mapping[str, Health]) -> None:
        """Record how each device is after the run."""
        with self._lock:
            for device_id, health in found.items():
                self._journal.health(HealthAfter(device_id=device_id, health=health))
                self.outcome.health_after[device_id] = health

    def _guarded(self, job: Job) -> None:
        try:
            self._run_job(job)
        except BaseException as error:  # carried to the thread that waits in run()
            # A worker stopped from another thread may also end as a read from a closed pipe.
            self.outcome.finished = False
            if not self._stop.is_set():
                self._failure = error
                self.stop()

    def _run_job(self, job: Job) -> None:
        worker: Worker | None = None
        crashes = 0
        name = "".join(c if c.isalnum() else "-" for c in job.device.device_id)
        try:
            with open(self._folder / f"worker-{name}.log", "ab") as log:
                waiting = deque(job.cases)
                while waiting:
                    case, policy, expected_s = waiting.popleft()
                    if self._stop.is_set():
                        self.outcome.finished = False
                        return
                    self._watcher.started(job.device.device_id, case)
                    given_up = self._why_given_up(job.device, case)
                    reason = given_up or self._over_budget(expected_s)
                    if reason is not None:
                        status = "failed" if given_up else "skipped"
                        if not given_up:  # what can never run was not left out for want of time
                            reason = refusal(case, job.device) or reason
                        self._keep(_unmeasured(case, job.device, status, reason))
                        continue
                    try:
                        if worker is None:
                            worker = self._open(job.device, log)
                            self._cool_down(worker, job)
                        measurement, ending = self._measure(worker, case, policy)
                        crashes = 0
                    except WorkerGone as gone:
                        if self._stop.is_set():
                            self.outcome.finished = False
                            return
                        self._forget(worker)
                        worker = None
                        crashes += 1
                        measurement, ending = self._after_crash(case, job.device, gone), None
                        if crashes >= _CRASHES_IN_A_ROW:
                            self._give_up(job.device, gone)
                    self._keep(measurement)
                    more = job.follow_ups(measurement)
                    if more:
                        self._watcher.planned(
                            job.device.device_id, [(each, seconds) for each, _, seconds in more]
                        )
                        waiting.extendleft(reversed(more))
                    if ending is not None:
                        self.event(ending, _ENDINGS[ending], job.device.device_id)
                        self._forget(worker)
                        worker = None
        finally:
            self._forget(worker)

    def _open(self, device: Device, log: IO[bytes]) -> Worker:
        worker = Worker(self._command, log)
        with self._lock:
            self._workers.add(worker)
        request = {"op": "open", "device": device.model_dump(mode="json"), "seed": self._seed}
        try:
            reply = worker.ask(request, OPEN_TIMEOUT_S)
            if "error" in reply:
                raise WorkerGone("device-unusable", reply["error"]["sentence"])
        except WorkerGone:
            self._forget(worker)
            raise
        return worker

    def _cool_down(self, worker: Worker, job: Job) -> None:
        most_s = job.cool_down_s
        if self._deadline is not None:
            most_s = min(most_s, self._deadline - time.monotonic())
        if most_s <= 0:
            return
        reply = worker.ask({"op": "cool-down", "most_s": most_s}, most_s + _COOL_DOWN_SLACK_S)
        try:
            waited_s, hot = float(reply["waited_s"]), reply.get("in_the_way")
        except (KeyError, TypeError, ValueError):
            sentence = "the device could not be waited for"
        else:
            sentence = f"waited {waited_s:.1f} s for the device to be idle and cool"
            sentence += f"; {hot}" if hot else ""
        self.event("cooled-down", sentence, job.device.device_id)

    def _measure(
        self, worker: Worker, case: Case, policy: Policy
    ) -> tuple[Measurement, str | None]:
        """Return the measurement, and the code of why the worker ends with it, if it does."""
        request = {
            "op": "measure",
            "case": case.model_dump(mode="json"),
            "policy": asdict(policy),
        }
        reply = worker.ask(request, policy.timeout_s)
        if "error" in reply:
            raise WorkerGone("worker-error", reply["error"]["sentence"])
        try:
            measurement = Measurement.model_validate(reply["measurement"])
            lost, damaged = bool(reply["lost"]), bool(reply.get("damaged"))
            if measurement.case.case_id != case.case_id:
                raise ValueError("it measured another case")
        except (KeyError, ValueError) as error:
            raise WorkerGone(
                "worker-garbage", "the worker process answered with garbage"
            ) from error
        ending = "device-context-lost" if lost else "graph-capture-failed" if damaged else None
        return measurement, ending

    def _after_crash(self, case: Case, device: Device, gone: WorkerGone) -> Measurement:
        self.event(gone.code, f"{case.case_id}: {gone.sentence}", device.device_id)
        reason = Reason(
            code=gone.code,
            sentence=gone.sentence,
            remedy="see the worker's log in the run folder",
        )
        return _unmeasured(case, device, "failed", reason)

    def _why_given_up(self, device: Device, case: Case) -> Reason | None:
        """Return why nothing runs any more on ``device``, or on the peer that a case also needs."""
        ends = [device.device_id, *([case.peer.device_id] if case.peer else [])]
        return next((self._given_up[end] for end in ends if end in self._given_up), None)

    def _give_up(self, device: Device, gone: WorkerGone) -> None:
        sentence = (
            f"{device.name} was given up after {_CRASHES_IN_A_ROW} failures in a row "
            f"(the last: {gone.sentence})"
        )
        self.event("device-given-up", sentence, device.device_id)
        self._watcher.message(sentence)
        self._given_up[device.device_id] = Reason(
            code="device-given-up", sentence=sentence, remedy="probe doctor"
        )

    def _over_budget(self, expected_s: float) -> Reason | None:
        if self._deadline is None or time.monotonic() + expected_s <= self._deadline:
            return None
        return Reason(
            code="time-budget",
            sentence="the time budget was spent before its turn",
            remedy="give a larger --time-budget",
        )

    def _keep(self, measurement: Measurement) -> None:
        with self._lock:
            self._journal.measurement(measurement)
            self.outcome.measurements.append(measurement)
        self._watcher.finished(measurement.device_id, measurement)

    def _forget(self, worker: Worker | None) -> None:
        if worker is None:
            return
        with self._lock:
            self._workers.discard(worker)
        worker.kill()


def _unmeasured(case: Case, device: Device, status: str, reason: Reason) -> Measurement:
    return Measurement.model_validate(
        {
            "case": case,
            "device_id": device.device_id,
            "status": status,
            "reason": reason,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
    )
