"""Is it what it is sold as: name, PCI id, units, memory, limits and links against the catalogue.

Whoever rents out one card as another, or a card that was cut back, changes what is easy to change.
So the statements of a device are held against each other and against the row of the catalogue that
its PCI id, or its name, belongs to. A device that the catalogue does not have is unknown, unless an
earlier run of the same device (by UUID) says what it was. A slice (MIG, vGPU) is not the card whose
name it carries: only a reference can judge it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.link_identity import links
from roofprobe.acceptance.verdict.subject import Subject, subjects
from roofprobe.peaks.find import UnknownAcceleratorError, find
from roofprobe.peaks.match import MEMORY_SHARE
from roofprobe.records.schema import Device, Finding, Judgement, Run

# Shares of the driver's own default, of the catalogue's TDP for that default, and of the boost
# clock. (lium-io#1071 refuses under 80 % of the default power limit.)
_POWER_FAIL, _POWER_WARN = 0.80, 0.99
_CLOCK_FAIL, _CLOCK_WARN = 0.80, 0.97
_SAME_MEMORY = 0.02  # what drivers reserve differs from version to version
_A_SLICE = (
    "It is a part of a card (MIG or vGPU): what the whole card should be and reach says nothing "
    "about it, an earlier run of the same part does"
)
_NO_ROW = "No catalogue row says what it should be"


def identity(run: Run, against: Sequence[Run] = ()) -> Iterator[Finding]:
    """Yield one finding per check and accelerator."""
    for subject in subjects(run):
        yield _identity(subject, against)
        yield _units(subject)
        yield _memory(subject)
        yield _power(subject)
        yield _clock(subject)
        yield from links(run, subject)


def _identity(subject: Subject, against: Sequence[Run]) -> Finding:
    device, match = subject.device, subject.match
    if match.contradiction and not subject.is_slice:
        return finding(
            "RP-IDENTITY", "fail" if _is_another(subject) else "unknown", match.contradiction,
            device=device, bound_source=_source(subject),
        )  # fmt: skip
    if match.accelerator is not None and not subject.is_slice:
        return finding(
            "RP-IDENTITY", "pass", match.reason, device=device, bound_source=_source(subject)
        )
    earlier = _earlier(device, against)
    if earlier is None:
        reason = _A_SLICE if subject.is_slice else match.reason
        return finding("RP-IDENTITY", "unknown", reason, device=device)
    differing = list(_differing(device, earlier))
    if differing:
        return finding(
            "RP-IDENTITY", "fail", f"It is not what it was: {'; '.join(differing)}", device=device,
            bound_source="an earlier run of the device with this UUID",
        )  # fmt: skip
    return finding(
        "RP-IDENTITY", "pass", f"{match.reason} It is what it was in an earlier run.",
        device=device, bound_source="an earlier run of the device with this UUID",
    )  # fmt: skip


def _is_another(subject: Subject) -> bool:
    """Whether a contradiction means another card, not just a name that nobody has seen yet."""
    row = subject.row
    if row is None:
        return True
    try:
        named = find(subject.device.name)
    except UnknownAcceleratorError as error:
        return bool(error.candidates) and row.name not in error.candidates
    return named.key != row.key


def _source(subject: Subject) -> str | None:
    row = subject.claimed
    if row is None:
        return None
    return f"{row.name} of the catalogue ({', '.join(row.sources.get('pci_ids', ())) or row.key})"


def _earlier(device: Device, against: Sequence[Run]) -> Device | None:
    known = (each for run in against for each in run.devices)
    return next((each for each in known if device.uuid and each.uuid == device.uuid), None)


def _differing(device: Device, earlier: Device) -> Iterator[str]:
    for field, words in (("name", "name"), ("pci_id", "PCI id"), ("unit_count", "units")):
        now, before = getattr(device, field), getattr(earlier, field)
        if now is not None and before is not None and now != before:
            yield f"{words} {now} instead of {before}"
    now, before = device.memory_bytes, earlier.memory_bytes
    if now and before and abs(now / before - 1) > _SAME_MEMORY:
        yield f"memory {now / 2**30:.1f} GiB instead of {before / 2**30:.1f}"


def _units(subject: Subject) -> Finding:
    device, row = subject.device, subject.claimed
    if row is None or row.unit_count is None or device.unit_count is None:
        told = _NO_ROW if row is None else "The number of its units is not told"
        return _not_told("RP-UNITS", subject, told)
    same = device.unit_count == row.unit_count
    return finding(
        "RP-UNITS", "pass" if same else "fail",
        f"It reports {device.unit_count} {device.unit}; {row.name} has {row.unit_count}",
        device=device, figure=float(device.unit_count), bound=float(row.unit_count),
        unit=device.unit, bound_source=_source(subject),
    )  # fmt: skip


def _memory(subject: Subject) -> Finding:
    device, row = subject.device, subject.claimed
    if row is None or row.mem_gb is None or not device.memory_bytes:
        told = _NO_ROW if row is None else "The size of its memory is not told"
        return _not_told("RP-MEMORY-SIZE", subject, told)
    gib = device.memory_bytes / 2**30
    low, high = MEMORY_SHARE
    right = low <= gib / row.mem_gb <= high
    return finding(
        "RP-MEMORY-SIZE", "pass" if right else "fail",
        f"It reports {gib:.1f} GiB of memory; {row.name} is sold with {row.mem_gb:g} GB",
        device=device, figure=gib, bound=(low if gib < high * row.mem_gb else high) * row.mem_gb,
        unit="GiB", bound_source=_source(subject),
    )  # fmt: skip


def _power(subject: Subject) -> Finding:
    """Hold the enforced power limit against the driver's default, and that against the TDP."""
    device, row, limits = subject.device, subject.row, subject.device.limits
    told = [limits.power_limit_w]
    told += [
        health.power_limit_w for health in (device.health_before, device.health_after) if health
    ]
    enforced = min((watts for watts in told if watts), default=None)
    tdp = row.tdp_w if row else None
    default = limits.default_power_limit_w
    held = [
        (share, watts, bound, words, source)
        for watts, bound, words, source in (
            (enforced, default or tdp, "power limit", "default" if default else "TDP"),
            (default, tdp, "default power limit", "TDP"),
        )
        if watts and bound and (share := watts / bound)
    ]
    if not held or enforced is None:
        return _not_told("RP-POWER-LIMIT", subject, "Its power limit is not told")
    share, watts, bound, words, source = min(held, key=lambda each: each[0])
    judgement = _graded(share, _POWER_FAIL, _POWER_WARN)
    bound_share = _POWER_FAIL if judgement == "fail" else _POWER_WARN
    return finding(
        "RP-POWER-LIMIT", judgement,
        f"Its {words} is {watts:.0f} W, {share:.0%} of the {source} of {bound:.0f} W",
        device=device, figure=watts, bound=bound_share * bound, unit="W",
        bound_source="the driver's default" if source == "default" else _source(subject),
    )  # fmt: skip


def _clock(subject: Subject) -> Finding:
    device, row = subject.device, subject.row
    highest = device.limits.max_sm_clock_mhz
    if row is None or row.boost_clock_mhz is None or not highest:
        told = _NO_ROW if row is None else "Its highest clock, or the card's, is not told"
        return _not_told("RP-CLOCK-LIMIT", subject, told)
    share = highest / row.boost_clock_mhz
    judgement = _graded(share, _CLOCK_FAIL, _CLOCK_WARN)
    bound_share = _CLOCK_FAIL if judgement == "fail" else _CLOCK_WARN
    return finding(
        "RP-CLOCK-LIMIT", judgement,
        f"Its clock may rise to {highest:.0f} MHz; {row.name} boosts to {row.boost_clock_mhz:.0f}",
        device=device, figure=highest, bound=bound_share * row.boost_clock_mhz, unit="MHz",
        bound_source=_source(subject),
    )  # fmt: skip


def _graded(share: float, fail_below: float, warn_below: float) -> Judgement:
    return "fail" if share < fail_below else "warn" if share < warn_below else "pass"


def _not_told(code: str, subject: Subject, sentence: str) -> Finding:
    return finding(
        code, "unknown", sentence, device=subject.device, required=False, remedy="probe doctor"
    )
