"""What is left to measure: each device's cases, what followed from them, and who exchanges data.

A run that goes on is planned as a new one is, from the options in its journal, less what the
journal has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from roofprobe.probes import peers
from roofprobe.probes.plan import expected_s, follow_ups, plan_cases, policy_for
from roofprobe.probes.runner import Job, Planned
from roofprobe.probes.together import Group, groups
from roofprobe.records import journal
from roofprobe.records.schema import Case, Device, Measurement, Options
from roofprobe.reporting.progress_state import Expected


def jobs_of(
    devices: Sequence[Device], options: Options, past: Sequence[Measurement]
) -> tuple[Job, ...]:
    """Return each device's cases that are still to be measured, and what may follow from them.

    What followed from earlier measurements of a resumed run is planned as it was then. A case that
    time ran out for gets another chance. Transfers between devices come last, each by itself.
    """
    past = journal.settled(past)
    done = journal.done_keys(past)

    def left(device: Device, cases: Sequence[Case]) -> tuple[Planned, ...]:
        return tuple(
            _planned(case, device, options)
            for case in cases
            if (device.device_id, case.case_id) not in done
        )

    jobs = []
    for device in devices:
        known = plan_cases(device, options)
        following = _Following(device, options)
        followed: dict[str, tuple[Case, ...]] = {}
        for measurement in past:
            if measurement.device_id == device.device_id and measurement.case.retest is None:
                followed[measurement.case.case_id] = following.cases(measurement)

        cases = [each for case in known for each in _expanded(case, followed)]
        jobs.append(Job(device, left(device, cases), following))
    between = peers.by_source(devices, options)
    return (*jobs, *(Job(device, left(device, cases), alone=True) for device, cases in between))


def exchanges_of(
    devices: Sequence[Device], options: Options, past: Sequence[Measurement]
) -> tuple[tuple[Group, tuple[Case, ...]], ...]:
    """Return who exchanges data with whom, and which of their cases are still to be measured."""
    done = {case_id for _, case_id in journal.done_keys(journal.settled(past))}
    found = groups(devices, options)
    return tuple(
        (group, tuple(case for case in group.cases if case.case_id not in done)) for group in found
    )


def expected_of(
    jobs: Sequence[Job], exchanges: Sequence[tuple[Group, Sequence[Case]]]
) -> list[Expected]:
    """Return every case that is to be measured, and how long each should take."""
    alone = [(job.device.device_id, case, s) for job in jobs for case, _, s in job.cases]
    together = [
        (group.devices[0].device_id, case, group.expected_s / len(group.cases))
        for group, wanted in exchanges
        for case in wanted
    ]
    return alone + together


def _expanded(case: Case, followed: Mapping[str, Sequence[Case]]) -> Iterator[Case]:
    """Yield a case, then what followed from it, with what followed from that."""
    yield case
    for more in followed.get(case.case_id, ()):
        yield from _expanded(more, followed)


class _Following:
    """What each measurement of one device calls for, in the light of those before it."""

    def __init__(self, device: Device, options: Options) -> None:
        self._device, self._options = device, options
        self._earlier: list[Measurement] = []

    def cases(self, measurement: Measurement) -> tuple[Case, ...]:
        more = follow_ups(measurement, self._earlier, self._device, self._options)
        self._earlier.append(measurement)
        return more

    def __call__(self, measurement: Measurement) -> tuple[Planned, ...]:
        return tuple(
            _planned(case, self._device, self._options) for case in self.cases(measurement)
        )


def _planned(case: Case, device: Device, options: Options) -> Planned:
    return case, policy_for(case, device, options), expected_s(case, device, options)
