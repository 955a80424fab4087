"""Simulated devices as what the verdict reads, without files: to count what it finds over seeds.

The figures are those that `simulate` would write for the same seed (but for their seven digits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from roofprobe.acceptance.fleet.present import Metric, Present, aspect_of
from roofprobe.acceptance.fleet.simulate import DRIVER, SKU
from roofprobe.acceptance.fleet.simulate_draw import catalogue_row, device_id, draw, host_name
from roofprobe.acceptance.fleet.simulate_faults import fault_of
from roofprobe.acceptance.fleet.simulate_noise import Boards, Noise
from roofprobe.acceptance.fleet.simulate_nominal import nominals

_HALF_INTERVAL: Final = 0.0006


@dataclass(frozen=True, slots=True)
class Imagined:
    """Devices, and the rows of those whose figures were made too low."""

    present: Present
    flawed: frozenset[int]


def imagine(
    hosts: int, seed: int, faults: Sequence[str] = (), *, gpus: int = 8, noise: Noise | None = None
) -> Imagined:
    """Return the first run of a simulated fleet; faults of files are not in it."""
    kind = catalogue_row(SKU)
    numbers = nominals(kind, linked=gpus > 1)
    plan = draw([fault_of(text) for text in faults], hosts, gpus, numbers, seed)
    logs = Boards(hosts, gpus, numbers, noise or Noise(), seed).run(0, seed) + plan.factors
    boards = range(hosts * gpus)
    devices = pd.DataFrame(
        {
            "sku": SKU, "method_version": 1, "power_limit_w": kind.tdp_w, "driver": DRIVER,
            "host": [host_name(board // gpus) for board in boards],
            "position": [board % gpus for board in boards],
            "device_id": [device_id(seed, *divmod(board, gpus)) for board in boards],
            "pci_subsystem_id": ["b" if board in plan.other_board else "a" for board in boards],
        }
    )  # fmt: skip
    metrics = tuple(
        Metric(
            f"{n.family} {n.label} {n.quantity}", n.family, n.label, n.quantity, n.unit, n.better,
            aspect_of(n.family, n.quantity, n.unit),
        )
        for n in numbers
    )  # fmt: skip
    nominal = np.array([m.sign * np.log(n.value) for m, n in zip(metrics, numbers, strict=True)])
    present = Present(devices, metrics, logs + nominal, np.full(logs.shape, _HALF_INTERVAL))
    return Imagined(present, frozenset(plan.flawed))
