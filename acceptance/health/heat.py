"""Was it slowed down, and is it hot: throttle counters and reasons, temperatures.

The hardware slows itself down when it is too hot, or when the board's supply asks for it: then
cooling or supply fail, and the device is not what it should be. Software that holds the clocks
within the power limit is normal at full load, and is only told. Counters miss nothing between two
readings; the reasons that were sampled while cases ran can miss what was short.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.patient import Patient, difference, untold
from roofprobe.records.schema import Finding

# Ours, not yet tuned on hardware: less of the measured time than this is a moment, not a state.
FAIL_SHARE = 0.01
WITHIN_C = 5.0
_HARDWARE_COUNTERS = {"hw_thermal": "too hot", "brake": "told to by the power supply"}
_HARDWARE_REASONS = ("hw_slowdown", "hw_thermal", "power_brake")
_SOFTWARE_COUNTERS = ("sw_thermal", "thermal")
_SOFTWARE_REASONS = ("sw_thermal",)


def throttling(patient: Patient) -> Iterator[Finding]:
    """Judge what slowed the device down during the run."""
    grown = _grown_ns(patient)
    events = _grown_events(patient)
    seen = {
        reason
        for m in patient.measurements
        if m.telemetry
        for reason in m.telemetry.throttle_reasons
    }
    device, measured_s = patient.device, patient.measured_s
    hardware = {name: grown[name] for name in _HARDWARE_COUNTERS if grown.get(name)}
    hardware_seen = sorted(seen & set(_HARDWARE_REASONS))
    if hardware or hardware_seen:
        seconds = sum(hardware.values()) / 1e9
        share = seconds / measured_s if measured_s else 0.0
        # Without counters, a reason that was met in samples was there for long enough.
        long = share >= FAIL_SHARE if hardware else not set(_HARDWARE_COUNTERS) & set(grown)
        causes = ", ".join([_HARDWARE_COUNTERS[name] for name in hardware] or hardware_seen)
        told = f" for {seconds:.3g} s, {share:.1%} of the time measured" if hardware else ""
        yield finding(
            "RP-THROTTLE", "fail" if long else "warn",
            f"the hardware slowed the device down{told} ({causes})", device=device,
            figure=share if hardware else None, bound=FAIL_SHARE if hardware else None,
            unit="share of the time measured" if hardware else None,
        )  # fmt: skip
        return
    software = sum(grown.get(name, 0) for name in _SOFTWARE_COUNTERS) / 1e9
    if software or seen & set(_SOFTWARE_REASONS):
        told = f" for {software:.3g} s" if software else ""
        yield finding(
            "RP-THROTTLE", "warn",
            f"the driver lowered the clocks{told} because the device or its memory was hot",
            device=device, figure=software or None, unit="s" if software else None,
        )  # fmt: skip
        return
    if any(events.values()):
        yield finding(
            "RP-THROTTLE", "warn",
            f"the processor throttled {max(events.values())} times during the run", device=device,
            figure=float(max(events.values())), bound=0.0, unit="times",
        )  # fmt: skip
        return
    if not (set(_HARDWARE_COUNTERS) <= set(grown) or events):
        yield untold(
            "RP-THROTTLE", patient, "whether it was slowed down",
            "throttle_ns.hw_thermal", "throttle_ns.brake", "throttle_events.core_throttle_count",
        )  # fmt: skip
        return
    capped = grown.get("power", 0) / 1e9
    told = f"; its power limit held the clocks for {capped:.3g} s" if capped else ""
    yield finding("RP-THROTTLE", "pass", f"nothing slowed the device down{told}", device=device)


def temperature(patient: Patient) -> Iterator[Finding]:
    """Judge the highest temperature that was seen, against the one at which it slows down."""
    if patient.device.backend == "cpu":
        return
    threshold = patient.last("slowdown_temperature_c")
    seen = [
        m.telemetry.temperature_c.max
        for m in patient.measurements
        if m.telemetry and m.telemetry.temperature_c
    ]
    if patient.after is not None and patient.after.temperature_c is not None:
        seen.append(patient.after.temperature_c)
    if threshold is None or not seen:
        field = "slowdown_temperature_c" if threshold is None else "temperature_c"
        yield untold("RP-TEMPERATURE", patient, "how near it came to slowing down", field)
        return
    hottest = max(seen)
    near = hottest >= threshold - WITHIN_C
    yield finding(
        "RP-TEMPERATURE", "warn" if near else "pass",
        f"it reached {hottest:.0f} °C, and slows down at {threshold:.0f} °C", device=patient.device,
        figure=hottest, bound=threshold - WITHIN_C, unit="°C",
    )  # fmt: skip


def _grown_ns(patient: Patient) -> dict[str, int]:
    before, after = patient.before, patient.after
    if before is None or after is None:
        return {}
    grown = {
        name: difference(first, after.throttle_ns.get(name))
        for name, first in before.throttle_ns.items()
    }
    return {name: value for name, value in grown.items() if value is not None}


def _grown_events(patient: Patient) -> dict[str, int]:
    before, after = patient.before, patient.after
    if before is None or after is None:
        return {}
    grown = {
        name: difference(first, after.throttle_events.get(name))
        for name, first in before.throttle_events.items()
    }
    return {name: value for name, value in grown.items() if value is not None}
