"""The worker: a process that opens one device and measures what it is told, one case at a time.

A crash, a hang or a poisoned device context stays in this process; the runner that started it loses
nothing. The two talk in JSON lines: requests on standard input, one reply each on what was
standard output when the process began. Anything a library prints goes to the log instead. When the
runner dies, the worker dies with it.

Requests: ``{"op": "discover"}`` → ``{"devices": [...]}``; ``{"op": "open", "device": {...},
"seed": 0}`` → ``{"opened": true}``; ``{"op": "measure", "case": {...}, "policy": {...}}`` →
``{"measurement": {...}, "lost": false}``. A request that fails altogether is answered with
``{"error": {"code", "sentence"}}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from roofprobe.probes.measure import Policy
from roofprobe.records.schema import Case, Device

_PR_SET_PDEATHSIG = 1


@dataclass
class _Session:
    """The opened device; None before ``open``."""

    device: Device | None = None
    backend: Any = None
    timer: Any = None
    telemeter: Any = None
    seed: int = 0


def main() -> int:
    """Answer requests until standard input ends."""
    _die_with_parent()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interrupt means
    serve(sys.stdin, replies)
    return 0


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer each line of ``requests`` with one line on ``replies``."""
    session = _Session()
    for line in requests:
        request = json.loads(line)
        try:
            reply, ends = _answer(session, request)
        except Exception as error:  # reported to the runner, which knows what to do
            text = (str(error).strip().splitlines() or [""])[0]
            sentence = f"{type(error).__name__}: {text}"[:400]
            reply, ends = {"error": {"code": "worker-error", "sentence": sentence}}, False
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if ends:
            return


def _answer(session: _Session, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    operation = request["op"]
    if operation == "discover":
        from roofprobe.probes.devices import discover

        return {"devices": [device.model_dump(mode="json") for device in discover()]}, False
    if operation == "open":
        _open(session, Device.model_validate(request["device"]), int(request["seed"]))
        return {"opened": True}, False
    assert operation == "measure", operation
    assert session.device is not None, "measure before open"
    from roofprobe.probes.execute import DeviceLost, measure_case

    lost = False
    try:
        measurement = measure_case(
            Case.model_validate(request["case"]),
            session.device,
            Policy(**request["policy"]),
            session.backend,
            session.timer,
            session.telemeter,
            session.seed,
        )
    except DeviceLost as loss:
        measurement, lost = loss.measurement, True
    return {"measurement": measurement.model_dump(mode="json"), "lost": lost}, lost


def _open(session: _Session, device: Device, seed: int) -> None:
    from roofprobe.probes import host
    from roofprobe.probes.devices import SamplerTelemeter, backend_of, telemeter_of

    if device.backend == "cpu":
        import torch

        torch.set_num_threads(host.usable_cores())
    session.device = device
    session.seed = seed
    session.backend = backend_of(device)
    session.timer = session.backend.timer(device.index)
    try:
        session.telemeter = telemeter_of(device)
    except Exception as error:  # a broken driver library must not cost the measurement
        print(f"no telemetry: {type(error).__name__}: {error}", file=sys.stderr)
        session.telemeter = SamplerTelemeter(None)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, however it dies."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
