"""NVIDIA's driver errors (Xid) in the kernel's log, where this user may read it.

A line such as ``NVRM: Xid (PCI:0000:1b:00): 79, pid=…, GPU has fallen off the bus`` names a device
by its PCI address and says by a number what went wrong. The log is read from ``/dev/kmsg``, or
through ``dmesg``, never as another user. Silence proves nothing where the log is not the
host's own, as in most rented containers, or where its beginning was overwritten: only a log in
which the NVIDIA driver has spoken at all can tell that there was no Xid.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

KMSG: Final = Path("/dev/kmsg")
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 32 << 20
_RECORD_BYTES: Final = 8192  # the kernel's own limit of one record
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<domain>[0-9a-f]{4,8}):(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})"
    r"(?:\.[0-9a-f])?\): (?P<number>\d{1,6})\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"(?P<domain>[0-9a-f]{4,8}):(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})(?:\.[0-9a-f])?",
    re.IGNORECASE,
)


def xids_of(pci_bus_id: str | None) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the Xids of the device at ``pci_bus_id``, in order, or None and the reason."""
    if _address(pci_bus_id) is None:
        return None, "not-found (no PCI bus id to look for)"
    lines = read_log()
    if isinstance(lines, str):
        return None, lines
    return xids_in(lines, pci_bus_id)


def xids_in(
    lines: Iterable[str], pci_bus_id: str | None
) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the Xids of one device in ``lines`` of a kernel's log, or None and the reason."""
    wanted = _address(pci_bus_id)
    found: list[int] = []
    driver_spoke = False
    for line in lines:
        if "NVRM:" not in line:
            continue
        driver_spoke = True
        match = _XID.search(line)
        if match and _address_of(match) == wanted:
            found.append(int(match["number"]))
    if not driver_spoke:
        return None, "not-told (the kernel's log has no line of the NVIDIA driver)"
    return tuple(found), None


def read_log(kmsg: Path = KMSG) -> list[str] | str:
    """Return the lines of the kernel's log, or the reason why they cannot be read."""
    lines = _from_kmsg(kmsg)
    return lines if isinstance(lines, list) else _from_dmesg(lines)


def _from_kmsg(kmsg: Path) -> list[str] | str:
    try:
        log = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return f"no-permission ({kmsg}: {error.strerror})"
    lines: list[str] = []
    left, deadline = _MOST_BYTES, time.monotonic() + _TIMEOUT_S
    try:
        while left > 0 and time.monotonic() < deadline:
            try:
                record = os.read(log, _RECORD_BYTES)
            except BlockingIOError:  # the end
                return lines
            except BrokenPipeError:  # this record was overwritten while we read; the next is there
                continue
            if not record:
                return lines
            left -= len(record)
            lines += record.decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"no-permission ({kmsg}: {error.strerror})"
    finally:
        os.close(log)
    return "timeout (the kernel's log has no end)"


def _from_dmesg(why_not: str) -> list[str] | str:
    command = shutil.which("dmesg")
    if command is None:
        return why_not
    try:
        done = subprocess.run(
            [command],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed ({type(error).__name__}: dmesg)"
    if done.returncode:
        told = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [""])[0]
        return f"no-permission ({told[:200]})"
    return done.stdout[-_MOST_BYTES:].decode("utf-8", "replace").splitlines()


def _address(pci_bus_id: str | None) -> tuple[int, int, int] | None:
    match = _ADDRESS.fullmatch((pci_bus_id or "").strip())
    return _address_of(match) if match else None


def _address_of(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match["domain"], 16), int(match["bus"], 16), int(match["device"], 16)
