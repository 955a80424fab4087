"""Every fault that a test plants, and what has to come of it: the table of docs/reliability.md.

``where`` names the test that plants it: ``kernel`` and ``worker`` faults sit in the worker process
of a real run (`planted_worker`), ``disk`` faults under ``--out``. ``driver`` and ``device`` faults
are of GPUs that are doubles (`gpu_host_worker`): what the driver tells of one, and what a device
does. ``status`` and ``code`` are those of the case that was hit (of the command, where no run came
of it; of the finding that names the fault, where it is a GPU's).
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
_EACH, _BESIDE = "every case of every device", "every case of the other devices"
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
    Fault("chatter", "worker", "a library that prints to standard output", "ok", NO_RUN, "pass",
          0, "every case; what was printed is in the worker's log"),
    Fault("import", "worker", "libraries that no longer load, after the devices were found",
          "failed", "device-given-up", "unknown", 0, "the record with the reason of every case"),
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
    Fault("uncorrected memory errors", "driver", "ECC counts uncorrected errors during the run",
          "fail", "RP-ECC", "fail", 1, _EACH),
    Fault("many corrected memory errors", "driver", "ECC corrects 40 errors during the run",
          "warn", "RP-ECC", "warn", 0, _EACH),
    Fault("row remapping pending", "driver", "a bad row of memory waits for a reset", "warn",
          "RP-REMAP", "warn", 0, _EACH),
    Fault("row remapping failed", "driver", "no spare row is left", "fail", "RP-REMAP", "fail", 1,
          _EACH),
    Fault("page retirement pending", "driver", "a bad page of memory waits for a reset", "warn",
          "RP-RETIRED", "warn", 0, _EACH),
    Fault("device lost half-way", "driver", "the driver says GPU_IS_LOST from the second case on",
          "fail", "RP-LOST", "fail", 1, _EACH),
    Fault("clocks throttled half-way", "driver", "the hardware slows the clocks down, too hot",
          "fail", "RP-THROTTLE", "fail", 1, _EACH),
    Fault("hot", "driver", "one degree below the temperature at which it slows down", "warn",
          "RP-TEMPERATURE", "warn", 0, _EACH),
    Fault("another process on the device", "driver", "someone else's process computes on it",
          "warn", "RP-PROCESSES", "warn", 0, _EACH),
    Fault("MIG switched on", "driver", "the GPU is cut in slices", "warn", "RP-MIG", "unknown", 0,
          _EACH),
    Fault("PCIe sends again", "driver", "hundreds of packets are sent again", "warn",
          "RP-PCIE-REPLAY", "warn", 0, _EACH),
    Fault("an NVLink goes down", "driver", "NVLinks go down during the run", "fail",
          "RP-NVLINK-ERRORS", "fail", 1, _EACH),
    Fault("NVLink errors", "driver", "NVLinks count thousands of errors", "warn",
          "RP-NVLINK-ERRORS", "warn", 0, _EACH),
    Fault("NVML hangs", "device", "the driver does not come back from a question", "unknown",
          "RP-HEALTH", "unknown", 0, _EACH),
    Fault("NVML missing", "device", "the binding of NVML is not installed", "unknown", "RP-HEALTH",
          "unknown", 0, _EACH),
    Fault("power limit lowered", "driver", "the host set 400 W in place of 700 W", "fail",
          "RP-POWER-LIMIT", "fail", 1, _EACH),
    Fault("PCIe degraded", "driver", "the slot gives 4 lanes of 16", "warn", "RP-PCIE", "warn", 0,
          _EACH),
    Fault("memory smaller than it should be", "driver", "70 GiB in place of 141 GB", "fail",
          "RP-MEMORY-SIZE", "fail", 1, _EACH),
    Fault("worker killed", "device", "one device's worker is killed again and again", "unknown",
          "RP-LOST", "unknown", 0, _BESIDE),
    Fault("worker hangs", "device", "one device's cases do not return", "unknown", "RP-LOST",
          "unknown", 0, _BESIDE),
    Fault("slow for good", "device", "a quarter of the bandwidth, also when repeated", "fail",
          "RP-BANDWIDTH", "fail", 1, _EACH),
    Fault("slow at first", "device", "a quarter of the bandwidth once, and not when repeated",
          "warn", "RP-UNSTABLE", "warn", 0, _EACH),
    Fault("slow, then killed", "device", "a quarter of the bandwidth, and a repeat that dies",
          "fail", "RP-BANDWIDTH", "fail", 1, _EACH),
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
