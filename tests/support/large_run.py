"""A run of eight H100s as large as such runs become, to see what a report of it costs.

Its cases are those that are really planned at the standard tier, with what follows from searches;
looks, traces and kernels' names are as long as real ones. Its figures are those of `h100_run`, in
which nothing was measured.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Final

from roofprobe.probes.plan import follow_ups, plan_cases
from roofprobe.records.schema import (
    Case,
    Device,
    KernelIdentity,
    Measurement,
    Options,
    Run,
    Search,
    SearchStep,
    Span,
    Telemetry,
    TracePoint,
)

OPTIONS: Final = Options(
    families=("compute", "memory", "latency", "launch", "interconnect", "llm"), tier="standard"
)
_KERNEL: Final = (
    "sm90_xmma_gemm_{0}{0}_{0}f32_f32_tn_n_tilesize{1}x{2}x64_warpgroupsize1x1x1_execute_segment_k_"
    "off_kernel__5x_cublas"
)
_LOOKS: Final = 200  # of one search; a host with two cores was seen to take 104 to 309
_TRACED: Final = 40  # readings of the sensors in a settled case


def _h100() -> ModuleType:
    name = "tests.support.h100_run"
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, Path(__file__).parent / "h100_run.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def large_run(n_devices: int = 8, per_device: int = 2_000) -> Run:
    """Return a run with ``per_device`` measurements on each of ``n_devices``.

    Where the plan has fewer, its cases are measured again at other sizes, as a longer sweep would.
    """
    h100 = _h100()
    chance = random.Random(0)
    made: Run = h100.run(n_devices)
    measurements = []
    for device in made.devices:
        own = list(_measured(h100, device, chance))
        missing = max(0, per_device - len(own))
        own += [_elsewhere(m, number) for number, m in enumerate(own[:missing])]
        measurements += own[:per_device]
    planned = {
        device.device_id: tuple(case.case_id for case in plan_cases(device, OPTIONS))
        for device in made.devices
    }
    run: Run = h100.finished(
        made.model_copy(
            update={"options": OPTIONS, "measurements": tuple(measurements), "planned": planned}
        )
    )
    return run


def _measured(h100: ModuleType, device: Device, chance: random.Random) -> Iterator[Measurement]:
    earlier: list[Measurement] = []
    for case in plan_cases(device, OPTIONS):
        left = [case]
        while left:
            found = _dressed(h100.measured(left.pop(0), device), chance)
            left += follow_ups(found, earlier, device, OPTIONS)
            earlier.append(found)
            yield found


def _dressed(m: Measurement, chance: random.Random) -> Measurement:
    """Give a measurement the spread, the kernel, the search and the trace of a real one."""
    if m.status != "ok":
        return m
    rate = m.rate
    if rate is not None:
        noise = 1 + chance.gauss(0, 0.01)
        parts = ("median", "ci_low", "ci_high", "p10", "p90", "best")
        rate = rate.model_copy(update={part: getattr(rate, part) * noise for part in parts})
    tile = chance.choice((64, 128, 256)), chance.choice((64, 128, 256))
    name = _KERNEL.format(m.case.precision.replace("-", ""), *tile)
    matmul = m.case.op in ("gemm", "search")
    sizes = m.case.shape
    changes = {
        "rate": rate,
        **(_moved(sizes) if sizes.keys() == {"m", "n", "k"} and m.flops else {}),
        "identity": KernelIdentity(names=(name,), library="cuBLAS", instruction="wgmma")
        if matmul
        else None,
        "search": _search(m.case, chance) if m.case.role == "search" else None,
        "telemetry": _telemetry(chance) if m.case.regime == "settled" else m.telemetry,
    }
    return m.model_copy(update=changes)


def _moved(shape: dict[str, int]) -> dict[str, int]:
    m, n, k = (shape[name] for name in "mnk")
    return {"bytes_read": 2 * (m + n) * k, "bytes_written": 2 * m * n}


def _telemetry(chance: random.Random) -> Telemetry:
    def point(number: int) -> TracePoint:
        return TracePoint(
            at_s=number / 8, sm_clock_mhz=1980 - 5 * number + chance.gauss(0, 9),
            power_w=680 + chance.gauss(0, 9), temperature_c=50 + number / 4,
        )  # fmt: skip

    return Telemetry(
        n_samples=_TRACED,
        sm_clock_mhz=Span(min=1740, median=1800, max=1980),
        power_w=Span(min=640, median=690, max=700),
        trace=tuple(map(point, range(_TRACED))),
    )


def _search(case: Case, chance: random.Random) -> Search:
    shapes = [(m, n, k) for m in (2048, 4096, 8192) for n in (4096, 5120, 8192)
              for k in (2048, 4096, 7168)]  # fmt: skip
    steps = tuple(
        SearchStep(
            stage=("anchor", "seed", "halving 1", "halving 2", "climb")[number * 5 // _LOOKS],
            shape=shapes[0] if number % 10 == 0 else chance.choice(shapes),
            tflops=700 + chance.gauss(0, 30), score=700 + chance.gauss(0, 30),
            anchor_ratio=1 + chance.gauss(0, 0.01), at_s=number * 0.05, seconds=0.05,
        )
        for number in range(_LOOKS)
    )  # fmt: skip
    return Search(
        method="halving", route=case.route, seed=0, sentence="27 of 27 shapes were looked at.",
        elapsed_s=_LOOKS * 0.05, candidates=len(shapes), pruned=0, anchor=shapes[0],
        best=shapes[13], best_tflops=760.0, steps=steps,
    )  # fmt: skip


def _elsewhere(m: Measurement, number: int) -> Measurement:
    shape = {name: size + 16 * (number + 1) for name, size in m.case.shape.items()}
    case = m.case.model_copy(update={"case_id": f"{m.case.case_id}/{number}", "shape": shape})
    return m.model_copy(update={"case": case, "search": None})
