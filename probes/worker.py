"""The worker: a process that opens one device and measures what it is told, one case at a time.

A crash, a hang or a poisoned device context stays in this process; the runner that started it loses
nothing. The two talk in JSON lines: requests on standard input, one reply each on what was
standard output when the process began. Anything a library prints goes to the log instead. When the
runner dies, the worker dies with it.

Requests: ``{"op": "discover"}`` → ``{"devices": [...]}``; ``{"op": "open", "device": {...},
"seed": 0}`` → ``{"opened": true}``; ``{"op": "health", "device": {...}}`` → ``{"health": {...}}``;
``{"op": "cool-down", "most_s": 30}`` → ``{"waited_s", "temperature_c", "in_the_way"}``;
``{"op": "measure", "case": {...}, "policy": {...}}`` →
``{"measurement": {...}, "lost": false, "damaged": false}``. A request that fails altogether is
answered with ``{"error": {"code", "sentence"}}``. After a reply that says ``lost`` (the device's
context is gone) or ``damaged`` (the measurement is good, but a graph capture that did not end left
torch in doubt) the worker ends, and another has to be started.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from roofprobe.probes.measure import Policy
from roofprobe.records.schema import Case, Device

if TYPE_CHECKING:
    from roofprobe.probes.cool_down import CooledDown
    from roofprobe.probes.session import Session

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Answer requests until standard input ends."""
    die_with_parent()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interrupt means
    serve(sys.stdin, replies)
    return 0


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer each line of ``requests`` with one line on ``replies``."""
    try:
        _serve(requests, replies)
    finally:
        gc.unfreeze()  # so that libraries can take down at the end what they hold


def _serve(requests: IO[str], replies: IO[str]) -> None:
    session: Session | None = None
    for line in requests:
        request = json.loads(line)
        reply: dict[str, Any]
        try:
            if request["op"] == "open":
                session = opened(Device.model_validate(request["device"]), int(request["seed"]))
                # What torch's modules are made of stays: no collection needs to walk through it,
                # be it one that makes room between two cases or one that falls into a measurement.
                gc.freeze()
                reply, ends = {"opened": True}, False
            else:
                reply, ends = _answer(session, request)
        except Exception as error:  # reported to the runner, which knows what to do
            text = (str(error).strip().splitlines() or [""])[0]
            sentence = f"{type(error).__name__}: {text}"[:400]
            reply, ends = {"error": {"code": "worker-error", "sentence": sentence}}, False
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if ends:
            return


def _answer(session: Session | None, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    operation = request["op"]
    if operation == "discover":
        from roofprobe.probes.devices import discover

        return {"devices": [device.model_dump(mode="json") for device in discover()]}, False
    if operation == "health":
        from roofprobe.probes.health import health_of

        health = health_of(Device.model_validate(request["device"]))
        return {"health": health.model_dump(mode="json")}, False
    assert session is not None, f"{operation} before open"
    if operation == "cool-down":
        return asdict(_cooled_down(session, float(request["most_s"]))), False
    assert operation == "measure", operation
    from roofprobe.probes.execute import DeviceLost, measure_case
    from roofprobe.probes.timers import is_damaged

    case = Case.model_validate(request["case"])
    lost = False
    try:
        measurement = measure_case(case, Policy(**request["policy"]), session)
    except DeviceLost as loss:
        measurement, lost = loss.measurement, True
    damaged = is_damaged(session.timer)
    reply = {
        "measurement": measurement.model_dump(mode="json"),
        "lost": lost,
        "damaged": damaged,
    }
    return reply, lost or damaged


def opened(device: Device, seed: int) -> Session:
    """Open ``device`` for measuring: threads, timer, telemetry and clock as it has them."""
    from roofprobe.probes import clocks, host
    from roofprobe.probes.devices import SamplerTelemeter, backend_of, telemeter_of
    from roofprobe.probes.session import Session

    if device.backend == "cpu":
        import torch

        torch.set_num_threads(host.usable_cores())
    backend = backend_of(device)
    backend.select(device.index)  # before the clock, whose kernel goes to the current device
    try:
        telemeter = telemeter_of(device)
    except Exception as error:  # a broken driver library must not cost the measurement
        print(f"no telemetry: {type(error).__name__}: {error}", file=sys.stderr)
        telemeter = SamplerTelemeter(None)
    return Session.on(device, backend, telemeter, clocks.clock_of(device), seed=seed)


def _cooled_down(session: Session, most_s: float) -> CooledDown:
    """Wait until the device is idle and about as cool as it was before the run."""
    from roofprobe.probes.cool_down import WARMER_C, cool_down
    from roofprobe.probes.devices import source_of
    from roofprobe.probes.nvml import NvmlDevice

    device, source = session.device, source_of(session.device)
    before_c = device.health_before.temperature_c if device.health_before else None
    moment = source.snapshot if source else None
    if isinstance(source, NvmlDevice):  # which leaves utilisation out unless asked for it
        moment = partial(source.snapshot, health=True)
    return cool_down(moment, most_s, None if before_c is None else before_c + WARMER_C)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, however it dies."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
