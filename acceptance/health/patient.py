"""What the health checks look at: one device with its counters before and after, and its cases.

Counters run since the driver was loaded, so what they say about this run is their difference. A
counter that was not told at one end, or that went back (the driver was loaded anew), has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.acceptance.checks import finding
from roofprobe.records.schema import Device, Finding, Health, Measurement, Run

NOT_APPLICABLE = ("not-supported", "function-not-found", "mig-slice")


@dataclass(frozen=True, slots=True)
class Patient:
    """One device of a run: its health at both ends, and all that was measured on it."""

    device: Device
    before: Health | None
    after: Health | None
    measurements: tuple[Measurement, ...]

    @property
    def latest(self) -> Health | None:
        """Return the last reading that told anything."""
        readings = (self.after, self.before)
        return next((health for health in readings if health and health.source), None)

    @property
    def measured_s(self) -> float:
        """Return for how long the device was measured."""
        return sum(measurement.wall_s or 0.0 for measurement in self.measurements)

    def last(self, field: str) -> int | float | bool | None:
        """Return the value after the run; the one before it only where that was a sign already.

        What was fine before and was not told after may not be fine any more.
        """
        after = getattr(self.after, field) if self.after else None
        before = getattr(self.before, field) if self.before else None
        return after if after is not None else before or None

    def grown(self, field: str) -> int | None:
        """Return by how much a counter grew during the run; None where that is not known."""
        if self.before is None or self.after is None:
            return None
        return difference(getattr(self.before, field), getattr(self.after, field))

    def why_not(self, *fields: str) -> str:
        """Return the reason why ``fields`` were not told, in the words of what was asked."""
        if self.before is None and self.after is None:
            return "the record has none"
        for health in (self.after, self.before):
            for field in (*fields, "health"):
                if health is not None and field in health.missing:
                    return health.missing[field]
        lost = self.after.lost if self.after else None
        return lost or "not told at both ends of the run"


def patients_of(run: Run) -> tuple[Patient, ...]:
    """Return the devices of ``run`` as the health checks look at them."""
    return tuple(
        Patient(
            device,
            device.health_before,
            device.health_after,
            tuple(m for m in (*run.measurements, *run.retests) if m.device_id == device.device_id),
        )
        for device in run.devices
    )


def difference(first: int | None, last: int | None) -> int | None:
    """Return the growth of a counter, None where it is not told or went back."""
    if first is None or last is None or last < first:
        return None
    return last - first


def untold(
    code: str, patient: Patient, what: str, *fields: str, required: bool | None = None
) -> Finding:
    """Return the answer to a check for which ``fields`` were not told."""
    more = {} if required is None else {"required": required}
    return finding(
        code, "unknown", f"{what} is not known: {patient.why_not(*fields)}",
        device=patient.device, remedy=None, **more,
    )  # fmt: skip
