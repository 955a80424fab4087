"""What AMD's own library tells about the health of a GPU, where its Python module is installed.

``amdsmi`` comes with ROCm. Names, keys and units are those of its documentation (ROCm 6 and 7);
nothing here was ever run on an AMD GPU. Values that a board does not tell are ``"N/A"`` or all bits
set, and each question is caught on its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

from roofprobe.records.schema import Health

_MOST_CELSIUS, _MOST_WATTS = 200.0, 5000.0  # above it is another unit or stands for "none"
_NO_COUNT: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})
_FIELDS: Final = (
    "ecc_corrected", "ecc_uncorrected", "retired_pages", "retirement_pending", "pcie_replays",
    "temperature_c", "memory_temperature_c", "power_w", "power_limit_w", "other_processes",
)  # fmt: skip


def health_of(pci_bus_id: str | None, module: Any = None) -> Health:
    """Return the health of the GPU at ``pci_bus_id``; ``module`` stands in for ``amdsmi``."""
    if module is None:
        try:
            module = import_module("amdsmi")
        except Exception as error:  # the module looks for its library when it is imported
            return _nothing(f"binding-missing ({type(error).__name__}: amdsmi, part of ROCm)")
    try:
        module.amdsmi_init()
    except Exception as error:
        return _nothing(f"failed ({type(error).__name__}: amdsmi_init)")
    try:
        handle = _handle(module, pci_bus_id)
        if handle is None:
            return _nothing("not-found (amdsmi_get_processor_handles)")
        return _read(module, handle)
    except Exception as error:
        return _nothing(f"failed ({type(error).__name__}: amdsmi)")
    finally:
        with suppress(Exception):  # the answers are there already
            module.amdsmi_shut_down()


def _handle(module: Any, pci_bus_id: str | None) -> Any:
    wanted = _address(pci_bus_id)
    handles = module.amdsmi_get_processor_handles()
    for handle in handles:
        if wanted and _address(module.amdsmi_get_gpu_device_bdf(handle)) == wanted:
            return handle
    return None


def _read(module: Any, handle: Any) -> Health:
    missing: dict[str, str] = {}

    def ask(call: str, readers: dict[str, Callable[[Any], Any]], *arguments: Any) -> dict[str, Any]:
        try:
            answer = getattr(module, call)(handle, *arguments)
        except Exception as error:
            missing.update(dict.fromkeys(readers, f"{_code(error)} ({call})"))
            return {}
        told = {}
        for name, reader in readers.items():
            try:
                told[name] = reader(answer)
            except Exception:  # another version's shape, or "N/A"
                missing[name] = f"not-told ({call})"
        return told

    def temperature(name: str, place: str) -> dict[str, Any]:
        try:
            sensor = getattr(module.AmdSmiTemperatureType, place)
            moment = module.AmdSmiTemperatureMetric.CURRENT
        except AttributeError:
            missing[name] = "binding-too-old (amdsmi_get_temp_metric)"
            return {}
        return ask("amdsmi_get_temp_metric", {name: _celsius}, sensor, moment)

    told = {
        **ask(
            "amdsmi_get_gpu_total_ecc_count",
            {
                "ecc_corrected": lambda counts: _count(counts["correctable_count"]),
                "ecc_uncorrected": lambda counts: _count(counts["uncorrectable_count"]),
            },
        ),
        **ask(
            "amdsmi_get_gpu_bad_page_info",
            {"retired_pages": _reserved_pages, "retirement_pending": _pending_pages},
        ),
        **ask(
            "amdsmi_get_pcie_info",
            {"pcie_replays": lambda info: _count(info["pcie_metric"]["pcie_replay_count"])},
        ),
        **ask(
            "amdsmi_get_power_info",
            {"power_w": _socket_watts, "power_limit_w": lambda info: _watts(info["power_limit"])},
        ),
        **temperature("temperature_c", "HOTSPOT"),
        **temperature("memory_temperature_c", "VRAM"),
        **ask("amdsmi_get_gpu_process_list", {"other_processes": _processes}),
    }
    return Health(at=_now(), source="amdsmi", missing=missing, **told)


def _nothing(reason: str) -> Health:
    return Health(at=_now(), missing={"health": reason, **dict.fromkeys(_FIELDS, reason)})


def _code(error: Exception) -> str:
    text = f"{type(error).__name__} {error}".upper()
    if "NOT_SUPPORTED" in text or "NOT SUPPORTED" in text:
        return "not-supported"
    if "NO_PERM" in text:
        return "no-permission"
    return "binding-too-old" if isinstance(error, AttributeError) else type(error).__name__


def _count(value: Any) -> int:
    number = int(value)
    if number < 0 or number in _NO_COUNT:
        raise ValueError(value)
    return number


def _celsius(value: Any) -> float:
    return _below(_MOST_CELSIUS, value)


def _watts(value: Any) -> float:
    return _below(_MOST_WATTS, value)


def _below(most: float, value: Any) -> float:
    number = float(value)
    if not 0 < number < most:
        raise ValueError(value)
    return number


def _socket_watts(info: Any) -> float:
    """Return the power now, or its average on boards that tell only that."""
    try:
        return _watts(info["current_socket_power"])
    except (KeyError, TypeError, ValueError):
        return _watts(info["average_socket_power"])


def _pages(pages: Any) -> list[Any]:
    """Return the list of bad pages; none is told as a text by some versions."""
    return [] if isinstance(pages, str) else list(pages)


def _reserved_pages(pages: Any) -> int:
    return len(_pages(pages))


def _pending_pages(pages: Any) -> bool:
    return any("PENDING" in str(page["status"]).upper() for page in _pages(pages))


def _processes(entries: Any) -> tuple[str, ...]:
    return tuple(
        f"{entry.get('name') or 'process'} ({_count(entry['pid'])}, compute)"
        for entry in entries
        if int(entry["pid"]) != os.getpid()
    )


def _address(text: str | None) -> tuple[int, ...] | None:
    parts = (text or "").strip().lower().replace(".", ":").split(":")
    try:
        return tuple(int(part, 16) for part in parts) if len(parts) == 4 else None
    except ValueError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
