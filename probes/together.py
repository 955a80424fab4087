"""What several devices do together: collectives between all accelerators of a kind, or CPU ranks.

A worker has one device; an exchange has them all, so these cases run after the devices' own, in
processes of their own (``collectives``). On a host without accelerators two ranks on the processor
run the same code through Gloo: no network, but the way of measuring is the same and can be tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from roofprobe.kernels.collectives import BY_NAME
from roofprobe.probes.collective_cases import CollectiveCase, CollectiveResult, Effort
from roofprobe.probes.collectives import run_collectives
from roofprobe.records.schema import Case, Device, Measurement, Options

_KIB, _MIB = 1 << 10, 1 << 20
_CPU_RANKS = {"quick": (2,), "standard": (2,), "soak": (2, 4)}
_SIZES: dict[tuple[str, str], tuple[int, ...]] = {
    ("cpu", "quick"): (_MIB,),
    ("cpu", "standard"): (16 * _KIB, _MIB, 16 * _MIB),
    ("cpu", "soak"): (_KIB, 16 * _KIB, _MIB, 16 * _MIB, 64 * _MIB),
    ("gpu", "quick"): (_MIB, 256 * _MIB),
    ("gpu", "standard"): (_KIB, 32 * _KIB, _MIB, 32 * _MIB, 1024 * _MIB),
    ("gpu", "soak"): tuple(_KIB << power for power in range(0, 23, 2)),
}
_BACKENDS = {"cuda": "nccl", "rocm": "nccl", "cpu": "gloo"}
_EFFORT = {"cpu": Effort(max_time_s=0.4, samples=15), "gpu": Effort(max_time_s=0.5)}
_TIMEOUT_S = 60.0
_EXPECTED_S = {"cpu": 1.0, "gpu": 1.0}


@dataclass(frozen=True, slots=True)
class Group:
    """Devices that exchange data through one library, and the cases that they do."""

    devices: tuple[Device, ...]
    ranks: tuple[str, ...]
    backend: str
    cases: tuple[Case, ...]

    @property
    def expected_s(self) -> float:
        """Return about how long the cases take."""
        return len(self.cases) * _EXPECTED_S[_kind(self.devices[0])]


def groups(devices: Sequence[Device], options: Options) -> tuple[Group, ...]:
    """Return who exchanges data with whom: accelerators of a kind, or ranks on the processor."""
    if "interconnect" not in options.families:
        return ()
    made = []
    for backend, library in _BACKENDS.items():
        own = tuple(device for device in devices if device.backend == backend)
        if not own:
            continue
        if backend == "cpu":
            for count in _CPU_RANKS[options.tier]:
                made.append(_group(own, ("cpu",) * count, library, options))
        elif len(own) > 1:
            names = tuple(device.torch_device for device in own)
            made.append(_group(own, names, library, options))
    return tuple(made)


def measure(
    group: Group, wanted: Sequence[Case], keep: Callable[[Measurement], None], log: IO[bytes] | int
) -> None:
    """Measure ``wanted`` of a group's cases and hand each measurement to ``keep`` at once.

    Ranks that die, hang or raise end their case as failed within a minute.
    """
    by_id = {_id(_collective(case), len(group.ranks)): case for case in wanted}

    def kept(result: CollectiveResult) -> None:
        case = by_id[_id(result.case, len(group.ranks))]
        keep(_measurement(case, group, result))

    if wanted:
        run_collectives(
            group.ranks,
            group.backend,
            [_collective(case) for case in wanted],
            effort=_EFFORT[_kind(group.devices[0])],
            timeout_s=_TIMEOUT_S,
            keep=kept,
            log=log,
        )


def _group(
    devices: tuple[Device, ...], ranks: tuple[str, ...], library: str, options: Options
) -> Group:
    kind = _kind(devices[0])
    precision = "fp32" if kind == "cpu" else "bf16"
    cases = tuple(
        Case(
            case_id=_id(CollectiveCase(operation, precision, size), len(ranks)),
            family="interconnect",
            op=operation,
            precision=precision,
            route=library,
            shape={"bytes": size, "ranks": len(ranks)},
            convention="one-way",
        )
        for operation in BY_NAME
        for size in _SIZES[(kind, options.tier)]
    )
    return Group(devices, ranks, library, cases)


def _kind(device: Device) -> str:
    return "cpu" if device.backend == "cpu" else "gpu"


def _collective(case: Case) -> CollectiveCase:
    return CollectiveCase(case.op, case.precision, case.shape["bytes"])


def _id(case: CollectiveCase, ranks: int) -> str:
    return f"collective/{case.operation}/{case.precision}/x{ranks}/{case.size_bytes}"


def _measurement(case: Case, group: Group, result: CollectiveResult) -> Measurement:
    """Return the record of a result, under the first device; its rate is the bus bandwidth."""
    algorithm = result.algorithm_rate
    return Measurement(
        case=case,
        device_id=group.devices[0].device_id,
        status=result.status,
        reason=result.reason,
        notes=(result.note,) if result.note else (),
        latency=result.latency,
        rate=result.bus_rate,
        array_bytes=result.counted_bytes,
        kernel=result.call,
        kernel_config={
            "library": result.library,
            "ranks": result.world_size,
            "bus_factor": None if result.bus_factor is None else f"{result.bus_factor:.4g}",
            "algorithm_gbps": None if algorithm is None else f"{algorithm.median:.4g}",
        },
        correctness=result.correctness,
        timing=result.timing,
        samples_us=result.samples_us,
        started_at=result.started_at,
        wall_s=result.wall_s,
    )
