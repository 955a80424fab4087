"""What Linux tells about the health of the host's processor and memory.

Throttle counters are of x86 kernels (``thermal_throttle``); memory errors are those that the memory
controller's driver counted (EDAC: corrected ``ce_count``, uncorrected ``ue_count``, since the host
started). Virtual machines usually have neither.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from roofprobe.records.schema import Health

_EVENTS: Final = ("core_throttle_count", "package_throttle_count")
_EDAC: Final = {"ecc_corrected": "ce_count", "ecc_uncorrected": "ue_count"}


def health_of(root: Path = Path("/")) -> Health:
    """Return what the files below ``root`` tell; what is not there is absent with the reason."""
    missing: dict[str, str] = {}
    cores = root / "sys/devices/system/cpu"
    events: dict[str, int] = {}
    for name in _EVENTS:
        counts = _counts(cores, f"cpu[0-9]*/thermal_throttle/{name}")
        if counts is None:
            missing[f"throttle_events.{name}"] = "not-supported (sysfs thermal_throttle)"
        elif name.startswith("package"):  # each of a package's cores tells the package's count
            events[name] = max(counts)
        else:
            events[name] = sum(counts)
    errors: dict[str, int | None] = dict.fromkeys(_EDAC)
    for name, file in _EDAC.items():
        counts = _counts(root / "sys/devices/system/edac/mc", f"mc[0-9]*/{file}")
        if counts is None:
            missing[name] = "not-supported (sysfs edac)"
        else:
            errors[name] = sum(counts)
    if len(missing) == len(_EVENTS) + len(_EDAC):
        missing["health"] = "not-supported (this system counts neither throttling nor errors)"
    return Health(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        source="system" if events or any(v is not None for v in errors.values()) else None,
        throttle_events=events,
        ecc_corrected=errors["ecc_corrected"],
        ecc_uncorrected=errors["ecc_uncorrected"],
        missing=missing,
    )


def _counts(folder: Path, pattern: str) -> list[int] | None:
    """Return the numbers in the files that match; None where there is none or one is unreadable."""
    try:
        counts = [int(path.read_text()) for path in folder.glob(pattern)]
    except (OSError, ValueError):
        return None
    return counts if counts and min(counts) >= 0 else None
