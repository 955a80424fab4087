"""Every fault of a device that a test plants, and what has to come of it.

The devices are doubles (``gpu_host_worker.py``), the rest of the run is real. ``where`` is the
driver, whose faults are all planted in one host, a GPU for each, or the device, with a host of
three for each.
``status`` and ``code`` are the judgement and the code of the finding that names the fault.
"""

from __future__ import annotations

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


_ALL = "every case of every device"
_OTHERS = "every case of the other devices"

DEVICE_FAULTS: tuple[Fault, ...] = (
    Fault("uncorrected memory errors", "driver", "ECC counts uncorrected errors during the run",
          "fail", "RP-ECC", "fail", 1, _ALL),
    Fault("many corrected memory errors", "driver", "ECC corrects 40 errors during the run",
          "warn", "RP-ECC", "warn", 0, _ALL),
    Fault("row remapping pending", "driver", "a bad row of memory waits for a reset", "warn",
          "RP-REMAP", "warn", 0, _ALL),
    Fault("row remapping failed", "driver", "no spare row is left", "fail", "RP-REMAP", "fail", 1,
          _ALL),
    Fault("page retirement pending", "driver", "a bad page of memory waits for a reset", "warn",
          "RP-RETIRED", "warn", 0, _ALL),
    Fault("device lost half-way", "driver", "the driver says GPU_IS_LOST from the second case on",
          "fail", "RP-LOST", "fail", 1, _ALL),
    Fault("clocks throttled half-way", "driver", "the hardware slows the clocks down, too hot",
          "fail", "RP-THROTTLE", "fail", 1, _ALL),
    Fault("hot", "driver", "one degree below the temperature at which it slows down", "warn",
          "RP-TEMPERATURE", "warn", 0, _ALL),
    Fault("another process on the device", "driver", "someone else's process computes on it",
          "warn", "RP-PROCESSES", "warn", 0, _ALL),
    Fault("MIG switched on", "driver", "the GPU is cut in slices", "warn", "RP-MIG", "unknown", 0,
          _ALL),
    Fault("PCIe sends again", "driver", "hundreds of packets are sent again", "warn",
          "RP-PCIE-REPLAY", "warn", 0, _ALL),
    Fault("an NVLink goes down", "driver", "NVLinks go down during the run", "fail",
          "RP-NVLINK-ERRORS", "fail", 1, _ALL),
    Fault("NVLink errors", "driver", "NVLinks count thousands of errors", "warn",
          "RP-NVLINK-ERRORS", "warn", 0, _ALL),
    Fault("NVML hangs", "device", "the driver does not come back from a question", "unknown",
          "RP-HEALTH", "unknown", 0, _ALL),
    Fault("NVML missing", "device", "the binding of NVML is not installed", "unknown", "RP-HEALTH",
          "unknown", 0, _ALL),
    Fault("power limit lowered", "driver", "the host set 400 W in place of 700 W", "fail",
          "RP-POWER-LIMIT", "fail", 1, _ALL),
    Fault("PCIe degraded", "driver", "the slot gives 4 lanes of 16", "warn", "RP-PCIE", "warn", 0,
          _ALL),
    Fault("memory smaller than it should be", "driver", "70 GiB in place of 141 GB", "fail",
          "RP-MEMORY-SIZE", "fail", 1, _ALL),
    Fault("worker killed", "device", "one device's worker is killed again and again", "unknown",
          "RP-LOST", "unknown", 0, _OTHERS),
    Fault("worker hangs", "device", "one device's cases do not return", "unknown", "RP-LOST",
          "unknown", 0, _OTHERS),
    Fault("slow for good", "device", "a quarter of the bandwidth, also when repeated", "fail",
          "RP-BANDWIDTH", "fail", 1, _ALL),
    Fault("slow at first", "device", "a quarter of the bandwidth once, and not when repeated",
          "warn", "RP-UNSTABLE", "warn", 0, _ALL),
    Fault("slow, then killed", "device", "a quarter of the bandwidth, and a repeat that dies",
          "fail", "RP-BANDWIDTH", "fail", 1, _ALL),
)  # fmt: skip
