"""The conditions of a run as pairs of a label and a text: devices, software, clocks, power."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from roofprobe.records.schema import Device, Health, Run, Span, Telemetry
from roofprobe.records.wording import plural
from roofprobe.reporting.numbers import capacity
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import measurements_of, status_words


@dataclass(frozen=True, slots=True)
class Fact:
    """One condition: what it is and what it was."""

    label: str
    text: str


def device_line(device: Device) -> str:
    """Describe a device in one line: units, memory, driver, power limit, ECC."""
    limits = device.limits
    parts = [
        device.architecture,
        plural(device.unit_count, device.unit) if device.unit_count else None,
        f"{capacity(device.memory_bytes)} memory" if device.memory_bytes else None,
        f"driver {device.driver}" if device.driver else None,
        _watts(limits.power_limit_w, "limit"),
        _on_off(limits.ecc_enabled, "ECC"),
        "MIG" if limits.mig_enabled else None,
    ]
    return " · ".join(clean(part) for part in parts if part)


def device_facts(device: Device) -> tuple[Fact, ...]:
    """Return everything known about a device, and why the rest is not."""
    limits = device.limits
    pairs: list[tuple[str, str | None]] = [
        ("name", device.name),
        ("device id", device.device_id),
        ("backend", f"{device.backend} ({device.torch_device})"),
        ("PCI", _joined(device.pci_bus_id, device.pci_id, device.pci_subsystem_id)),
        ("architecture", device.architecture),
        ("units", plural(device.unit_count, device.unit) if device.unit_count else None),
        ("memory", _size(device.memory_bytes)),
        ("memory free at start", _size(device.memory_free_bytes)),
        ("last-level cache", _size(device.last_level_cache_bytes)),
        ("memory bus", _unit(limits.memory_bus_bits, "bit")),
        ("driver, runtime", _joined(device.driver, device.runtime)),
        ("power limit", _watts(limits.power_limit_w)),
        ("default power limit", _watts(limits.default_power_limit_w)),
        (
            f"greatest {device.unit} clock" if device.unit in ("SM", "CU") else "greatest clock",
            _unit(limits.max_sm_clock_mhz, "MHz"),
        ),
        ("greatest memory clock", _unit(limits.max_mem_clock_mhz, "MHz")),
        ("ECC, MIG, persistence", _modes(device)),
        ("PCIe at most", _pcie(device)),
        ("catalogue entry", device.catalogue_key),
        ("identity", device.identity),
        ("features", ", ".join(device.features)),
        ("before the run", _health(device.health_before)),
        ("after the run", _health(device.health_after)),
        ("other processes", ", ".join(device.other_processes)),
        *((f"{name} not told", why) for name, why in device.missing.items()),
    ]
    return _facts(pairs)


def observed_facts(run: Run, device_id: str) -> tuple[Fact, ...]:
    """Return clocks, power and temperature over all of a device's measurements."""
    seen = [m.telemetry for m in measurements_of(run, device_id) if m.telemetry]
    throttled = dict.fromkeys(reason for t in seen for reason in t.throttle_reasons)
    missing = {name: why for t in seen for name, why in t.missing.items()}
    pairs: list[tuple[str, str | None]] = [
        ("clock reported", _span(seen, lambda t: t.sm_clock_mhz, "MHz")),
        ("memory clock seen", _span(seen, lambda t: t.mem_clock_mhz, "MHz")),
        ("power seen", _span(seen, lambda t: t.power_w, "W")),
        ("temperature seen", _span(seen, lambda t: t.temperature_c, "°C")),
        ("memory temperature seen", _span(seen, lambda t: t.memory_temperature_c, "°C")),
        ("throttling seen", ", ".join(throttled)),
        *((f"{name} not seen", why) for name, why in missing.items()),
    ]
    return _facts(pairs)


def run_facts(run: Run) -> tuple[Fact, ...]:
    """Return what was asked for and what it ran on."""
    options, environment = run.options, run.environment
    pairs: list[tuple[str, str | None]] = [
        ("run", run.run_id),
        ("status", status_words(run)),
        ("started, finished", _joined(run.started_at, run.finished_at)),
        ("command", " ".join(run.command)),
        ("measured", _joined(*options.families, f"tier {options.tier}")),
        ("precisions asked for", ", ".join(options.precisions)),
        ("search", options.search if "compute" in options.families else None),
        ("sweeps", ", ".join(options.sweeps)),
        ("time budget", _unit(options.time_budget_s, "s")),
        ("seed", str(options.seed)),
        ("versions of method, schema", f"{run.method_version}, {run.schema_version}"),
        ("roofprobe", environment.roofprobe),
        ("torch", environment.torch),
        ("Triton", environment.triton),
        ("libraries", ", ".join(f"{name} {v}" for name, v in environment.libraries.items())),
        ("Python", environment.python),
        ("host", environment.host),
        ("system", _joined(environment.os, environment.kernel)),
        ("processor", _joined(environment.cpu, _unit(environment.logical_cpus, "logical CPUs"))),
        ("host memory", _size(environment.memory_bytes)),
        ("container", environment.container),
        *((name, value or "(empty)") for name, value in environment.variables.items()),
    ]
    return _facts(pairs)


def _facts(pairs: Iterable[tuple[str, str | None]]) -> tuple[Fact, ...]:
    return tuple(Fact(clean(label), clean(text)) for label, text in pairs if text)


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _size(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else capacity(size_bytes)


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _watts(value: float | None, word: str = "") -> str | None:
    return None if value is None else f"{word} {value:g} W".strip()


def _on_off(value: bool | None, word: str) -> str | None:
    return None if value is None else f"{word} {'on' if value else 'off'}"


def _modes(device: Device) -> str:
    limits = device.limits
    return _joined(
        _on_off(limits.ecc_enabled, "ECC"),
        _on_off(limits.mig_enabled, "MIG"),
        _on_off(limits.persistence_mode, "persistence"),
    )


def _pcie(device: Device) -> str | None:
    generation, width = device.limits.pcie_generation_max, device.limits.pcie_width_max
    if generation is None and width is None:
        return None
    return _joined(
        None if generation is None else f"generation {generation}",
        None if width is None else f"{width} lanes",
    )


def _health(health: Health | None) -> str | None:
    if health is None:
        return None
    values = (
        (health.temperature_c, "°C"),
        (health.power_w, "W"),
        (health.power_limit_w, "W limit"),
        (health.ecc_corrected, "memory errors corrected"),
        (health.ecc_uncorrected, "not"),
        (health.remapped_rows_uncorrected, "rows remapped"),
        (health.retired_pages, "pages retired"),
        (health.pcie_replays, "PCIe replays"),
        (health.nvlink_active, "NVLinks up"),
        (health.nvlink_errors, "NVLink errors"),
    )
    return _joined(
        health.state,
        health.lost,
        *(f"{value:.0f} {unit}" for value, unit in values if value is not None),
        *(f"Xid {number}" for number in health.xids or ()),
        *health.throttle_reasons,
        f"not told: {health.missing['health']}" if "health" in health.missing else None,
    )


def _span(
    seen: Iterable[Telemetry], field: Callable[[Telemetry], Span | None], unit: str
) -> str | None:
    spans = [span for telemetry in seen if (span := field(telemetry))]
    if not spans:
        return None
    low, high = min(span.min for span in spans), max(span.max for span in spans)
    return f"{low:.0f} {unit}" if round(low) == round(high) else f"{low:.0f}–{high:.0f} {unit}"
