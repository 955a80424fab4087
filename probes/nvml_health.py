"""What NVML's counters say about the health of an NVIDIA GPU.

What they mean:

- ECC counters are volatile (since the driver was loaded) or aggregate (over the board's life), of
  corrected errors (one bit, put right) and uncorrected ones (data is lost, work that used it dies).
- Bad memory is taken out of use: pages are retired (before A100), rows are remapped (A100 and
  later). Both take effect at the next reset, until then they are pending. A remapping that failed
  means that the spares are used up.
- An NVLink counts what it had to send again (replay), how often it trained anew (recovery) and
  packets whose checksum was wrong (CRC); PCIe counts its replays.
- Counters fall back to 0 when the driver is loaded anew, so only differences within a run count.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from roofprobe.probes import nvml_readers as readers
from roofprobe.probes.nvml_facts import LOST_CODES, ProcessList, Snapshot, reason_code
from roofprobe.probes.nvml_interview import Answer, Interview, Question
from roofprobe.probes.nvml_links import FIELD_NVLINK_COUNT
from roofprobe.records.schema import Health

# Numbers of the NVML interface, which it keeps for good; a test holds them against pynvml.
ECC_CORRECTED, ECC_UNCORRECTED = 0, 1
ECC_VOLATILE, ECC_AGGREGATE = 0, 1
RETIRED_FOR_CORRECTED, RETIRED_FOR_UNCORRECTED = 0, 1
THRESHOLD_SLOWDOWN = 1
NVLINK_ERROR_COUNTERS: Final = (0, 1, 2, 3)  # replay, recovery, CRC of flits, CRC of data

Field = Callable[[Interview, int, int | None], Answer]

_ECC = "nvmlDeviceGetTotalEccErrors"
_COUNTERS: Final[tuple[Question, ...]] = (
    ("ecc_corrected", readers.count, _ECC, ECC_CORRECTED, ECC_VOLATILE),
    ("ecc_uncorrected", readers.count, _ECC, ECC_UNCORRECTED, ECC_VOLATILE),
    ("ecc_corrected_total", readers.count, _ECC, ECC_CORRECTED, ECC_AGGREGATE),
    ("ecc_uncorrected_total", readers.count, _ECC, ECC_UNCORRECTED, ECC_AGGREGATE),
    ("retirement_pending", readers.switch, "nvmlDeviceGetRetiredPagesPendingStatus"),
    ("power_limit_w", readers.watts, "nvmlDeviceGetEnforcedPowerLimit"),
    (
        "slowdown_temperature_c",
        readers.celsius,
        "nvmlDeviceGetTemperatureThreshold",
        THRESHOLD_SLOWDOWN,
    ),
)
_REMAPPING: Final[dict[str, Callable[[Any], Any]]] = {
    "remapped_rows_corrected": lambda told: readers.count(told[0]),
    "remapped_rows_uncorrected": lambda told: readers.count(told[1]),
    "remapping_pending": lambda told: readers.switch(told[2]),
    "remapping_failed": lambda told: readers.switch(told[3]),
}
# What a snapshot tells, under the name that the record has for it.
_OF_SNAPSHOT: Final = {
    "temperature_c": "temperature_c",
    "memory_temperature_c": "memory_temperature_c",
    "power_w": "power_w",
    "pcie_replay_count": "pcie_replays",
}


def health_from(
    ask: Interview, chip: Any, moment: Snapshot, processes: ProcessList, field: Field
) -> Health:
    """Return the health of the device ``chip``: its counters, ``moment`` and ``processes``.

    ``field`` asks ``chip`` for the value of a field. Nothing raises; absent is in ``missing``.
    """
    told = ask.table((chip,), _COUNTERS)
    remapped = ask.call(("nvmlDeviceGetRemappedRows", chip))
    told |= {name: ask.read(name, remapped, reader) for name, reader in _REMAPPING.items()}
    told |= {"retired_pages": _retired_pages(ask, chip), **_nvlinks(ask, chip, field)}
    for name, ours in _OF_SNAPSHOT.items():
        told[ours] = getattr(moment, name)
        if name in moment.missing:
            ask.missing[ours] = moment.missing[name]
    for name, reason in moment.missing.items():
        if name.startswith("throttle_ns."):
            ask.missing[name] = reason
    if moment.throttle_bits is None:
        ask.missing["throttle_reasons"] = moment.missing.get("throttle_bits", "not-told")
    if not processes.conclusive:
        ask.missing["other_processes"] = processes.note or "not-told"
    codes = {reason_code(reason): reason for reason in ask.missing.values()}
    return Health(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        source="nvml",
        **told,
        throttle_reasons=moment.throttle_reasons,
        throttle_ns=dict(moment.throttle_ns),
        other_processes=tuple(
            f"{process.name or 'process'} ({process.pid}, {process.kind})"
            for process in processes.others
        ),
        lost=moment.lost or next((codes[code] for code in sorted(LOST_CODES & set(codes))), None),
        missing=ask.missing,
    )


def _retired_pages(ask: Interview, chip: Any) -> int | None:
    """Return how many pages were retired, for whichever of the two causes."""
    counts = [
        ask.one(
            "retired_pages",
            _length,
            ("nvmlDeviceGetRetiredPages_v2", chip, cause),
            ("nvmlDeviceGetRetiredPages", chip, cause),
        )
        for cause in (RETIRED_FOR_CORRECTED, RETIRED_FOR_UNCORRECTED)
    ]
    told = [count for count in counts if count is not None]
    return sum(told) if len(told) == len(counts) else None


def _nvlinks(ask: Interview, chip: Any, field: Field) -> dict[str, int | None]:
    """Return how many NVLinks are up, and all their errors together."""
    nothing: dict[str, int | None] = {"nvlink_active": None, "nvlink_errors": None}
    count = ask.read(
        "nvlink_active",
        field(ask, FIELD_NVLINK_COUNT, None),
        lambda reading: readers.count(readers.field_value(reading)),
    )
    if count is None:
        ask.missing["nvlink_errors"] = ask.missing["nvlink_active"]
        return nothing
    active = []
    for link in range(count):
        state = ask.one("nvlink_active", readers.switch, ("nvmlDeviceGetNvLinkState", chip, link))
        if state is None:
            ask.missing["nvlink_errors"] = ask.missing["nvlink_active"]
            return nothing
        active += [link] if state else []
    errors = 0
    for link in active:
        for counter in NVLINK_ERROR_COUNTERS:
            question = ("nvmlDeviceGetNvLinkErrorCounter", chip, link, counter)
            told = ask.one("nvlink_errors", readers.count, question)
            if told is None:
                return {"nvlink_active": len(active), "nvlink_errors": None}
            errors += told
    return {"nvlink_active": len(active), "nvlink_errors": errors}


def _length(pages: Any) -> int:
    if not isinstance(pages, list | tuple):
        raise TypeError(pages)
    return len(pages)
