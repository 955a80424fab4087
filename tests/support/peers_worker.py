"""A worker on a host of three GPUs, none of which is there: their memory is the host's.

The devices and their streams are doubles; planning, checks, timing and the conversation with the
runner are what users run. ``cuda:0`` and ``cuda:2`` cannot reach each other. With the argument
``faulty`` a copy from ``cuda:1`` to ``cuda:2`` kills its worker and a message from ``cuda:2`` to
``cuda:1`` never arrives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from roofprobe.kernels import transfers
from roofprobe.kernels.transfers import Copy
from roofprobe.kernels.work import Target, Unsupported, Work
from roofprobe.probes import clocks, devices, worker
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.timers import BatchWallTimer
from roofprobe.records.schema import Device

FAULTY = "faulty" in sys.argv
APART = {0, 2}
_real = transfers.prepare_peer


class ThreeGpus(CpuBackend):
    """What torch would tell of three GPUs."""

    kind = "cuda"

    def count(self) -> int:
        return 3

    def describe(self, index: int = 0) -> Device:
        return Device(
            device_id=f"GPU-{index}", torch_device=f"cuda:{index}", backend="cuda",
            name="Example GPU", index=index, architecture="sm_90",
        )  # fmt: skip

    def timer(self, index: int = 0) -> Any:
        return BatchWallTimer(lambda: None)


class Runtime:
    """Copies run at once, one after the other."""

    def pin(self, address: int, size_bytes: int) -> Callable[[], object]:
        raise AssertionError("nothing is pinned between devices")

    def at_once(self, copies: Sequence[Copy]) -> Callable[[], object]:
        return lambda: [copy.enqueue() for copy in copies]

    def wait(self) -> None:
        pass


def prepare_peer(name: str, source: Target, destination: Target, **settings: Any) -> Work:
    ends = (source.torch_device, destination.torch_device)
    if FAULTY and (name, *ends) == ("p2p", "cuda:1", "cuda:2"):
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULTY and (name, *ends) == ("p2p-latency", "cuda:2", "cuda:1"):
        time.sleep(600)
    return _real(
        name, source, destination, runtime=Runtime(), can_access=lambda a, b: {a, b} != APART,
        tensor_devices=("cpu", "cpu"), **settings,
    )  # fmt: skip


def no_host_link(*_: Any, **__: Any) -> Work:
    raise Unsupported("no-link", "these GPUs have no link to the host")


if __name__ == "__main__":
    backend = ThreeGpus()
    doubles: dict[Any, dict[str, Any]] = {
        devices: {"available_backends": lambda: (backend,), "backend_of": lambda device: backend},
        clocks: {"clock_of": lambda device: NoClock()},
        transfers: {"prepare_peer": prepare_peer, "prepare": no_host_link},
    }
    for module, functions in doubles.items():
        for name, function in functions.items():
            setattr(module, name, function)
    sys.argv = sys.argv[:1]
    sys.exit(worker.main())
