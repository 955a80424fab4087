"""What ``npu-smi info`` prints about the health of a Huawei Ascend processor.

The tool comes with the driver and prints a table, two lines for each chip: number, name, health,
power and temperature, then chip, PCI address and use of memory. The layout is that of its
documentation and of tables that people posted; nothing here was ever run on an Ascend.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from roofprobe.records.schema import Health

_TIMEOUT_S: Final = 20.0
_MOST_BYTES: Final = 1 << 20
_FIRST = re.compile(
    r"^\|\s*(?P<npu>\d+)\s+(?P<name>\S+)[^|]*\|\s*(?P<health>[A-Za-z]+)\s*\|"
    r"\s*(?P<power>[\d.]+|NA|-)\s+(?P<temperature>[\d.]+|NA|-)\s"
)
_SECOND = re.compile(r"^\|\s*(?P<chip>\d+)[^|]*\|\s*(?P<bus>[0-9A-Fa-f:.]+|NA)\s*\|")
_PROCESS = re.compile(
    r"^\|\s*(?P<npu>\d+)\s+(?P<chip>\d+)\s*\|\s*(?P<pid>\d+)\s*\|\s*(?P<name>\S+)\s*\|"
)


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip of the table; None where the tool prints ``NA``."""

    npu: int
    chip: int
    health: str
    bus_id: str | None
    power_w: float | None
    temperature_c: float | None
    processes: tuple[str, ...] = ()


def health_of(index: int) -> Health:
    """Return the health of the chip that torch counts as ``index``."""
    command = shutil.which("npu-smi")
    if command is None:
        return _nothing("binding-missing (npu-smi, part of the Ascend driver)")
    try:
        done = subprocess.run(
            [command, "info"], capture_output=True, timeout=_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return _nothing(f"failed ({type(error).__name__}: npu-smi info)")
    if done.returncode:
        return _nothing(f"failed (exit code {done.returncode}: npu-smi info)")
    table = done.stdout[:_MOST_BYTES].decode("utf-8", "replace")
    return health_in(table, index, os.environ.get("ASCEND_RT_VISIBLE_DEVICES"))


def health_in(table: str, index: int, visible: str | None = None) -> Health:
    """Return the health of one chip of a printed ``table``.

    ``visible`` is the list of numbers that torch's own counting goes through, if there is one.
    """
    chips = chips_in(table)
    place = _place(index, visible)
    if place is None or not place < len(chips):
        return _nothing("not-found (npu-smi info)")
    chip = chips[place]
    missing = {
        name: "not-told (npu-smi info)"
        for name in ("power_w", "temperature_c")
        if getattr(chip, name) is None
    }
    return Health(
        at=_now(),
        source="npu-smi",
        state=chip.health,
        power_w=chip.power_w,
        temperature_c=chip.temperature_c,
        other_processes=chip.processes,
        missing=missing,
    )


def chips_in(table: str) -> tuple[Chip, ...]:
    """Return the chips of a printed ``table``, in its order; lines of another shape are skipped."""
    chips: list[Chip] = []
    first: re.Match[str] | None = None
    processes: dict[tuple[int, int], list[str]] = {}
    for line in table.splitlines():
        process, begins, goes_on = _PROCESS.match(line), _FIRST.match(line), _SECOND.match(line)
        if process:
            of = (int(process["npu"]), int(process["chip"]))
            if int(process["pid"]) != os.getpid():
                told = f"{process['name']} ({process['pid']}, compute)"
                processes.setdefault(of, []).append(told)
        elif begins:
            first = begins
        elif goes_on and first:
            bus = goes_on["bus"]
            chips.append(
                Chip(
                    int(first["npu"]), int(goes_on["chip"]), first["health"],
                    None if bus == "NA" else bus,
                    _number(first["power"]), _number(first["temperature"]),
                )
            )  # fmt: skip
            first = None
    return tuple(
        Chip(
            chip.npu, chip.chip, chip.health, chip.bus_id, chip.power_w, chip.temperature_c,
            tuple(processes.get((chip.npu, chip.chip), ())),
        )
        for chip in chips
    )  # fmt: skip


def _place(index: int, visible: str | None) -> int | None:
    if visible is None or not visible.strip():
        return index
    try:
        return [int(part) for part in visible.split(",")][index]
    except (ValueError, IndexError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 else None


def _nothing(reason: str) -> Health:
    return Health(at=_now(), missing={"health": reason})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
