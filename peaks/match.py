"""Which catalogue row is this device?

A wrong row gives a wrong ceiling and with it a wrong verdict, so a device is recognised by exact
identity or not at all: its PCI device id, else its whole driver name. Never by a part of a name:
"H20" begins "H200", "GH200" contains it, A40 is not RTX A4000, a Laptop GPU is not the desktop
card, and a MIG slice or a vGPU is not the whole card whose name it carries. A device that reports
another number of units or another memory size than the row is a slice or a variant, and stays
unknown as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.find import UnknownAcceleratorError, find
from roofprobe.peaks.names import normalise_name, normalise_pci_id, shown

__all__ = [
    "MEMORY_SHARE",
    "How",
    "Match",
    "UnknownAcceleratorError",
    "find",
    "identify",
    "is_part",
]

How = Literal["pci", "pci+name", "name", "none"]

# A driver shows less than the vendor prints (ECC, reserved memory), down to 0.91 on GDDR6 cards;
# the bounds leave room for that and still keep 40 and 80 GB, or 96 and 141, apart.
MEMORY_SHARE: Final = (0.85, 1.10)

# "NVIDIA A100-SXM4-80GB MIG 1g.10gb"; vGPU profiles: "GRID T4-16Q", "NVIDIA A40-48C".
_PART: Final = re.compile(r"\bmig\b|\bgrid\b|[a-z0-9]-[0-9]{1,3}[abcqv]$")


@dataclass(frozen=True, slots=True)
class Match:
    """What a device was recognised as.

    ``accelerator`` is the row as one device sees it (`Accelerator.per_device`), or None; ``how``
    says what decided, ``reason`` says it in a sentence, ``candidates`` are the keys of rows that
    came near. ``contradiction`` is a sentence when the device's own statements disagree (a name
    that belongs to another PCI id, a unit count or memory size that the card does not have).
    """

    accelerator: Accelerator | None
    how: How
    reason: str
    candidates: tuple[str, ...] = ()
    contradiction: str | None = None


def identify(
    *,
    name: str | None = None,
    pci_id: str | None = None,
    pci_subsystem_id: str | None = None,
    memory_gib: float | None = None,
    unit_count: int | None = None,
) -> Match:
    """Recognise a device by what it reports; unknown stays unknown, with the reason.

    ``pci_id`` and ``pci_subsystem_id`` are vendor:device in hexadecimal ("10de:2330"),
    ``memory_gib`` the total memory, ``unit_count`` the SMs or CUs of this device. The PCI id
    decides; the name is used without one, and to tell rows of one id apart. Never raises.
    """
    pci = normalise_pci_id(pci_id) if pci_id else None
    subsystem = normalise_pci_id(pci_subsystem_id) if pci_subsystem_id else None
    known = normalise_name(name) if name else ""
    by_pci = [row for row in load() if pci in row.pci_ids] if pci else []
    by_name = [
        row for row in load() if known and known in {normalise_name(n) for n in row.driver_names}
    ]
    if name and is_part(name):
        return _none(f"{shown(name)} is a part of a card (MIG or vGPU), not the whole.", by_pci)
    if not by_pci:
        return _by_name(name or "", pci, by_name, memory_gib, unit_count)

    rows = [row for row in by_pci if subsystem not in row.excluded_subsystem_ids]
    if not rows:
        return _none(f"Board {subsystem} with PCI id {pci} is another product.", by_pci)
    how: How = "pci"
    contradiction = None
    if by_name:
        both = [row for row in rows if row in by_name]
        if both:
            rows, how = both, "pci+name"
        else:
            contradiction = (
                f"The driver calls it {shown(name or '')}, which is {_names(by_name)}, but PCI id "
                f"{pci} is {_names(rows)}."
            )
    elif name and all(row.driver_names and row.vendor == "NVIDIA" for row in rows):
        contradiction = (
            f"PCI id {pci} is {_names(rows)}, but the driver calls it {shown(name)}, which is none "
            "of its names."
        )
    if len(rows) > 1 and subsystem:
        rows = [row for row in rows if subsystem in row.pci_subsystem_ids] or rows
    return _settle(rows, how, f"PCI id {pci}", memory_gib, unit_count, contradiction)


def is_part(name: str) -> bool:
    """Whether a driver's name says that this is a part of a card: a MIG slice or a vGPU."""
    return _PART.search(name.strip().casefold()) is not None


def _by_name(
    name: str,
    pci: str | None,
    rows: list[Accelerator],
    memory_gib: float | None,
    unit_count: int | None,
) -> Match:
    called = f"name {shown(name)}" if name else ""
    if not rows:
        told = " or ".join(text for text in (f"PCI id {pci}" if pci else "", called) if text)
        if not told:
            return _none("The device reports neither a PCI id nor a name.", [])
        return _none(f"No catalogue row has {told}.", [])
    if pci and all(row.pci_ids for row in rows):
        ids = ", ".join(pci_id for row in rows for pci_id in row.pci_ids)
        reason = f"The {called} is {_names(rows)}, whose PCI id is {ids}, not {pci}."
        return Match(None, "none", reason, _keys(rows), contradiction=reason)
    return _settle(rows, "name", called, memory_gib, unit_count, None)


def _settle(
    rows: list[Accelerator],
    how: How,
    told: str,
    memory_gib: float | None,
    unit_count: int | None,
    contradiction: str | None,
) -> Match:
    """Choose among rows by memory and units, then check the chosen one against both."""
    faults = {row.key: _fault(row, memory_gib, unit_count) for row in rows}
    fitting = [row for row in rows if faults[row.key] is None]
    if len(fitting) > 1:
        return Match(
            None,
            "none",
            f"Several rows have {told}, and nothing reported tells them apart: {_names(fitting)}.",
            _keys(fitting),
            contradiction,
        )
    if not fitting:
        fault = f"By {told} it is {_names(rows)}, but {faults[rows[0].key]}."
        return Match(
            None,
            "none",
            fault + " A part of the card, a variant, or a false identity.",
            _keys(rows),
            contradiction or fault,
        )
    row = fitting[0]
    device = row if unit_count is not None and unit_count == row.unit_count else row.per_device()
    return Match(device, how, f"{device.name} by {told}.", (row.key,), contradiction)


def _fault(row: Accelerator, memory_gib: float | None, unit_count: int | None) -> str | None:
    """What speaks against a row: units or memory that neither its device nor its module has."""
    device = row.per_device()

    def differs(fits: Callable[[Accelerator], bool]) -> bool:
        return not fits(row) and not fits(device)

    if unit_count and row.unit_count and differs(lambda it: it.unit_count == unit_count):
        return f"it reports {unit_count} {row.unit_kind} instead of {device.unit_count}"
    low, high = MEMORY_SHARE
    if (
        memory_gib
        and row.mem_gb
        and differs(lambda it: low <= memory_gib / (it.mem_gb or 1) <= high)
    ):
        return f"it reports {memory_gib:.1f} GiB of memory instead of {device.mem_gb:g} GB"
    return None


def _none(reason: str, rows: list[Accelerator]) -> Match:
    return Match(None, "none", reason, _keys(rows))


def _keys(rows: list[Accelerator]) -> tuple[str, ...]:
    return tuple(row.key for row in rows)


def _names(rows: list[Accelerator]) -> str:
    return " or ".join(row.name for row in rows)
