"""Rank processes of one host: started together, watched together, ended together.

A rank tells in JSON lines what it does. What goes wrong is laid to the rank that it began with: the
one that died, raised, wrote garbage, or that the others waited for.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from roofprobe.probes.collective_cases import JOB, RESULT, STAGES, CollectiveResult, Keep, RankJob
from roofprobe.records.schema import Reason, Status

_GRACE_S = 1.0  # for the cause of a failure to show among its consequences
_LEAVE_S = 10.0  # for ranks to end by themselves after the last case
_POLL_S = 0.05
_MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class End:
    """Why a group of ranks ended before its last case; ``began`` tells that it had found itself."""

    reason: Reason
    began: bool
    status: Status = "failed"


def run_group(
    job: RankJob,
    timeout_s: float,
    start_timeout_s: float,
    done: Keep,
    log: IO[bytes] | int,
    command: Sequence[str],
) -> End | None:
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

    def watch(self, timeout_s: float, start_timeout_s: float) -> End | None:
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
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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

    def _cause(self, began: bool) -> End | None:
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
            return End(self._unavailable, began, "skipped")
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

    def _ended(self, code: str, sentence: str, began: bool) -> End:
        return End(Reason(code=code, sentence=sentence), began)


def _rank_environment(inherited: Mapping[str, str], number: int, size: int) -> dict[str, str]:
    """Return a rank's environment: its place, and for Gloo the loopback device.

    Gloo otherwise looks up the host's name, which containers often cannot resolve; ranks on one
    host go through the loopback device in any case.
    """
    place = {
        "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
    }  # fmt: skip
    environment = {**inherited, **{name: str(value) for name, value in place.items()}}
    environment["GLOO_SOCKET_IFNAME"] = "lo"  # nothing of a host leaves it
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
