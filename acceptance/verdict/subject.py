"""What a device is taken for when it is judged: recognised anew from what it reports.

The record's own word for it (``catalogue_key``) is not asked: names and keys are what somebody who
sells one card as another would change, and the catalogue may have learnt since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.match import Match, identify, is_part
from roofprobe.peaks.names import normalise_name
from roofprobe.records.schema import Device, Run


@dataclass(frozen=True, slots=True)
class Subject:
    """A device with what the catalogue makes of it."""

    device: Device
    match: Match

    @property
    def row(self) -> Accelerator | None:
        """The catalogue row that the device is, as one device sees it; None where unknown."""
        return self.match.accelerator

    @property
    def claimed(self) -> Accelerator | None:
        """The row, or where something speaks against it the one card that it claims to be."""
        if self.row is not None or self.is_slice or len(self.match.candidates) != 1:
            return self.row
        return load()[self.match.candidates[0]].per_device()

    @property
    def is_slice(self) -> bool:
        """Whether this is a part of a card (MIG, vGPU), which no row of whole cards describes."""
        return bool(self.device.limits.mig_enabled) or is_part(self.device.name)

    @property
    def kind(self) -> str:
        """What equal devices have in common: their row, or else their name."""
        return self.row.key if self.row else f"name {normalise_name(self.device.name)}"


def subject_of(device: Device) -> Subject:
    """Recognise a device by the facts in its record."""
    match = identify(
        name=device.name,
        pci_id=device.pci_id,
        pci_subsystem_id=device.pci_subsystem_id,
        memory_gib=device.memory_bytes / 2**30 if device.memory_bytes else None,
        unit_count=device.unit_count,
    )
    return Subject(device, match)


def subjects(run: Run) -> Iterator[Subject]:
    """Yield the accelerators of a run; a processor is no product of the catalogue."""
    for device in run.devices:
        if device.backend != "cpu":
            yield subject_of(device)


def with_rows(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Return devices whose ``catalogue_key`` is what their facts say, whatever it said before."""
    return tuple(
        device
        if device.backend == "cpu"
        else device.model_copy(
            update={"catalogue_key": row.key if (row := subject_of(device).row) else None}
        )
        for device in devices
    )
