"""Are its links what they should be: PCIe generation and width under load, and active NVLinks.

A PCIe link that idles falls back to generation 1, so only what was seen while data crossed it
counts, and the best moment of each transfer, since it trains up within the first. Virtual machines
invent their slots: what device and slot say that they can do is held against the catalogue with a
warning at most. What the link did under load, against what it says that it can do, is a matter of
fact: at less than half, a riser, a slot or the card is faulty.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from roofprobe.acceptance.bands import load_bands
from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.subject import Subject
from roofprobe.peaks.links import PCIE_FULL_WIDTH, pcie_peak_gbps
from roofprobe.records.schema import Finding, Judgement, Run

_HALF = 0.49  # with room for the frames of generation 6, which leave other than half
_MOST_LANES = 32  # that the PCIe specification has; more is a misreading
_LEAST_WIDTH = 8  # some cards have no more lanes
_SOCKETED = ("SXM", "OAM", "SUPERCHIP")  # their NVLinks are on the board; others need a bridge


def links(run: Run, subject: Subject) -> Iterator[Finding]:
    """Yield what there is to say about PCIe and NVLink of one device."""
    yield _pcie(run, subject)
    yield _nvlink(run, subject)


def _pcie(run: Run, subject: Subject) -> Finding:
    device, limits, row = subject.device, subject.device.limits, subject.row
    generation, width = limits.pcie_generation_max, limits.pcie_width_max
    if limits.c2c_link_count:
        return _not_told("RP-PCIE", subject, "A processor in the same module has links of its own")
    if not generation or not width:
        return _not_told("RP-PCIE", subject, "What its PCIe link can do is not told")
    could, loaded = f"Gen{generation} x{width}", _under_load(run, device.device_id)
    own = limits.pcie_generation_gpu_max
    short: list[tuple[Judgement, str]] = []
    if loaded is not None:
        now, able = pcie_peak_gbps(*loaded), pcie_peak_gbps(generation, width)
        if now and able and now < able:
            judgement: Judgement = "fail" if now < _HALF * able else "warn"
            short.append(
                (
                    judgement,
                    f"under load its PCIe link was Gen{loaded[0]} x{loaded[1]} and can be {could}",
                )
            )
    printed = row.pcie_gen if row else None
    if printed and own and own < printed:
        short.append(("warn", f"the device says PCIe Gen{own}, its kind is sold with Gen{printed}"))
    elif printed and generation < printed:
        short.append(("warn", f"device and slot allow Gen{generation} of the card's Gen{printed}"))
    if width < (PCIE_FULL_WIDTH if _is_socketed(subject) else _LEAST_WIDTH):
        short.append(("warn", f"device and slot allow only x{width}"))
    if short:
        worst: Judgement = "fail" if any(judgement == "fail" for judgement, _ in short) else "warn"
        sentence = "; ".join(words for _, words in short)
        return _told(subject, worst, sentence[0].upper() + sentence[1:], generation, width, loaded)
    if loaded is None:
        return _not_told("RP-PCIE", subject, f"It can do {could}; under load nobody looked")
    return _told(subject, "pass", f"{could}, under load too", generation, width, loaded)


def _told(
    subject: Subject,
    judgement: Judgement,
    sentence: str,
    generation: int,
    width: int,
    loaded: tuple[int, int] | None,
) -> Finding:
    return finding(
        "RP-PCIE", judgement, sentence, device=subject.device,
        figure=pcie_peak_gbps(*loaded) if loaded else None,
        bound=pcie_peak_gbps(generation, width) if loaded else None,
        unit="GB/s one way" if loaded else None,
        bound_source="what the driver says that device and slot can do together",
    )  # fmt: skip


def _under_load(run: Run, device_id: str) -> tuple[int, int] | None:
    """Return generation and width that the link had in a typical transfer with the host."""
    seen = [
        (telemetry.pcie_generation.max, telemetry.pcie_width.max)
        for m in run.measurements
        if m.device_id == device_id and m.case.family == "interconnect" and m.case.peer is None
        if m.status == "ok" and (telemetry := m.telemetry) is not None
        if telemetry.pcie_generation is not None and telemetry.pcie_width is not None
        if 0 < telemetry.pcie_width.max <= _MOST_LANES
    ]
    if not seen:
        return None
    return (
        int(statistics.median_high(generation for generation, _ in seen)),
        int(statistics.median_high(width for _, width in seen)),
    )


def _nvlink(run: Run, subject: Subject) -> Finding:
    device, row = subject.device, subject.row
    rule = load_bands().of_link(row.key, row.rate_class) if row else None
    active = _active(run, subject)
    if row is None or row.nvlink_gbps is None or rule is None:
        return _not_told("RP-NVLINK", subject, "The catalogue prints no NVLink for it")
    if active is None:
        return _not_told("RP-NVLINK", subject, "How many of its NVLinks are active is not told")
    expected = round(row.nvlink_gbps / rule.link_gbps)
    on_board = _is_socketed(subject)
    if active == 0 and (not on_board or _is_lone(run)):
        why = "a lone GPU may have its links switched off" if on_board else "it needs a bridge"
        return _not_told("RP-NVLINK", subject, f"None of its {expected} NVLinks is active: {why}")
    judgement: Judgement = "pass" if active >= expected else "warn" if active == 0 else "fail"
    return finding(
        "RP-NVLINK", judgement, f"{active} of {expected} NVLinks are active", device=device,
        figure=float(active), bound=float(expected), unit="links", bound_source=rule.reference,
    )  # fmt: skip


def _active(run: Run, subject: Subject) -> int | None:
    """Return the least number of active links that was told before, during or after the run."""
    device = subject.device
    told = [h.nvlink_active for h in (device.health_before, device.health_after) if h]
    told += [
        m.link.nvlink_active
        for m in run.measurements
        if m.device_id == device.device_id and m.link is not None
    ]
    return min((count for count in told if count is not None), default=None)


def _is_socketed(subject: Subject) -> bool:
    form = (subject.row.form_factor or "").upper() if subject.row else ""
    return any(word in form for word in _SOCKETED)


def _is_lone(run: Run) -> bool:
    return sum(device.backend != "cpu" for device in run.devices) < 2


def _not_told(code: str, subject: Subject, sentence: str) -> Finding:
    return finding(
        code, "unknown", sentence, device=subject.device, required=False, remedy="probe doctor"
    )
