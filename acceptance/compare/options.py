"""What may be asked of a comparison on the command line, read and refused in one sentence."""

from __future__ import annotations

from typing import get_args

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Family

_FAMILIES: dict[str, Family] = {name: name for name in get_args(Family)}


def share_of(text: str) -> float:
    """Return 0.05 of ``5%`` or ``0.05``; raises ``RoofprobeError`` (``bad-bound``).

    A bare number from 1 on is refused: 5 would mean 500 %.
    """
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < (100 if percent else 1):
        raise RoofprobeError("bad-bound", f"--fail-on {text!r} is no share; write 5% or 0.05")
    return value


def families_of(text: str) -> tuple[Family, ...]:
    """Return the families named in ``text``; raises ``RoofprobeError`` (``unknown-family``)."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in _FAMILIES]
    if unknown or not names:
        raise RoofprobeError(
            "unknown-family",
            f"there is no family {', '.join(map(repr, unknown)) or repr(text)}; "
            f"choose of {', '.join(_FAMILIES)}",
        )
    return tuple(_FAMILIES[name] for name in names)
