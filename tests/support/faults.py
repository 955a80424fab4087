"""Every fault that a test plants, and what has to come of it: the table of docs/reliability.md.

``where`` names the test that plants it: ``kernel`` and ``worker`` faults sit in the worker process
of a real run (`planted_worker`), ``disk`` faults under ``--out``. ``status`` and ``code`` are those
of the case that was hit (of the command, where no run came of it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault: what is expected, and what of the measurements must still be there."""

    name: str
    where: str
    planted: str
    status: str
    code: str
    verdict: str
    exit_code: int
    kept: str


NO_RUN = "–"
_OTHERS = "every other case is measured"
_BEFORE = "all lines before; `--resume` completes the run and measures nothing twice"

FAULTS: tuple[Fault, ...] = (
    Fault("wrong tile", "kernel", "a product whose first tile is zero", "failed", "wrong-result",
          "fail", 1, _OTHERS),
    Fault("flipped bit", "kernel", "one bit that flips in every third product", "failed",
          "unstable-bits", "fail", 1, _OTHERS),
    Fault("slow fallback", "kernel", "a library that computes in another format", "ok", NO_RUN,
          "warn", 0, "the slow figure, with the kernel that really ran"),
    Fault("hang", "worker", "a call that does not return", "failed", "timed-out", "warn", 0,
          _OTHERS),
    Fault("abort", "worker", "a library that aborts the process", "failed", "worker-crashed",
          "warn", 0, _OTHERS),
    Fault("killed", "worker", "the worker gets SIGKILL (the system's memory killer)", "failed",
          "worker-crashed", "warn", 0, _OTHERS),
    Fault("out of memory", "worker", "the library says that the device's memory is full", "failed",
          "out-of-memory", "warn", 0, _OTHERS),
    Fault("address space", "worker", "the system gives no more memory (RLIMIT_AS)", "failed",
          "out-of-memory", "warn", 0, _OTHERS),
    Fault("garbage", "worker", "a worker that answers with bytes that are no JSON", "failed",
          "worker-garbage", "warn", 0, _OTHERS),
    Fault("lies", "worker", "a worker that answers with a measurement that is none", "failed",
          "worker-garbage", "warn", 0, _OTHERS),
    Fault("chatter", "worker", "a library that prints to standard output", "ok", NO_RUN, "unknown",
          0, "every case; what was printed is in the worker's log"),
    Fault("import", "worker", "libraries that no longer load, after the devices were found",
          "failed", "device-given-up", "warn", 0, "the record with the reason of every case"),
    Fault("import at once", "worker", "libraries that do not load at all", "no run", "no-devices",
          NO_RUN, 2, "nothing was measured; earlier runs in `--out` stay"),
    Fault("read-only", "disk", "`--out` on a read-only file system", "no run", "unwritable",
          NO_RUN, 2, "nothing was measured"),
    Fault("full at the start", "disk", "`--out` on a file system without room", "no run",
          "disk-full", NO_RUN, 2, "nothing was measured"),
    Fault("full half-way", "disk", "a small tmpfs that fills up during the run", "no verdict",
          "disk-full", NO_RUN, 3, _BEFORE),
    Fault("file limit half-way", "disk", "the limit of file sizes (RLIMIT_FSIZE) during the run",
          "no verdict", "disk-full", NO_RUN, 3, _BEFORE),
)  # fmt: skip


def named(name: str) -> Fault:
    """Return one fault."""
    return next(fault for fault in FAULTS if fault.name == name)


def table(faults: Iterable[Fault] = FAULTS) -> str:
    """Return the Markdown table of the faults."""
    heads = ("planted", "where", "the case that is hit", "code", "verdict", "exit", "what is kept")
    rows = [
        (f.planted, f.where, f.status, f"`{f.code}`" if f.code != NO_RUN else f.code, f.verdict,
         str(f.exit_code), f.kept)
        for f in faults
    ]  # fmt: skip
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
