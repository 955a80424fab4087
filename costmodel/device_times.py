"""The Python interface for planners: times and efficiencies of a calibrated device, numpy only.

    times = roofprobe.load_calibration("calibration.json")
    times.time("gemm", m=[1, 64, 4096], n=6144, k=4096).median_s      # seconds, one per m
    times.efficiency("gemm", "fp8", m=4096, n=6144, k=4096).compute    # share of the dense peak
    roofprobe.plan("llama-3.1-8b", calibration=times)

Shapes broadcast like numpy arrays. Operations and their keywords are those of
`roofprobe.costmodel.forms.OP_CLASSES`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from roofprobe.costmodel import calibration, forms
from roofprobe.costmodel.calibration import Calibration, Estimate
from roofprobe.costmodel.correction import flags_of
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.planner import completed


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What an operation reaches: shares of the dense peak and of the memory's bandwidth.

    Both are work over time, so the larger one tells what binds the operation; neither is more
    than 1, but for bytes that stay in a cache. Collectives have the link in place of the memory.
    """

    compute: FloatArray
    memory: FloatArray


class DeviceTimes(Calibration):
    """A calibrated device; see the module docstring."""

    __slots__ = ()

    def time(
        self,
        op: str,
        precision: str = "bf16",
        *,
        kv_precision: str | None = None,
        **shape: ArrayLike,
    ) -> Estimate:
        """Return seconds: ``median_s``, ``p10_s``, ``p90_s`` (80 % interval) and ``flags``.

        Raises ``RoofprobeError`` for what was never measured, `ValueError` for wrong keywords.
        """
        return super().time(op, precision, kv_precision=kv_precision, **shape)

    def efficiency(
        self,
        op: str,
        precision: str = "bf16",
        *,
        kv_precision: str | None = None,
        **shape: ArrayLike,
    ) -> Efficiency:
        """Return the shares of peak and bandwidth that ``op`` reaches at its shapes.

        Raises what `time` raises.
        """
        seconds = self.time(op, precision, kv_precision=kv_precision, **shape).median_s
        rates = self._rates(precision)
        kv = (kv_precision or precision) if forms.OP_CLASSES[op].kv else None
        work = forms.count(op, precision, shape, rates, kv_precision=kv)
        speed = rates.link if work.on_link else rates.bandwidth
        assert speed is not None, "time() would have told"
        seconds = np.maximum(seconds, 1e-300)
        return Efficiency(work.flops / rates.flops / seconds, work.bytes / speed / seconds)

    def reasons(self, estimate: Estimate) -> tuple[str, ...]:
        """Return why times of ``estimate`` are less sure than their intervals, as sentences."""
        mask = int(np.bitwise_or.reduce(np.ravel(estimate.flags)))
        return tuple(flag.sentence for flag in flags_of(mask))


def load_calibration(path: str | os.PathLike[str], *, device: str | None = None) -> DeviceTimes:
    """Read a ``calibration.json`` or a run folder; ``device`` names one of several.

    Classes of operations that it never timed are filled from the package's defaults where the GPU
    is in the catalogue, with flags that say so. Raises ``RoofprobeError`` with what is wrong.
    """
    found = completed(calibration.load_calibration(Path(path), device=device))
    return DeviceTimes(found.device, found.provenance)
