"""Collectives: how fast the devices of a group exchange data, measured between real processes.

Measured is the time from when all ranks stand at the same operation until the slowest of them has
its result, for buffers from 1 KiB (what one token's activations need: the time hardly depends on
the size, it is latency) to 4 GiB (where only the links count). Rates follow nccl-tests, so that
they compare with published ones: algorithm bandwidth S/t, bus bandwidth S/t times the operation's
factor (``kernels.collectives``). Through ``torch.distributed`` it is NCCL on CUDA, RCCL on ROCm
and Gloo on a CPU, the libraries that serve models; each result is verified on every rank first.

What the number is not: a link's rate (the library chooses paths and protocols; small sizes measure
its software); a count of bytes on the wires (``kernels.collectives`` says when it passes their
rate); Gloo's figure on one host is memory copies and system calls over the loopback device, no
network; and nothing else ran meanwhile, while a model would overlap exchange and arithmetic.

The ranks are processes of their own, started and watched here: a rank that dies, raises or hangs
ends the case that it was in as ``failed``, with the rank's name, within the time-out. The others
of its group cannot go on without it, are ended too, and the cases left get new ranks. For several
hosts a launcher starts the rank processes instead (see ``collective_rank``).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from roofprobe.kernels.collectives import BY_NAME
from roofprobe.records.schema import (
    Correctness,
    Distribution,
    Note,
    Reason,
    Status,
    Timing,
)

RANK_COMMAND: tuple[str, ...] = (sys.executable, "-m", "roofprobe.probes.collective_rank")

STAGES = ("prepare", "prepared", "check", "checked", "warm up", "time", "timed")
"""What a rank does in a case, in order; the stage of each rank tells who held up the others."""

_FAILURES_IN_A_ROW = 3
_GRACE_S = 1.0  # for the cause of a failure to show among its consequences
_LEAVE_S = 10.0  # for ranks to end by themselves after the last case
_POLL_S = 0.05
_MAX_LINE_BYTES = 64 << 20


def sizes_between(least_bytes: int, most_bytes: int, factor: int = 4) -> tuple[int, ...]:
    """Return ``least_bytes`` and its multiples by powers of ``factor``, up to ``most_bytes``."""
    assert least_bytes > 0, least_bytes
    assert factor > 1, factor
    sizes = []
    size = least_bytes
    while size <= most_bytes:
        sizes.append(size)
        size *= factor
    return tuple(sizes)


DEFAULT_SIZES_BYTES = sizes_between(1 << 10, 4 << 30)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one case is measured.

    ``batch_s`` is the least duration of one sample (several operations back to back where one is
    shorter) and ``warmup_s`` that of the operations before the first sample. There are ``samples``
    samples, fewer where they would take longer than ``max_time_s``, but ``min_samples`` at least.
    """

    batch_s: float = 0.002
    warmup_s: float = 0.05
    samples: int = 30
    min_samples: int = 3
    max_time_s: float = 2.0


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """One operation at one size. ``size_bytes`` is S as asked for, before parts are made equal."""

    operation: str
    precision: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CollectiveResult:
    """One case as it was measured by a group of ranks, or why it was not.

    ``counted_bytes`` is S after rounding down to equal parts, from which rates are counted.
    Each of ``samples_us`` is the time per operation of one batch on the rank that took longest;
    ``rank_medians_us`` has each rank's own median, which shows a rank that is always slow.
    ``bus_rate`` and ``algorithm_rate`` are GB/s (1e9). ``devices`` has each rank's device. The
    ``note`` says where a library is known to do the operation by way of another one.
    """

    case: CollectiveCase
    backend: str
    world_size: int
    devices: tuple[str, ...]
    status: Status
    reason: Reason | None = None
    note: Note | None = None
    counted_bytes: int | None = None
    bus_factor: float | None = None
    latency: Distribution | None = None
    algorithm_rate: Distribution | None = None
    bus_rate: Distribution | None = None
    samples_us: tuple[float, ...] = ()
    rank_medians_us: tuple[float, ...] = ()
    correctness: Correctness | None = None
    timing: Timing | None = None
    call: str | None = None
    library: str | None = None
    hosts: int = 1
    started_at: str | None = None
    wall_s: float | None = None

    @property
    def checked(self) -> bool:
        """Return whether every element on every rank was compared and right."""
        return self.correctness is not None and self.correctness.error <= self.correctness.tolerance


@dataclass(frozen=True, slots=True)
class RankJob:
    """What a rank process is told; the defaults are for one that a launcher started.

    ``store`` is the file through which the ranks find each other, None where the environment
    says it (MASTER_ADDR, MASTER_PORT). ``devices`` are those of the local ranks, in their order;
    without them local rank i takes accelerator i, or the CPU. ``timeout_s`` is what the library may
    wait for other ranks. A rank with a ``parent_pid`` tells that process all it does and dies with
    it; another one only writes results, on rank 0.
    """

    backend: str
    cases: tuple[CollectiveCase, ...] = ()
    effort: Effort = Effort()
    devices: tuple[str, ...] = ()
    store: str | None = None
    timeout_s: float = 120.0
    parent_pid: int | None = None


RESULT: TypeAdapter[CollectiveResult] = TypeAdapter(CollectiveResult)
JOB: TypeAdapter[RankJob] = TypeAdapter(RankJob)

Keep = Callable[[CollectiveResult], None]


def plan_cases(
    operations: Sequence[str] = tuple(BY_NAME),
    sizes_bytes: Sequence[int] = DEFAULT_SIZES_BYTES,
    precision: str = "bf16",
) -> tuple[CollectiveCase, ...]:
    """Return every operation at every size, one operation after the other."""
    return tuple(
        CollectiveCase(operation, precision, size)
        for operation in operations
        for size in sizes_bytes
    )


def run_collectives(
    devices: Sequence[str],
    backend: str,
    cases: Sequence[CollectiveCase],
    *,
    effort: Effort | None = None,
    timeout_s: float = 120.0,
    start_timeout_s: float = 120.0,
    keep: Keep = lambda result: None,
    log: IO[bytes] | int = subprocess.DEVNULL,
    command: Sequence[str] = RANK_COMMAND,
) -> tuple[CollectiveResult, ...]:
    """Measure ``cases`` between ranks on this host, one per device, and return one result each.

    ``devices`` are torch's names (``cuda:0``, ``cuda:1``; ``cpu`` once per rank). Each case may
    take ``timeout_s``, and the ranks ``start_timeout_s`` until they have found each other. Each
    result is handed to ``keep`` as soon as it is known. Ranks write what libraries print to
    ``log``. No process is left behind, whatever happens.
    """
    job = RankJob(
        backend=backend,
        cases=tuple(cases),
        effort=effort or Effort(),
        devices=tuple(devices),
        # The ranks' own limit only matters where this process cannot act; it must not come
        # first, or the rank that waited would be blamed.
        timeout_s=2 * max(timeout_s, start_timeout_s) + 30,
        parent_pid=os.getpid(),
    )
    results: list[CollectiveResult] = []

    def done(result: CollectiveResult) -> None:
        results.append(result)
        keep(result)

    if len(devices) < 2:
        reason = Reason(
            code="one-device",
            sentence=f"an exchange needs two devices and there is {len(devices) or 'none'}",
        )
        _end_all(job, "skipped", reason, done)
        return tuple(results)
    failures = 0
    while len(results) < len(cases):
        left = replace(job, cases=job.cases[len(results) :])
        before = len(results)
        end = _run_group(left, timeout_s, start_timeout_s, done, log, command)
        if end is None:
            continue
        left = replace(job, cases=job.cases[len(results) :])
        failures = failures + 1 if len(results) == before else 1
        if not end.began or end.status == "skipped":
            _end_all(left, end.status, end.reason, done)
            break
        _end_all(replace(left, cases=left.cases[:1]), end.status, end.reason, done)
        if failures >= _FAILURES_IN_A_ROW:
            given_up = Reason(
                code="given-up",
                sentence=f"the ranks were given up after {failures} failures in a row "
                f"(the last: {end.reason.sentence})",
            )
            _end_all(replace(left, cases=left.cases[1:]), "failed", given_up, done)
    return tuple(results)


def _end_all(job: RankJob, status: Status, reason: Reason, done: Keep) -> None:
    for case in job.cases:
        done(
            CollectiveResult(
                case=case,
                backend=job.backend,
                world_size=len(job.devices),
                devices=job.devices,
                status=status,
                reason=reason,
            )
        )


@dataclass(frozen=True, slots=True)
class _End:
    """Why a group of ranks ended before its last case; ``began`` tells that it had found itself."""

    reason: Reason
    began: bool
    status: Status = "failed"


def _run_group(
    job: RankJob,
    timeout_s: float,
    start_timeout_s: float,
    done: Keep,
    log: IO[bytes] | int,
    command: Sequence[str],
) -> _End | None:
    """Start ranks for ``job`` and watch them; return None when all its cases have a result."""
    with tempfile.TemporaryDirectory(prefix="roofprobe-") as folder:
        told = replace(job, store=str(Path(folder) / "store"))
        group = _Group(told, done)
        try:
            group.start(command, log)
            return group.watch(timeout_s, start_timeout_s)
        finally:
            group.end()


@dataclass
class _Rank:
    """A rank process, as far as it has come; ``progress`` is (case, stage)."""

    number: int
    process: subprocess.Popen[bytes]
    buffer: bytes = b""
    open: bool = True
    ready: bool = False
    finished: bool = False
    progress: tuple[int, int] = (-1, -1)
    error: str | None = None
    error_at_s: float = 0.0
    ended: tuple[str, int] | None = None

    def look(self) -> None:
        """Note how the process ended, if it has, without reaping it.

        While it is not reaped its number stays taken, so that its process group can be ended
        without hitting a stranger.
        """
        if self.ended is None:
            wanted = os.WEXITED | os.WNOHANG | os.WNOWAIT
            state = os.waitid(os.P_PID, self.process.pid, wanted)
            if state is not None:
                how = "exit code" if state.si_code == os.CLD_EXITED else "signal"
                self.ended = (how, state.si_status)


class _Garbage(Exception):
    """A rank wrote something that is no event."""


class _Group:
    """The rank processes of one host: started together, watched together, ended together."""

    def __init__(self, job: RankJob, done: Keep) -> None:
        """Prepare to run ``job`` and to hand its results to ``done``."""
        self._job = job
        self._done = done
        self._ranks: list[_Rank] = []
        self._results = 0
        self._unavailable: Reason | None = None
        self._selector = selectors.DefaultSelector()

    def start(self, command: Sequence[str], log: IO[bytes] | int) -> None:
        """Start one process per device."""
        told = JOB.dump_json(self._job).decode()
        size = len(self._job.devices)
        for number in range(size):
            process = subprocess.Popen(
                (*command, told),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_rank_environment(os.environ, number, size),
                start_new_session=True,  # an interrupt at the terminal is the parent's to handle
            )
            rank = _Rank(number, process)
            self._ranks.append(rank)
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, rank)

    def watch(self, timeout_s: float, start_timeout_s: float) -> _End | None:
        """Take in what the ranks tell until all cases are done or something went wrong."""
        began = False
        limit_s = start_timeout_s
        deadline = time.monotonic() + limit_s
        while True:
            seen = self._results
            try:
                self._listen(_POLL_S)
            except _Garbage as garbage:
                return self._ended("rank-garbage", str(garbage), self._have_met())
            if not began and all(rank.ready for rank in self._ranks):
                began, limit_s = True, timeout_s
                deadline = time.monotonic() + limit_s
            if self._results > seen:
                deadline = time.monotonic() + limit_s
            if self._results == len(self._job.cases):
                self._let_leave()
                return None
            if self._something_wrong():
                end = self._cause(self._have_met())
                if end is not None:
                    return end
            if time.monotonic() > deadline:
                return self._ended("timed-out", self._overdue(limit_s, began), began)

    def end(self) -> None:
        """End what still runs of the ranks and of what they started, and reap all of them."""
        for rank in self._ranks:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(rank.process.pid, signal.SIGKILL)
        for rank in self._ranks:
            rank.process.wait()
            assert rank.process.stdout is not None
            rank.process.stdout.close()
        self._selector.close()

    def _listen(self, wait_s: float) -> None:
        for rank in self._ranks:
            rank.look()  # before reading, so that nothing a dead rank wrote is unread
        if not self._selector.get_map():
            time.sleep(wait_s)
        for key, _ in self._selector.select(wait_s):
            self._read(key.data)

    def _read(self, rank: _Rank) -> None:
        assert rank.process.stdout is not None
        part = rank.process.stdout.read(1 << 20)
        if part is None:
            return
        if part == b"":
            self._selector.unregister(rank.process.stdout)
            rank.open = False
            return
        rank.buffer += part
        if len(rank.buffer) > _MAX_LINE_BYTES:
            raise _Garbage(f"rank {rank.number} wrote garbage")
        *lines, rank.buffer = rank.buffer.split(b"\n")
        for line in lines:
            try:
                result = self._take(rank, json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # Pydantic's ValidationError is a ValueError.
                raise _Garbage(f"rank {rank.number} wrote garbage") from error
            if result is not None:
                self._results += 1
                self._done(result)

    def _take(self, rank: _Rank, event: dict[str, Any]) -> CollectiveResult | None:
        """Note one event and return a result; raises ``ValueError`` and the like where none."""
        what = event["event"]
        if what == "ready":
            rank.ready = True
        elif what == "stage":
            rank.progress = (int(event["case"]), STAGES.index(event["stage"]))
        elif what == "error":
            rank.error, rank.error_at_s = str(event["sentence"]), float(event["at_s"])
        elif what == "unavailable":
            self._unavailable = Reason.model_validate(event["reason"])
        elif what == "finished":
            rank.finished = True
        elif what == "result":
            result = RESULT.validate_python(event["result"])
            if result.case != self._job.cases[self._results]:
                raise ValueError(result.case)
            return result
        else:
            raise ValueError(what)
        return None

    def _have_met(self) -> bool:
        """Return whether the ranks had found each other: one that is ready has met all others."""
        return any(rank.ready for rank in self._ranks)

    def _something_wrong(self) -> bool:
        return self._unavailable is not None or any(
            rank.error is not None or (rank.ended is not None and not rank.finished)
            for rank in self._ranks
        )

    def _let_leave(self) -> None:
        """Give the ranks a moment to take leave of each other: libraries then end cleanly."""
        deadline = time.monotonic() + _LEAVE_S
        with suppress(_Garbage):
            while time.monotonic() < deadline and any(rank.ended is None for rank in self._ranks):
                self._listen(_POLL_S)

    def _cause(self, began: bool) -> _End | None:
        """Wait a moment, then tell the rank that failed first from those that it drew after it.

        A rank that was killed or left without a word comes before one that raised, because an
        error is also what the others see of its end; among errors the first is the cause.
        An abort comes last: libraries abort when another rank has left them. None where all turns
        out well.
        """
        deadline = time.monotonic() + _GRACE_S
        with suppress(_Garbage):
            while time.monotonic() < deadline and any(
                rank.ended is None or rank.open for rank in self._ranks
            ):
                self._listen(_POLL_S)
        if self._unavailable is not None:
            return _End(self._unavailable, began, "skipped")
        silent = [rank for rank in self._ranks if rank.error is None and not rank.finished]
        dead = [rank for rank in silent if rank.ended is not None]
        aborted = [rank for rank in dead if rank.ended == ("signal", signal.SIGABRT)]
        gone = [rank for rank in dead if rank not in aborted]
        raised = sorted(
            (rank for rank in self._ranks if rank.error is not None),
            key=lambda rank: rank.error_at_s,
        )
        # Signals before exit codes: a rank may also exit because of another's death.
        gone.sort(key=lambda rank: rank.ended is not None and rank.ended[0] != "signal")
        if gone:
            return self._ended("rank-died", _how_it_ended(gone[0]), began)
        if raised:
            return self._ended(
                "rank-error", f"rank {raised[0].number} failed: {raised[0].error}", began
            )
        if aborted:
            return self._ended("rank-died", _how_it_ended(aborted[0]), began)
        return None

    def _overdue(self, limit_s: float, began: bool) -> str:
        """Return who held up whom, as far as the stages tell."""
        if not began:
            late = [rank.number for rank in self._ranks if not rank.ready]
            return f"{_named(late)} had not found the others within {limit_s:g} s"
        stopped = [rank.number for rank in self._ranks if _is_stopped(rank.process.pid)]
        if stopped:
            was = "was" if len(stopped) == 1 else "were"
            return f"it did not end within {limit_s:g} s: {_named(stopped)} {was} stopped"
        least = min(rank.progress for rank in self._ranks)
        behind = [rank.number for rank in self._ranks if rank.progress == least]
        where = STAGES[least[1]] if least[1] >= 0 else STAGES[0]
        if len(behind) < len(self._ranks):
            return (
                f"it did not end within {limit_s:g} s: {_named(behind)} got no further than "
                f"“{where}”, while the others waited"
            )
        return f"it did not end within {limit_s:g} s: all ranks stood at “{where}”"

    def _ended(self, code: str, sentence: str, began: bool) -> _End:
        return _End(Reason(code=code, sentence=sentence), began)


def _rank_environment(inherited: Mapping[str, str], number: int, size: int) -> dict[str, str]:
    """Return a rank's environment: its place, and for Gloo the loopback device.

    Gloo otherwise looks up the host's name, which containers often cannot resolve; ranks on one
    host go through the loopback device in any case.
    """
    place = {
        "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
    }  # fmt: skip
    environment = {**inherited, **{name: str(value) for name, value in place.items()}}
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _how_it_ended(rank: _Rank) -> str:
    assert rank.ended is not None, rank.number
    how, value = rank.ended
    if how == "exit code":
        return f"rank {rank.number} ended with exit code {value}"
    try:
        return f"rank {rank.number} was ended by {signal.Signals(value).name}"
    except ValueError:
        return f"rank {rank.number} was ended by signal {value}"


def _named(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def _is_stopped(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
