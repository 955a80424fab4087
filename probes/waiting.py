"""How long our threads stood ready to run and were kept from it: Linux's own count.

What others took of all cores says little of a thread that is kept to one of them, or of a host with
cores to spare. The scheduler knows better: for every thread it adds up, in nanoseconds, how long it
waited on a run queue (``/proc/PID/task/TID/schedstat``, second field; the kernel's
Documentation/scheduler/sched-stats.rst). It counts neighbours, and a container's quota that was
used up, but not a hypervisor that stops the whole processor: that is its stolen time.

A host's part of a launch is the work of one thread, so there only the thread counts that launches;
work on the processor itself waits for the slowest of all threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

TASKS = Path("/proc/self/task")


class Waiting:
    """Counts waits between ``begin`` and ``threads``; may be used again and again.

    With ``one`` only the thread counts that begins. ``stolen_s`` returns the seconds that a
    hypervisor has taken from each processor, on average.
    """

    def __init__(
        self,
        *,
        one: bool,
        tasks: Path = TASKS,
        stolen_s: Callable[[], float] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count for one thread or for all of this process."""
        self._one, self._tasks, self._now = one, tasks, now
        self._stolen_s = stolen_s or _stolen_s
        self._begun_s, self._before, self._stolen_before_s = 0.0, dict[str, float](), 0.0

    def begin(self) -> None:
        """Begin to count."""
        self._before, self._stolen_before_s = self._waited_s(), self._stolen()
        self._begun_s = self._now()

    def threads(self) -> float | None:
        """Return how many threads waited on average since ``begin``.

        None where the system does not count it. A thread that is still waiting counts when it runs.
        """
        lasted_s, after = self._now() - self._begun_s, self._waited_s()
        if not after or not self._before or lasted_s <= 0:
            return None
        waited_s = sum(max(0.0, s - self._before.get(thread, 0.0)) for thread, s in after.items())
        stolen_s = max(0.0, self._stolen() - self._stolen_before_s)
        return (waited_s + stolen_s) / lasted_s

    def _waited_s(self) -> dict[str, float]:
        """Return what each thread has waited in all; empty where the system does not say."""
        found: dict[str, float] = {}
        try:
            own = self._tasks / str(threading.get_native_id())
            for task in (own,) if self._one else tuple(self._tasks.iterdir()):
                try:
                    fields = (task / "schedstat").read_text().split()
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended meanwhile
                _, waited_ns, turns = (int(field) for field in fields[:3])
                if turns:  # a kernel that does not count says 0
                    found[task.name] = waited_ns * 1e-9
        except (OSError, ValueError):
            return {}
        return found

    def _stolen(self) -> float:
        # work on all cores has it among what others did
        return self._stolen_s() if self._one else 0.0


def _stolen_s() -> float:
    import psutil

    try:
        return float(getattr(psutil.cpu_times(), "steal", 0.0)) / (psutil.cpu_count() or 1)
    except (OSError, RuntimeError):
        return 0.0
