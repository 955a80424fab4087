"""How NVML's values become ours: units, texts and switches, and values that stand for "none".

A reader raises ``NotTold`` for a value by which the driver says that there is none, and anything
else for a value of another shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

VALUE_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
COUNTER_TYPES: Final = frozenset({2, 3})  # unsigned long, unsigned long long
NOT_AVAILABLE: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})


class NotTold(Exception):
    """The driver answered with a value that stands for "no value"."""


def text(value: Any) -> str:
    """Return a text without padding; an empty one stands for none."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or not text.strip("\0 "):
        raise NotTold
    return text.strip("\0 ")


def count(value: Any) -> int:
    """Return a number of things; negative or all bits set stands for none."""
    number = int(value)
    if number < 0 or number in NOT_AVAILABLE:
        raise NotTold
    return number


def pids_and_memory(entries: Any) -> dict[int, int | None]:
    """Return memory in bytes by process id, None where it is not told."""
    return {int(entry.pid): optional_count(entry.usedGpuMemory) for entry in entries}


def optional_count(value: Any) -> int | None:
    """Return a number of things, or None where it is not told or unreadable."""
    try:
        return count(value)
    except (NotTold, TypeError, ValueError):
        return None


def positive(value: Any) -> int:
    """Return a number that physics does not let be 0."""
    number = count(value)
    if number == 0:
        raise NotTold
    return number


def mhz(value: Any) -> float:
    """Return a clock in MHz."""
    return float(positive(value))


def watts(milliwatts: Any) -> float:
    """Return watts of milliwatts."""
    return positive(milliwatts) / 1000


def celsius(value: Any) -> float:
    """Return a temperature in degrees Celsius."""
    return float(positive(value))


def switch(value: Any) -> bool:
    """Return whether something is on."""
    return (False, True)[count(value)]


def one_of(names: Sequence[str]) -> Callable[[Any], str]:
    """Return a reader of an enumeration, whose values are counted from 0."""
    return lambda value: names[count(value)]


def cuda_version(value: Any) -> str:
    """Return ``13.0`` of 13000."""
    number = positive(value)
    return f"{number // 1000}.{number % 1000 // 10}"


def pci_id(value: Any) -> str:
    """Return ``vendor:device`` of the two in one word, the vendor in its lower half."""
    number = positive(value)
    return f"{number & 0xFFFF:04x}:{number >> 16:04x}"


def field_value(reading: Any) -> Any:
    """Return the union's member that ``valueType`` names; the others are other bits of it."""
    return getattr(reading.value, VALUE_MEMBERS[int(reading.valueType)])


def counter(reading: Any) -> int:
    """Return a 64-bit counter; any other type is not the counter that was asked for."""
    if int(reading.valueType) not in COUNTER_TYPES:
        raise NotTold
    return count(field_value(reading))
