"""Bits that change are found, counted and placed; bits that stay are no finding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels.work import Check, Work
from roofprobe.probes.stability import check_bits

M, N = 6, 8


class Device:
    """Gives the same product at each launch, but for what it is told to do at some of them."""

    def __init__(
        self,
        faults: dict[int, Callable[[torch.Tensor], object]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.out = torch.zeros(M, N, dtype=dtype)
        self.launched = 0
        self.poisoned = 0
        self._faults = faults or {}

    def launch(self) -> torch.Tensor:
        self.launched += 1
        if self.launched > 1:
            unset = self.out.isnan() if self.out.is_floating_point() else self.out == -(2**31)
            self.poisoned += bool(unset.all())
        values = torch.arange(M * N, dtype=torch.float32).view(M, N)
        self.out.copy_(values)
        fault = self._faults.get(self.launched)
        if fault is not None:
            fault(self.out)
        return self.out

    @property
    def work(self) -> Work:
        return Work((self.launch,), 1, 1, 1, 1, lambda: Check(0, 0, "", 1), "fake")


def ticking(step_s: float) -> Callable[[], float]:
    times = iter(step_s * count for count in range(10**6))
    return lambda: next(times)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int32]
)
def test_the_same_bits_are_no_finding_in_any_type_of_result(dtype: torch.dtype) -> None:
    device = Device(dtype=dtype)
    check = check_bits(device.work, seconds=0, least=5)
    assert (check.problem, check.error, check.tolerance) == (None, 0.0, 0.0)
    assert device.launched == 5
    assert check.checked_elements == 5 * M * N
    assert check.measure == "share of elements whose bits differ from the first of 5 products"


def test_a_product_is_repeated_for_as_long_as_asked_and_at_least_four_times() -> None:
    device = Device()
    check_bits(device.work, seconds=10.0, now=ticking(1.0))
    assert device.launched == 13  # the first four ask for no time
    late = Device()
    check_bits(late.work, seconds=1.0, now=ticking(100.0))
    assert late.launched == 4


def test_outputs_are_poisoned_before_each_repeat() -> None:
    device = Device()
    check_bits(device.work, seconds=0, least=6)
    assert device.poisoned == 5


def test_a_launch_that_writes_nothing_is_found() -> None:
    class Lazy(Device):
        def launch(self) -> torch.Tensor:
            if self.launched >= 1:
                self.launched += 1
                return self.out
            return super().launch()

    check = check_bits(Lazy().work, seconds=0)
    assert check.error == 1.0
    assert check.problem is not None


def flip_lowest_bit(out: torch.Tensor) -> None:
    out.view(torch.int32)[2, 3] ^= 1


def test_one_bit_of_one_element_is_found_and_placed() -> None:
    check = check_bits(Device({4: flip_lowest_bit}).work, seconds=0, least=6)
    assert check.error == 1 / (M * N)
    assert check.problem == (
        "1 of 48 elements had other bits in repeat 4 of 6 (1 rows and 1 columns, the first at "
        "(2, 3)): the same inputs must give the same bits"
    )


def test_a_first_product_that_was_the_wrong_one_is_found_too() -> None:
    assert check_bits(Device({1: flip_lowest_bit}).work, seconds=0).error == 1 / (M * N)


def test_the_worst_repeat_is_told() -> None:
    faults: dict[int, Callable[[torch.Tensor], object]] = {
        3: flip_lowest_bit,
        4: lambda out: out[1:4, 2:7].fill_(-1),
        5: flip_lowest_bit,
    }
    check = check_bits(Device(faults).work, seconds=0, least=6)
    assert check.error == 15 / (M * N)
    assert check.problem is not None
    assert (
        "15 of 48 elements had other bits in repeat 4 of 6 (3 rows and 5 columns" in check.problem
    )
    assert "(1, 2)" in check.problem


def test_bits_are_compared_and_not_values() -> None:
    def negative_zero(out: torch.Tensor) -> None:
        out[0, 0] = -0.0

    assert check_bits(Device({3: negative_zero}).work, seconds=0).problem is not None

    def nan(out: torch.Tensor) -> None:
        out[0, 1] = math.nan

    same_nan = Device(dict.fromkeys(range(1, 9), nan))
    assert check_bits(same_nan.work, seconds=0).problem is None, "the check before finds NaN"
