"""Numbers with their nouns, for the sentences of a fleet's verdict."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return ``1 host`` or ``1,250 hosts``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def are(count: int, noun: str) -> str:
    """Return ``1 device is`` or ``3 devices are``."""
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"
