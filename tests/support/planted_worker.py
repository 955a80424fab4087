"""A worker whose fp32 products go wrong in a chosen way: ``python planted_worker.py FAULT``.

The fault sits where a library's would: behind ``torch.mm``, for fp32 operands only. Everything else
is the worker that users run.
"""

from __future__ import annotations

import sys
import time

import torch

from roofprobe.kernels import launchers
from roofprobe.kernels.launchers import Config, Sets
from roofprobe.kernels.operands import Operands
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.work import Target
from roofprobe.probes import worker

FAULT = sys.argv[1]


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
        if FAULT == "slow fallback":  # what a library without fp32 kernels does
            wide = torch.mm(operands.a_mk.double(), operands.b_kn.double())
            return out.copy_(wide)
        torch.mm(operands.a_mk, operands.b_kn, out=out)
        if FAULT == "wrong tile":
            out[:16, :16] = 0
        if FAULT == "flipped bit" and self._launches % 3 == 0:
            out.view(torch.int32)[5, 7] ^= 1
        if FAULT == "abort" and self._launches > 1:
            import os

            os.abort()
        return out


if __name__ == "__main__":
    launchers.LAUNCHERS["mm"] = PlantedMM
    sys.argv = sys.argv[:1]
    sys.exit(worker.main())
