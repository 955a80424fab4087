"""Machine code in executable memory, run by one thread per core at once; and the cores' clock.

**Starting together.** Waking a hundred Python threads takes the interpreter lock once per thread,
about as long as a launch. So the members of a ``Team`` wait outside Python: each sits in one
machine-code loop that calls the C library's ``pthread_barrier_wait``, runs its share, and waits
again. A launch is one call in which the calling thread opens the barrier and sleeps until the last
member is done. Parked members sleep and cost nothing.

**One member per CPU.** Members are pinned, each to its own CPU. Left alone, the scheduler wakes a
member where its waker runs, so that two members share a CPU beside an idle one, and a launch of
milliseconds is over before it evens that out: half the rate was seen on two idle cores. Only the
team's own threads are pinned; the caller's thread and the process keep their affinity.

**The clock.** A chain of additions, each of which needs the last one's result, takes exactly one
cycle per addition, so additions over elapsed time is the clock that the core really runs at; no
privilege, counter or driver is asked. It is what a virtual machine's ``/proc/cpuinfo`` often does
not say. Two hardware threads of a core do not disturb each other here (a core adds several
numbers per cycle); another process on the same core does, so the fastest of several slices counts.
This module measures no work's duration; the two clock readings around the chain are part of the
machine code, since a thread that had to wait for the interpreter lock between chain and reading
would report a slower core.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import platform
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from roofprobe.kernels import arm_code, x86_code
from roofprobe.kernels.work import Unsupported

_ROW_WORDS = 16  # two cache lines; ten words are used
_FOREVER = 2**62
_CALLER, _BARRIER = -2, -1  # the last rows; a barrier of glibc or musl needs 32 bytes of its 128
_CLOCK_STATE_WORDS = 5
_ASSUMED_MHZ = 3000
_SLICES = 4


class _Code(Protocol):
    ADDS_PER_ITERATION: int
    LOADS_PER_ITERATION: int

    def chase_loop(self) -> bytes: ...
    def clock_loop(self) -> bytes: ...
    def member_loop(self) -> bytes: ...
    def nothing(self) -> bytes: ...


Part = Literal["chase", "clock", "member", "nothing"]
_MAKERS: dict[Part, Callable[[_Code], bytes]] = {
    "chase": lambda code: code.chase_loop(),
    "clock": lambda code: code.clock_loop(),
    "member": lambda code: code.member_loop(),
    "nothing": lambda code: code.nothing(),
}


def machine() -> str:
    """Return the processor's architecture by one name: ``x86_64`` or ``aarch64`` where we know."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


class Executable:
    """Machine code mapped readable and executable, never writable at the same time.

    The bytes go through an anonymous file, as a shared library's do: the kernel then keeps the
    instruction cache right on every architecture. Raises ``Unsupported`` (``no-exec-memory``)
    where the system forbids it.
    """

    def __init__(self, code: bytes) -> None:
        """Map ``code``; ``address`` is where it starts, page-aligned."""
        try:
            descriptor = os.memfd_create("roofprobe-code", os.MFD_CLOEXEC)
            try:
                os.write(descriptor, code)
                self._map = mmap.mmap(
                    descriptor, len(code), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
                )
            finally:
                os.close(descriptor)
        except (OSError, AttributeError) as error:
            raise Unsupported(
                "no-exec-memory",
                f"this system gives no executable memory, so no machine code can run: {error}",
                "allow memfd_create and executable mappings in the sandbox's policy",
            ) from error
        self._view = np.frombuffer(self._map, dtype=np.uint8)
        self.address = int(self._view.ctypes.data)
        self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(self.address)

    def __call__(self, state: int, iterations: int) -> None:
        """Run the code in this thread, without the interpreter lock."""
        self._call(state, iterations)


@dataclass(frozen=True, slots=True)
class Job:
    """What one member runs: the code's address, its state's address, its iterations."""

    address: int
    state: int
    iterations: int


class Team:
    """Threads that run machine code at the same moment, each on a CPU of its own.

    Member i is pinned to ``cpus[i]``; by default the CPUs that this process may use are taken, one
    of each core before the second hardware thread of any. A team larger than that is not pinned.
    Call from one thread at a time. Raises ``Unsupported`` where there is no executable memory or
    no code for the processor.
    """

    def __init__(self, size: int, cpus: Sequence[int] | None = None) -> None:
        """Start ``size`` members and park them."""
        if size < 1 or (cpus is not None and len(cpus) < size):
            raise ValueError(f"{size} members on {cpus} cannot be placed")
        allowed = one_per_core_first(sorted(os.sched_getaffinity(0)), _siblings_of)
        placed: Sequence[int | None] = cpus or (allowed if len(allowed) >= size else [None] * size)
        libc = ctypes.CDLL(None)
        self.size = size
        self._loop = _code_of("member")
        self._nothing = Job(_code_of("nothing").address, 0, 0)
        # A row per member, one for the caller, and the barrier, all on cache lines of their own.
        self._rows = np.zeros((size + 2, _ROW_WORDS), dtype=np.uint64)
        barrier = int(self._rows[_BARRIER].ctypes.data)
        if libc.pthread_barrier_init(ctypes.c_void_p(barrier), None, ctypes.c_uint(size + 1)):
            raise Unsupported("no-threads", f"the C library makes no barrier for {size} threads")
        steps = self._rows[:_BARRIER]
        steps[:, 0] = barrier
        steps[:, 1] = _function_address(libc, "pthread_barrier_wait")
        steps[:, 9] = _FOREVER
        steps[:, 3] = steps[:, 6] = self._nothing.address
        threads = [
            threading.Thread(
                target=_park,
                args=(self._loop, self._rows, index, placed[index]),
                name=f"roofprobe-team-{index}",
                daemon=True,
            )
            for index in range(size)
        ]
        for thread in threads:
            thread.start()
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(
            self, _dismiss, self._loop, self._rows, threads, self._pid
        )

    def assign(self, jobs: Sequence[Job], epilogues: Sequence[Job] | None = None) -> None:
        """Set what each member runs in the next launches, and what it runs right after that."""
        after_each = epilogues or [self._nothing] * self.size
        for row, job, after in zip(self._rows[:_CALLER], jobs, after_each, strict=True):
            row[3:6] = (job.address, job.state, job.iterations)
            row[6:9] = (after.address, after.state, after.iterations)

    def launch(self) -> None:
        """Run every member's job once, all at the same moment, and return when all are done."""
        if not self._finalizer.alive or self._pid != os.getpid():
            raise RuntimeError("this team was dismissed, or belongs to the parent of this process")
        self._rows[_CALLER, 9] = 1
        self._loop(int(self._rows[_CALLER].ctypes.data), 0)

    def close(self) -> None:
        """Let the members go; a second call does nothing."""
        self._finalizer()


def one_per_core_first(cpus: Sequence[int], siblings_of: Callable[[int], str | None]) -> list[int]:
    """Return ``cpus`` with the first of each core ahead of the second hardware threads.

    ``siblings_of`` names the core of a CPU by the list of its hardware threads (None: unknown, and
    then the CPU counts as a core of its own). Systems number them 0,1 on one core or half the
    machine apart; a team of one thread per core must not end on half of the cores.
    """
    first: list[int] = []
    rest: list[int] = []
    seen: set[str] = set()
    for cpu in cpus:
        core = siblings_of(cpu) or f"cpu {cpu}"
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    return first + rest


def clock_mhz(duration_us: float = 200) -> float:
    """Return the clock of the core that this thread runs on, over about ``duration_us``.

    The duration is exact for a core at 3 GHz and shorter on a faster one. It is cut into four
    slices and the fastest counts: an interruption can only make a slice seem slower.
    Raises ``Unsupported`` where there is no executable memory or no code for the processor.
    """
    loop = _code_of("clock")
    state = _clock_states(1)
    iterations = _clock_iterations(duration_us / _SLICES)
    best = 0.0
    for _ in range(_SLICES):
        loop(int(state[0].ctypes.data), iterations)
        best = max(best, _mhz(state[0], iterations))
    return best


def clocks_mhz(
    team: Team, duration_us: float = 200, load: Sequence[Job] | None = None
) -> list[float]:
    """Return the clock of each member's core while all of them work.

    With ``load``, each of the four slices follows immediately on one run of the member's load, so
    that a clock which wide vector instructions lower is seen before the core raises it again.
    Leaves the team without a job.
    """
    loop = _code_of("clock")
    states = _clock_states(team.size)
    iterations = _clock_iterations(duration_us / _SLICES)
    clocks = [Job(loop.address, int(row.ctypes.data), iterations) for row in states]
    idle = [Job(_code_of("nothing").address, 0, 0)] * team.size
    best = [0.0] * team.size
    try:
        team.assign(load or idle, clocks)
        for _ in range(_SLICES):
            team.launch()
            best = [max(old, _mhz(row, iterations)) for old, row in zip(best, states, strict=True)]
    finally:
        team.assign(idle)
    return best


def chase() -> tuple[Executable, int]:
    """Return the pointer chase of this processor and how many loads each of its iterations does.

    Raises ``Unsupported`` where there is no executable memory or no code for the processor.
    """
    return _code_of("chase"), _code().LOADS_PER_ITERATION


@functools.cache
def _code_of(part: Part) -> Executable:
    return Executable(_MAKERS[part](_code()))


def _code() -> _Code:
    modules: dict[str, _Code] = {"x86_64": x86_code, "aarch64": arm_code}
    module = modules.get(machine())
    if module is None:
        raise Unsupported(
            "architecture", f"there is machine code for x86_64 and aarch64, this is {machine()}"
        )
    return module


def _clock_iterations(duration_us: float) -> int:
    return max(1, round(duration_us * _ASSUMED_MHZ / _code().ADDS_PER_ITERATION))


def _clock_states(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return rows of [address of clock_gettime, start s, start ns, end s, end ns], lines apart."""
    states = np.zeros((count, 16), dtype=np.int64)
    states[:, 0] = _function_address(ctypes.CDLL(None), "clock_gettime")
    return states


def _mhz(state: np.ndarray[tuple[int], np.dtype[np.int64]], iterations: int) -> float:
    start_s, start_ns, end_s, end_ns = (int(word) for word in state[1:_CLOCK_STATE_WORDS])
    elapsed_ns = (end_s - start_s) * 1_000_000_000 + end_ns - start_ns
    return _code().ADDS_PER_ITERATION * iterations / elapsed_ns * 1000


def _siblings_of(cpu: int) -> str | None:
    """Ask the system which CPUs share this one's core, as it is asked which CPUs are ours."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return topology.read_text().strip()
    except OSError:
        return None


def _function_address(library: ctypes.CDLL, name: str) -> int:
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address is not None
    return address


def _park(
    loop: Executable,
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint64]],
    index: int,
    cpu: int | None,
) -> None:
    """Stay in the machine-code loop until dismissed; ``rows`` is held so that it outlives us."""
    if cpu is not None:
        # 0 is this thread, not the process. A CPU that has left our set leaves us unpinned.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cpu})
    loop(int(rows[index].ctypes.data), 0)


def _dismiss(
    loop: Executable,
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint64]],
    threads: Sequence[threading.Thread],
    pid: int,
) -> None:
    """Tell the members to stop and join them; a forked child has none to tell."""
    if pid != os.getpid():
        return
    rows[:_BARRIER, 2] = 1
    loop(int(rows[_CALLER].ctypes.data), 0)
    for thread in threads:
        thread.join()
    ctypes.CDLL(None).pthread_barrier_destroy(ctypes.c_void_p(int(rows[_BARRIER].ctypes.data)))
