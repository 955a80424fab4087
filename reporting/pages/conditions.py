"""Under which conditions columns were measured: those that differ, told apart, and those alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.records.schema import Device, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import measurements_of, status_words

Place = tuple[str, Run, Device]  # the column's name, and what it shows


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition with its text in each column."""

    name: str
    texts: tuple[str, ...]


def _number(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _switch(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"


def _clock_seen(run: Run, device: Device) -> str | None:
    """Write the span of the clocks at which the headlines were measured."""
    own = [h for h in run.headlines if h.device_id == device.device_id]
    clocks = [h.sm_clock_mhz for h in own if h.sm_clock_mhz is not None]
    return f"{min(clocks):.0f}–{max(clocks):.0f} MHz" if clocks else None


def _throttling(run: Run, device: Device) -> str | None:
    seen = [m.telemetry for m in measurements_of(run, device.device_id) if m.telemetry]
    return ", ".join(dict.fromkeys(why for t in seen for why in t.throttle_reasons)) or None


_CONDITIONS: Final[dict[str, Callable[[Run, Device], str | None]]] = {
    "device": lambda _, d: d.name,
    "units": lambda _, d: plural(d.unit_count, d.unit) if d.unit_count else None,
    "memory": lambda _, d: numbers.capacity(d.memory_bytes) if d.memory_bytes else None,
    "driver": lambda _, d: d.driver,
    "runtime": lambda _, d: d.runtime,
    "power limit": lambda _, d: _number(d.limits.power_limit_w, "W"),
    "default power limit": lambda _, d: _number(d.limits.default_power_limit_w, "W"),
    "greatest clock": lambda _, d: _number(d.limits.max_sm_clock_mhz, "MHz"),
    "greatest memory clock": lambda _, d: _number(d.limits.max_mem_clock_mhz, "MHz"),
    "clocks of the figures": _clock_seen,
    "throttling seen": _throttling,
    "ECC": lambda _, d: _switch(d.limits.ecc_enabled),
    "MIG": lambda _, d: _switch(d.limits.mig_enabled),
    "host": lambda r, _: r.environment.host,
    "processor": lambda r, _: r.environment.cpu,
    "kernel": lambda r, _: r.environment.kernel,
    "roofprobe": lambda r, _: r.environment.roofprobe,
    "method": lambda r, _: str(r.method_version),
    "torch": lambda r, _: r.environment.torch,
    "Triton": lambda r, _: r.environment.triton,
    "libraries": lambda r, _: ", ".join(f"{n} {v}" for n, v in r.environment.libraries.items()),
    "tier": lambda r, _: r.options.tier,
    "precisions asked for": lambda r, _: ", ".join(r.options.precisions),
    "status": lambda r, _: status_words(r),
}


def conditions_of(places: Sequence[Place]) -> tuple[tuple[Condition, ...], tuple[str, ...]]:
    """Return the conditions that differ, and those that are known and alike as "name text"."""
    differing, alike = [], []
    for name, read in _CONDITIONS.items():
        texts = tuple(
            clean(text) if (text := read(run, device)) else numbers.UNKNOWN
            for _, run, device in places
        )
        if len(set(texts)) > 1:
            differing.append(Condition(name, texts))
        elif texts[0] != numbers.UNKNOWN:
            alike.append(f"{name} {texts[0]}")
    return tuple(differing), tuple(alike)
