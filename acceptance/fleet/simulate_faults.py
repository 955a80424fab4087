"""The faults that a simulated fleet can have, as words for a command line, and as truth.

A fault is ``KIND:COUNT[:EFFECT][:DETAIL]``: ``slow-gpu:3:5%`` makes three devices 5 % slower in all
that they do, ``slow-gpu:2:5%:fp8`` in one line only. ``COUNT`` is of devices or hosts as the table
says, or a share of them (``30%``). Devices and hosts are drawn from the seed, each at most once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Record

Of = Literal["device", "host"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault is drawn from, and the effect and detail it has if none is given."""

    of: Of
    effect: float | None
    detail: str | None
    sentence: str


KINDS: Final[dict[str, Kind]] = {
    "slow-gpu": Kind(
        "device", 0.05, "all",
        "slower in all, compute, memory, or the line or precision that DETAIL names",
    ),
    "wrong-sku": Kind(
        "device", None, "nvidia_h100_pcie_80gb",
        "figures and clocks of the catalogue's row DETAIL under the name of another",
    ),
    "throttling-rack": Kind(
        "host", 0.08, None, "all devices settle lower, at a lower clock, and hotter"
    ),
    "variant": Kind("host", 0.03, None, "boards of another subsystem id, slower in compute"),
    "missing-host": Kind("host", None, None, "expected, but without a file"),
    "missing-gpu": Kind("host", None, None, "one device of the host is not there in the last run"),
    "drift": Kind("device", 0.01, None, "loses EFFECT in compute with each further run"),
    "driver-update": Kind("host", 0.04, None, "another driver from the middle run on, and slower"),
    "truncated": Kind("host", None, None, "the last run's file ends in the middle"),
    "duplicate": Kind("host", None, None, "the last run's file lies there a second time"),
    "duplicate-uuid": Kind("host", None, None, "a device carries the UUID of another host's"),
    "incomplete": Kind("host", None, None, "the last run was cut short"),
    "own-fail": Kind("device", None, None, "failed the run's own checks"),
}  # fmt: skip


class PlantedFault(Record):
    """A fault that is in the fleet, and where: ``devices`` are ids, ``hosts`` names."""

    kind: str
    effect: float | None = None
    detail: str | None = None
    hosts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class Truth(Record):
    """What is true of a simulated fleet. ``flawed`` are the devices whose figures are too low."""

    sentence: str
    seed: int
    hosts: int
    gpus: int
    runs: int
    sku: str
    driver: str
    faults: tuple[PlantedFault, ...] = ()
    flawed: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    metrics_per_device: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A fault as it was asked for: ``count`` of devices or hosts, or a ``share`` of them."""

    kind: str
    count: int
    share: float | None
    effect: float | None
    detail: str | None

    def of(self, total: int) -> int:
        """Return how many of ``total`` it concerns."""
        return self.count if self.share is None else max(1, round(self.share * total))


def fault_of(text: str) -> Wanted:
    """Return the fault that ``text`` names; raises ``RoofprobeError`` (``bad-fault``)."""
    name, *rest = text.split(":")
    kind = KINDS.get(name)
    if kind is None:
        raise RoofprobeError(
            "bad-fault", f"there is no fault {name!r}; choose of {', '.join(KINDS)}"
        )
    try:
        share = _share(rest[0]) if rest and rest[0].endswith("%") else None
        count = int(rest[0]) if rest and share is None else 1
        effect = _share(rest[1]) if len(rest) > 1 and rest[1] else kind.effect
    except ValueError:
        count, share, effect = 0, None, None
    if count < 1 or len(rest) > 3:
        raise RoofprobeError(
            "bad-fault",
            f"{text!r} is no fault; write KIND:COUNT[:EFFECT][:DETAIL], as slow-gpu:3:5%:fp8",
        )
    return Wanted(name, count, share, effect, rest[2] if len(rest) > 2 else kind.detail)


def _share(text: str) -> float:
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < value < 1:
        raise ValueError(text)
    return value
