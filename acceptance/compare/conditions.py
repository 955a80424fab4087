"""What differs between the two sides beside the figures: versions, limits, modes, neighbours.

A difference here judges nothing; it is said first, because it may be the reason of whatever the
rows show. Values of all runs of a side are put together, so that a side that is not of one piece
shows too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from roofprobe.acceptance.compare.comparison import SIMULATED, Remark
from roofprobe.acceptance.compare.sides import Pair, Place
from roofprobe.records.disturbed import disturbed_of
from roofprobe.records.schema import NOT_ALONE, Device, Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Fact(Generic[T]):
    """Something that should be the same on both sides; None where it is not known."""

    code: str
    what: str
    of: Callable[[T], object]


_RUN_FACTS: tuple[_Fact[Run], ...] = (
    _Fact("schema-version", "schema version", lambda run: run.schema_version),
    _Fact("method-version", "method version", lambda run: run.method_version),
    _Fact("roofprobe", "roofprobe", lambda run: run.environment.roofprobe),
    _Fact("tier", "tier", lambda run: run.options.tier),
    _Fact("host", "host", lambda run: run.environment.host),
    _Fact("torch", "torch", lambda run: run.environment.torch),
    _Fact("triton", "Triton", lambda run: run.environment.triton),
    _Fact("kernel", "Linux kernel", lambda run: run.environment.kernel),
    _Fact("container", "container", lambda run: run.environment.container),
)
_DEVICE_FACTS: tuple[_Fact[Device], ...] = (
    _Fact("device", "device", lambda device: device.name),
    _Fact("driver", "driver", lambda device: device.driver),
    _Fact("runtime", "runtime", lambda device: device.runtime),
    _Fact("units", "number of units", lambda device: device.unit_count),
    _Fact("memory", "bytes of memory", lambda device: device.memory_bytes),
    _Fact("power-limit", "power limit in W", lambda device: device.limits.power_limit_w),
    _Fact("sm-clock-limit", "greatest clock in MHz", lambda d: d.limits.max_sm_clock_mhz),
    _Fact("mem-clock-limit", "greatest memory clock in MHz", lambda d: d.limits.max_mem_clock_mhz),
    _Fact("ecc", "ECC mode", lambda device: device.limits.ecc_enabled),
    _Fact("mig", "MIG mode", lambda device: device.limits.mig_enabled),
    _Fact("persistence", "persistence mode", lambda device: device.limits.persistence_mode),
    _Fact("pcie-generation", "PCIe generation", lambda d: d.limits.pcie_generation_max),
    _Fact("pcie-width", "PCIe width", lambda device: device.limits.pcie_width_max),
)
_MOST_LIBRARIES = 5


def simulated_in(letter: str, runs: Sequence[Run]) -> Iterator[Remark]:
    """Yield what simulated runs say of themselves, each sentence once."""
    for sentence in dict.fromkeys(run.simulated for run in runs if run.simulated is not None):
        yield Remark(code=SIMULATED, sentence=f"nothing of {letter} was measured: {sentence}")


def warnings_of(a: Sequence[Run], b: Sequence[Run], pairs: Sequence[Pair]) -> tuple[Remark, ...]:
    """Return what differs or disturbs, the devices first."""
    return tuple(
        [
            *_pairing(pairs),
            *_run_facts(a, b),
            *_libraries(a, b),
            *(w for n, pair in enumerate(pairs) if pair.a and pair.b for w in _devices(n, pair)),
            *(w for letter, runs in (("A", a), ("B", b)) for w in _unfinished(letter, runs)),
        ]
    )


def _pairing(pairs: Sequence[Pair]) -> Iterator[Remark]:
    for number, pair in enumerate(pairs):
        if pair.record.pairing == "different-devices":
            yield Remark(
                code="different-devices",
                pair=number,
                sentence=f"{pair.record.sentence}; ratios tell how these two compare, not that "
                "one of them changed",
            )
        elif pair.record.pairing == "unpaired":
            name = pair.record.name_a or pair.record.name_b
            yield Remark(code="unpaired-device", pair=number,
                         sentence=f"{name} is {pair.record.sentence}")  # fmt: skip


def _run_facts(a: Sequence[Run], b: Sequence[Run]) -> Iterator[Remark]:
    for fact in _RUN_FACTS:
        left, right = ([fact.of(run) for run in side] for side in (a, b))
        yield from _difference(fact.code, fact.what, left, right)


def _libraries(a: Sequence[Run], b: Sequence[Run]) -> Iterator[Remark]:
    names = sorted({name for run in (*a, *b) for name in run.environment.libraries})
    found = [
        remark
        for name in names
        for remark in _difference(
            "library",
            name,
            [run.environment.libraries.get(name) for run in a],
            [run.environment.libraries.get(name) for run in b],
        )
    ]
    yield from found[:_MOST_LIBRARIES]
    if len(found) > _MOST_LIBRARIES:
        yield Remark(
            code="differs-library",
            sentence=f"{len(found) - _MOST_LIBRARIES} more libraries differ in version",
        )


def _devices(number: int, pair: Pair) -> Iterator[Remark]:
    for fact in _DEVICE_FACTS:
        if fact.code == "device" and pair.record.pairing == "different-devices":
            continue
        left, right = ([fact.of(device) for _, device in side] for side in (pair.a, pair.b))
        yield from _difference(fact.code, fact.what, left, right, number)
    for letter, places in (("A", pair.a), ("B", pair.b)):
        yield from _others(number, letter, places)
    reasons = [_throttled(places) for places in (pair.a, pair.b)]
    if reasons[0] != reasons[1]:
        told = [", ".join(sorted(side)) or "none" for side in reasons]
        yield Remark(
            code="differs-throttling",
            pair=number,
            sentence=f"reasons for low clocks: {told[0]} in A, {told[1]} in B",
        )


def _others(number: int, letter: str, places: Sequence[Place]) -> Iterator[Remark]:
    processes = {process for _, device in places for process in device.other_processes}
    if processes:
        yield Remark(
            code="other-processes",
            pair=number,
            sentence=f"{len(processes)} other processes were on the device in {letter}"
            if len(processes) > 1 else f"another process was on the device in {letter}",
            figures={"processes": float(len(processes))},
        )  # fmt: skip
    crowded = disturbed_of(
        m for run, device in places for m in run.measurements if m.device_id == device.device_id
    )
    if crowded:
        yield Remark(
            code=NOT_ALONE,
            pair=number,
            sentence=f"in {letter} others used the device during {len(crowded)} of "
            f"{crowded.measured} measurements; repeat on an idle host",
            figures={"share": len(crowded) / crowded.measured},
        )


def _throttled(places: Sequence[Place]) -> set[str]:
    return {
        reason
        for run, device in places
        for m in run.measurements
        if m.device_id == device.device_id and m.telemetry
        for reason in m.telemetry.throttle_reasons
    }


def _unfinished(letter: str, runs: Sequence[Run]) -> Iterator[Remark]:
    count = sum(run.status != "complete" for run in runs)
    if count:
        which = "the run" if len(runs) == 1 else f"{count} of {len(runs)} runs"
        yield Remark(code="incomplete-run", sentence=f"{which} of {letter} did not finish")


def _difference(
    code: str, what: str, a: Sequence[object], b: Sequence[object], pair: int | None = None
) -> Iterator[Remark]:
    """Tell a fact that is not one and the same; what one side does not know is no difference."""
    left, right = ({value for value in side if value is not None} for side in (a, b))
    if left and right and len(left | right) > 1:
        told = [", ".join(sorted(map(_told, side))) for side in (left, right)]
        yield Remark(
            code=f"differs-{code}", pair=pair, sentence=f"{what}: {told[0]} in A, {told[1]} in B"
        )


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
