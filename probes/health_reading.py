"""Read the health of all devices in a process of its own, which may crash or hang.

One process asks about one device after the other. Where it dies, answers nonsense or does not
answer in time, that device's health is unknown with the reason, and a new process goes on.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from roofprobe.probes.health import untold
from roofprobe.probes.worker_process import WORKER_COMMAND, Worker, WorkerGone
from roofprobe.records.schema import Device, Health

TIMEOUT_S: Final = 45.0  # a process that starts on a busy host is in it


def read_health(
    devices: Sequence[Device], command: Sequence[str] = WORKER_COMMAND
) -> dict[str, Health]:
    """Return how each device is now, by its id; nothing here raises for a device's sake."""
    found: dict[str, Health] = {}
    worker: Worker | None = None
    try:
        for device in devices:
            try:
                worker = worker or Worker(command, subprocess.DEVNULL)
                request = {"op": "health", "device": device.model_dump(mode="json")}
                found[device.device_id] = _health(worker.ask(request, TIMEOUT_S))
            except WorkerGone as gone:
                found[device.device_id] = untold(f"{gone.code} ({gone.sentence})")
                if worker is not None:
                    worker.kill()
                worker = None
    finally:
        if worker is not None:
            worker.kill()
    return found


def _health(reply: dict[str, object]) -> Health:
    try:
        return Health.model_validate(reply["health"])
    except (KeyError, ValueError) as error:
        raise WorkerGone("worker-garbage", "the worker process answered with garbage") from error
