# ruff: noqa: E402  (libraries that do not load fail before they are imported)
"""A worker whose fp32 products go wrong in a chosen way: ``python planted_worker.py FAULT MARK``.

The fault sits where a library's would: behind ``torch.mm``, for fp32 operands only. Everything else
is the worker that users run. ``MARK`` is a file by which a worker knows whether it is the first.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FAULT = sys.argv[1]
if FAULT == "import at once":
    raise ImportError("libcudart.so.99: cannot open shared object file")
if FAULT == "import":  # the first process, which looks for devices, still starts
    if Path(sys.argv[2]).exists():
        raise ImportError("libcudart.so.99: cannot open shared object file")
    Path(sys.argv[2]).touch()

import torch

from roofprobe.kernels import launchers
from roofprobe.kernels.launchers import Config, Sets
from roofprobe.kernels.operands import Operands
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.work import Target
from roofprobe.probes import worker


def planted_reply(reply: dict[str, Any]) -> str:
    """Return what the worker writes: of fp32 products by torch.mm nothing that can be used."""
    case = reply.get("measurement", {}).get("case", {})
    hit = case.get("row") == "fp32" and case.get("route") == "torch.mm"
    if hit and FAULT == "garbage":
        return "\x00\x01 Segmentation fault (core dumped)"
    if hit and FAULT == "lies":
        return json.dumps({**reply, "measurement": {"status": "ok", "rate": "fast"}})
    return json.dumps(reply)


class PlantedMM:
    """``torch.mm``, but fp32 goes wrong."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        self.config: Config = {}
        self._planted = route.row == "fp32"
        self._launches = 0

    def launch(self, operands: Operands) -> torch.Tensor:
        out = operands.out
        self._launches += 1
        if not self._planted:
            return torch.mm(operands.a_mk, operands.b_kn, out=out)
        if FAULT == "hang":
            time.sleep(600)
        if FAULT == "out of memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if FAULT == "address space":
            limit = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (1 << 28, limit[1]))
            try:
                return torch.empty(1 << 30, dtype=torch.uint8)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, limit)
        if FAULT == "chatter":
            os.write(1, b"a library speaks\n")
        if FAULT == "slow fallback":  # what a library without fp32 kernels does
            wide = torch.mm(operands.a_mk.double(), operands.b_kn.double())
            return out.copy_(wide)
        torch.mm(operands.a_mk, operands.b_kn, out=out)
        if FAULT == "wrong tile":
            out[:16, :16] = 0
        if FAULT == "flipped bit" and self._launches % 3 == 0:
            out.view(torch.int32)[5, 7] ^= 1
        if FAULT == "abort" and self._launches > 1:
            os.abort()
        if FAULT == "killed" and self._launches > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return out


if __name__ == "__main__":
    launchers.LAUNCHERS["mm"] = PlantedMM
    if FAULT in ("garbage", "lies"):
        double = SimpleNamespace(loads=json.loads, dumps=planted_reply)
        vars(worker)["json"] = double
    sys.argv = sys.argv[:1]
    sys.exit(worker.main())
