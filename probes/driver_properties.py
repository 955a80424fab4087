"""What the CUDA driver's compute interface tells of a device's memory: clock and bus width.

The second way to the pins' bandwidth, beside NVML: GB/s = 2 × MHz × bits / 8000. It matters where
NVML is missing or silent, and for a MIG slice, whose share of the bus only CUDA tells (640, 1280 or
2560 of the 5120 bits of an A100). The clock is the greatest one, never that of this moment, so an
idle device does not look slow.

Two ways to ask: the properties that torch hands on (``memory_clock_rate`` in kHz and
``memory_bus_width``, in newer versions), else device attributes 36 and 37 of the driver library.
The older fields of ``cudaDeviceProp`` are not asked: CUDA 13 removed them. An answer of 0 is no
answer. A device that shares the host's memory is left out: which data rate its clock stands for is
not documented.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

ATTRIBUTE_MEMORY_CLOCK_KHZ: Final = 36
ATTRIBUTE_MEMORY_BUS_BITS: Final = 37
_LIBRARY: Final = "libcuda.so.1"

Attribute = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class MemoryProperties:
    """The greatest memory clock, MHz, and bus width; ``missing`` says why one is absent."""

    clock_mhz: float | None = None
    bus_bits: int | None = None
    missing: str | None = None


def memory_properties(
    properties: Any, ordinal: int, attribute_of: Callable[[int], Attribute] | None = None
) -> MemoryProperties:
    """Return what torch's ``properties`` tell, else what attributes of device ``ordinal`` do.

    ``attribute_of`` gives, for an ordinal, the function that asks the driver for an attribute; by
    default the driver library itself. Raises nothing.
    """
    if getattr(properties, "is_integrated", 0):
        return MemoryProperties(missing="integrated (the memory is the host's)")
    khz, bits = (
        getattr(properties, name, None) for name in ("memory_clock_rate", "memory_bus_width")
    )
    if not (khz and bits):
        try:
            attribute = (attribute_of or driver_attribute)(ordinal)
            khz = attribute(ATTRIBUTE_MEMORY_CLOCK_KHZ)
            bits = attribute(ATTRIBUTE_MEMORY_BUS_BITS)
        except Exception as error:  # no library, an old one, or a device it does not know
            return MemoryProperties(missing=f"failed ({type(error).__name__}: {error})")
    if not (khz > 0 and bits > 0):
        return MemoryProperties(missing="not-told (memory clock and bus width are 0)")
    return MemoryProperties(khz / 1000, int(bits))


def driver_attribute(ordinal: int, load: Callable[[str], Any] = ctypes.CDLL) -> Attribute:
    """Return the function that asks the CUDA driver for an attribute of device ``ordinal``.

    The driver counts devices as torch does: both heed ``CUDA_VISIBLE_DEVICES``.
    """
    driver = load(_LIBRARY)
    _expect(driver.cuInit(0), "cuInit")
    device = ctypes.c_int()
    _expect(driver.cuDeviceGet(ctypes.byref(device), ordinal), "cuDeviceGet")

    def ask(attribute: int) -> int:
        value = ctypes.c_int()
        answer = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        _expect(answer, f"cuDeviceGetAttribute({attribute})")
        return value.value

    return ask


def _expect(answer: int, call: str) -> None:
    if answer != 0:
        raise OSError(f"{call} returned {answer}")
