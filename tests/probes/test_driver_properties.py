"""Memory clock and bus width from the CUDA driver: by torch, by attributes, or with the reason."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from roofprobe.probes.driver_properties import (
    MemoryProperties,
    driver_attribute,
    memory_properties,
)


class Driver:
    """A double of the driver library: device 1 has attributes 36 and 37."""

    def __init__(self, attributes: dict[int, int], *, fails: str = "") -> None:
        self.attributes, self.fails = attributes, fails
        self.asked: list[int] = []

    def cuInit(self, flags: int) -> int:
        return 100 if self.fails == "cuInit" else 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 70 + ordinal
        return 101 if self.fails == "cuDeviceGet" else 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
        assert device.value == 71
        self.asked.append(attribute)
        value._obj.value = self.attributes[attribute]
        return 1 if self.fails == "cuDeviceGetAttribute" else 0


def ask(driver: Driver, properties: Any) -> MemoryProperties:
    def attribute_of(ordinal: int) -> Any:
        return driver_attribute(ordinal, lambda name: driver)

    return memory_properties(properties, 1, attribute_of)


def test_torch_is_asked_first() -> None:
    driver = Driver({})
    told = SimpleNamespace(memory_clock_rate=3_201_000, memory_bus_width=6144, is_integrated=0)
    assert ask(driver, told) == MemoryProperties(3201.0, 6144)
    assert driver.asked == []


@pytest.mark.parametrize(
    "properties",
    [
        SimpleNamespace(),
        SimpleNamespace(memory_clock_rate=0, memory_bus_width=6144),
        SimpleNamespace(memory_clock_rate=3_201_000),
    ],
)
def test_what_torch_does_not_tell_the_attributes_do(properties: Any) -> None:
    driver = Driver({36: 1_593_000, 37: 640})
    assert ask(driver, properties) == MemoryProperties(1593.0, 640)
    assert driver.asked == [36, 37]


@pytest.mark.parametrize(
    ("fails", "call"),
    [
        ("cuInit", "cuInit returned 100"),
        ("cuDeviceGet", "cuDeviceGet returned 101"),
        ("cuDeviceGetAttribute", "cuDeviceGetAttribute(36) returned 1"),
    ],
)
def test_a_driver_that_refuses_is_a_reason(fails: str, call: str) -> None:
    found = ask(Driver({36: 1, 37: 1}, fails=fails), SimpleNamespace())
    assert found == MemoryProperties(missing=f"failed (OSError: {call})")


def test_without_a_driver_library_nothing_is_told() -> None:
    def absent(ordinal: int) -> Any:
        def load(name: str) -> Any:
            raise OSError(f"{name}: cannot open shared object file")

        return driver_attribute(ordinal, load)

    found = memory_properties(SimpleNamespace(), 0, absent)
    assert found.clock_mhz is None
    assert found.missing == "failed (OSError: libcuda.so.1: cannot open shared object file)"


@pytest.mark.parametrize("attributes", [{36: 0, 37: 384}, {36: 9_001_000, 37: 0}])
def test_zero_is_no_answer(attributes: dict[int, int]) -> None:
    found = ask(Driver(attributes), SimpleNamespace())
    assert found == MemoryProperties(missing="not-told (memory clock and bus width are 0)")


def test_memory_that_is_the_host_s_is_left_out() -> None:
    shared = SimpleNamespace(memory_clock_rate=8_533_000, memory_bus_width=256, is_integrated=1)
    assert ask(Driver({}), shared).missing == "integrated (the memory is the host's)"
