"""calculon: a system with curves of efficiency over the size of an operation.

The only planner that takes curves: step functions, the first threshold at or below an operation's
GFLOP (or MB) wins, so thresholds fall, end with 0, and are dense (every factor of two) lest an
operation be taken for a far smaller one. Each step is the geometric mean of the share of the peak
that products of that size reach, over the weights of the models and all tokens counts at which
arithmetic decides; fixed times are inside. In the mode ``roofline`` calculon takes the larger of
arithmetic and memory, as the calibrated form nearly does; in its ``no_overlap`` it would add them.
Bandwidths are 10^9 bytes/s, memory is GiB, latencies are seconds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from roofprobe.costmodel.exporters.files import Export, figures, json_bytes
from roofprobe.costmodel.exporters.subject import Subject, local_ops
from roofprobe.costmodel.forms import ELEMENTWISE_BYTES, FORMATS
from roofprobe.records.errors import RoofprobeError

# Its data types → ours, in order of preference.
DTYPES: Final = {
    "float8": ("fp8", "fp8-block"), "float16": ("fp16", "bf16", "fp32"),
    "bfloat16": ("bf16", "fp16", "fp32"), "float32": ("fp32",),
}  # fmt: skip
_ROWS: Final = tuple(2**power for power in range(17))
_OCTAVES_MB: Final = range(-10, 14)
LEAST_STEPS: Final = 8
_LEAST: Final = 1e-4  # efficiencies must be above 0


def export(subject: Subject) -> Export:
    """Return the system file.

    Raises ``RoofprobeError`` (``nothing-to-export``) where no product can be timed.
    """
    hardware = subject.calibration.hardware
    assert hardware.bandwidth is not None, "it could not be timed without"
    timed = subject.precisions("gemm")
    matrix = {}
    for name, ours in DTYPES.items():
        known = [one for one in ours if one in timed]
        if known:
            peak = hardware.peak_flops[FORMATS[known[0]].peak]
            matrix[name] = {
                "tflops": figures(peak / 1e12),
                "gflops_efficiency": product_steps(subject, known[0]),
            }
    if not matrix:
        raise RoofprobeError(
            "nothing-to-export", f"{subject.source} times no matrix product that calculon knows"
        )
    vector = hardware.peak_flops.get("fp32") or max(hardware.peak_flops.values())
    memory = memory_steps(subject)
    link = subject.calibration.fits("all_reduce", subject.base)
    system = {
        "name": subject.label,
        "matrix": matrix,
        # Vector operations stream; the memory's curve decides them, not this one.
        "vector": {
            name: {"tflops": figures(vector / 1e12), "gflops_efficiency": [[0, 1.0]]}
            for name in matrix
        },
        "mem1": {
            "GiB": figures((hardware.memory_bytes or 0) / 2**30),
            "GBps": figures(hardware.bandwidth / 1e9),
            "MB_efficiency": memory,
        },
        "mem2": {"GiB": 0, "GBps": 64, "MB_efficiency": [[0, 1.0]]},
        "processing_mode": "roofline",
        "networks": [
            {
                "bandwidth": figures((hardware.link or 64e9) / 1e9),
                "efficiency": figures(min(1.0, link[0].memory_efficiency) if link else 0.8, 4),
                "size": max(subject.degrees),
                "latency": figures(link[0].t0_us * 1e-6, 4) if link else 1e-5,
                "ops": {
                    "p2p": [1.0, None],
                    "reduce_scatter": [1.0, -1],
                    "all_gather": [1.0, -1],
                    "all_reduce": [2.0, -1],
                },
                "must_be_filled": False,
                "processor_usage": 0.0,
            }
        ],
    }
    return Export({f"{subject.label}.json": json_bytes(system)}, modelled=len(memory))


def product_steps(subject: Subject, precision: str) -> list[list[float]]:
    """Return [GFLOP, efficiency] of products, the largest first, the last threshold 0."""
    sites = list(local_ops(subject, "gemm"))
    m = np.tile(_ROWS, len(sites)).astype(float)
    n, k = (np.repeat([site[name] for site in sites], len(_ROWS)) for name in ("n", "k"))
    seconds = subject.calibration.time("gemm", precision, m=m, n=n, k=k).median_s
    peak = subject.calibration.hardware.peak_flops[FORMATS[precision].peak]
    bandwidth = subject.calibration.hardware.bandwidth or 1.0
    flops = 2 * m * n * k
    f = FORMATS[precision]
    moved = f.activation_bytes * m * k + f.weight_bytes * n * k + f.output_bytes * m * n
    decided = flops / peak > moved / bandwidth
    return _steps(flops[decided] / 1e9, (flops / peak / seconds)[decided])


def memory_steps(subject: Subject) -> list[list[float]]:
    """Return [MB, efficiency] of what streams: the run's own curve, else that of norms."""
    bandwidth = subject.calibration.hardware.bandwidth or 1.0
    curve = subject.calibration.device.stream_curve.get("copy") or ()
    if len(curve) >= LEAST_STEPS:
        sizes = np.array([point.bytes for point in curve])
        return _steps(sizes / 1e6, np.array([point.gbps for point in curve]) * 1e9 / bandwidth)
    if not subject.calibration.fits("rmsnorm", subject.base):
        return [[0, 1.0]]
    sizes = np.array([2.0**octave * 1e6 for octave in _OCTAVES_MB])
    width = 1024.0
    rows = sizes / ELEMENTWISE_BYTES["rmsnorm"] / width
    seconds = subject.calibration.time("rmsnorm", subject.base, rows=rows, width=width).median_s
    return _steps(sizes / 1e6, sizes / bandwidth / seconds)


def _steps(sizes: np.ndarray, efficiency: np.ndarray) -> list[list[float]]:
    """Return the geometric mean of each octave of sizes as a falling staircase that ends at 0."""
    octave = np.floor(np.log2(sizes))
    found = [
        [float(2.0**low), figures(min(1.0, max(_LEAST, _mean(efficiency[octave == low]))), 4)]
        for low in np.unique(octave)[::-1]
    ]
    found[-1][0] = 0.0
    return found


def _mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values))))
