"""Timed operations on their way to a fit: one class, precision, device and kernel at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.forms import OP_CLASSES, FloatArray


@dataclass(frozen=True, slots=True)
class Points:
    """Latencies of one operation at many shapes, all by one kernel of one framework on one GPU.

    ``device`` is the name or system as the source has it; ``kernel`` what ran, where told.
    ``shape`` holds one flat array per shape keyword, ``latency_s`` seconds.
    """

    op: str
    precision: str
    kv_precision: str | None
    device: str
    framework: str | None
    kernel: str | None
    source: str
    shape: Mapping[str, FloatArray]
    latency_s: FloatArray

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.latency_s)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        """Return some of the rows."""
        return Points(
            self.op, self.precision, self.kv_precision, self.device, self.framework, self.kernel,
            self.source, {name: values[rows] for name, values in self.shape.items()},
            self.latency_s[rows],
        )  # fmt: skip

    def sites(self) -> tuple[FloatArray, NDArray[np.intp]]:
        """Return the distinct sites (rows of site keywords) and each row's site number."""
        keys = np.stack([self.shape[name] for name in OP_CLASSES[self.op].site], 1)
        found, number = np.unique(keys, axis=0, return_inverse=True)
        return found, number.reshape(-1)

    def describe(self) -> str:
        """Return the words for people: operation, precision, framework and kernel."""
        kv = f", KV {self.kv_precision}" if self.kv_precision else ""
        told = ", ".join(text for text in (self.framework, self.kernel) if text)
        return f"{self.op} {self.precision}{kv}" + (f" ({told})" if told else "")
