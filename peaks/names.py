"""Names and PCI ids in the one form in which they are compared."""

from __future__ import annotations

import re
from typing import Final

_PCI: Final = re.compile(r"(?:0x)?([0-9a-f]{4})[:/ -]?(?:0x)?([0-9a-f]{4})")
_SEPARATORS: Final = re.compile(r"[\s_-]+")
_SIZE: Final = re.compile(r"\b([0-9]+) ?gi?b?\b")
_WORD: Final = re.compile(r"[a-z0-9]+")


def normalise_name(name: str) -> str:
    """A driver name for exact comparison: case, separators and a leading NVIDIA do not count."""
    words = _SEPARATORS.sub(" ", name.casefold()).strip()
    return words.removeprefix("nvidia ")


def words(name: str) -> tuple[str, ...]:
    """The words of a name; a memory size is one word however its unit is written ("80g")."""
    return tuple(_WORD.findall(_SIZE.sub(r"\1g", normalise_name(name))))


def normalise_pci_id(pci_id: str) -> str | None:
    """Vendor and device as "10de:2330", also from "10DE2330" or "0x10de:0x2330"; else None."""
    found = _PCI.fullmatch(pci_id.strip().casefold())
    return f"{found[1]}:{found[2]}" if found else None


def shown(text: str, limit: int = 60) -> str:
    """A text from outside as it stands in a sentence: quoted, escaped and cut to a sane length."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
