"""The list of hosts that should be there: one per line, with the number of its devices or without.

# an inventory
node-001 8
node-002 8
login-1
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import read_bytes, said

_MOST_BYTES: Final = 16 << 20


def read_expected(path: Path) -> dict[str, int | None]:
    """Return the expected hosts, each with its number of devices where that is given.

    Raises ``RoofprobeError`` (``bad-expect``).
    """
    try:
        text = read_bytes(path, _MOST_BYTES).decode()
    except OSError as error:
        raise RoofprobeError("bad-expect", said(path, error)) from error
    except UnicodeDecodeError as error:
        raise RoofprobeError("bad-expect", f"{path} is no text; write a host per line") from error
    found: dict[str, int | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        host, *rest = words
        if len(rest) > 1 or not all(
            word.isascii() and word.isdigit() and int(word) for word in rest
        ):
            raise RoofprobeError(
                "bad-expect",
                f"{path}, line {number}: write a host and, if known, its number of devices, "
                "as in: node-001 8",
            )
        if host in found:
            raise RoofprobeError("bad-expect", f"{path}, line {number}: {host} stands there twice")
        found[host] = int(rest[0]) if rest else None
    if not found:
        raise RoofprobeError("bad-expect", f"{path} names no host; write one per line")
    return found
