"""Streaming kernels on the CPU: results, bytes, planted errors, reasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from roofprobe.kernels import stream
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu", "x86_64", 2)
GPU = Target("cuda", "cuda:0", "sm_90", 132)
NPU = Target("npu", "cpu")
ELEMENTS = 1003
KERNELS = [kernel.name for kernel in stream.KERNELS]
PRECISIONS = list(stream.DTYPES)


def prepare(kernel: str, precision: str = "fp32", target: Target = CPU) -> Work:
    return stream.prepare(
        kernel, "torch", precision, target, elements=ELEMENTS, buffer_sets=1, seed=5
    )


class Faulty(TorchFunctionMode):
    """Run every operation, then spoil the tensor that it wrote."""

    def __init__(self, spoil: Callable[[torch.Tensor], None], names: set[str]) -> None:
        super().__init__()
        self._spoil, self._names = spoil, names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") in self._names and result.dtype == torch.float32:
            with torch._C.DisableTorchFunction():
                self._spoil(result)
        return result


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_is_right_in_every_type(kernel: str, precision: str) -> None:
    work = prepare(kernel, precision)
    check = work.check()
    assert check.problem is None
    assert check.checked_elements == ELEMENTS
    assert check.error <= check.tolerance


@pytest.mark.parametrize("kernel", ["copy", "write"])
def test_kernels_that_round_nothing_must_be_exact(kernel: str) -> None:
    check = prepare(kernel, "bf16").check()
    assert (check.error, check.tolerance) == (0.0, 0.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_another_accelerator_runs_every_kernel(kernel: str) -> None:
    assert prepare(kernel, target=NPU).check().problem is None


def one_element_wrong(out: torch.Tensor) -> None:
    out[ELEMENTS // 2] += 0.01


def tail_unwritten(out: torch.Tensor) -> None:
    out[-3:] = math.nan


def one_element_infinite(out: torch.Tensor) -> None:
    out[0] = math.inf


@pytest.mark.parametrize("spoil", [one_element_wrong, tail_unwritten, one_element_infinite])
@pytest.mark.parametrize(
    ("kernel", "operation"),
    [("write", "fill_"), ("copy", "copy_"), ("scale", "mul"), ("add", "add"), ("triad", "add")],
)
def test_a_planted_error_is_found(
    kernel: str, operation: str, spoil: Callable[[torch.Tensor], None]
) -> None:
    work = prepare(kernel)
    with Faulty(spoil, {operation}):
        check = work.check()
    assert check.problem is not None
    assert check.error > check.tolerance
    assert math.isfinite(check.error)


def test_an_unwritten_tail_is_counted() -> None:
    work = prepare("triad")
    with Faulty(tail_unwritten, {"add"}):
        check = work.check()
    assert check.problem == f"3 of {ELEMENTS} elements were not written or are not finite"


@pytest.mark.parametrize(("kernel", "operation"), [("read", "sum"), ("dot", "dot")])
def test_a_wrong_sum_is_found(kernel: str, operation: str) -> None:
    work = prepare(kernel)

    def spoil(total: torch.Tensor) -> None:
        total += 0.1 * ELEMENTS

    with Faulty(spoil, {operation}):
        check = work.check()
    assert check.problem is not None
    assert check.error > check.tolerance


@pytest.mark.parametrize("kernel", ["read", "dot"])
def test_a_sum_that_is_never_written_is_found(kernel: str) -> None:
    work = prepare(kernel)

    def forget(total: torch.Tensor) -> None:
        total.fill_(math.nan)

    with Faulty(forget, {"sum", "dot"}):
        check = work.check()
    assert check.problem == "the sum was not written or is not finite"


@pytest.mark.parametrize(
    ("kernel", "read", "written", "flops"),
    [
        ("read", 1, 0, 1),
        ("write", 0, 1, 0),
        ("copy", 1, 1, 0),
        ("scale", 1, 1, 1),
        ("add", 2, 1, 1),
        ("triad", 2, 1, 2),
        ("dot", 2, 0, 2),
    ],
)
@pytest.mark.parametrize(("precision", "item"), [("fp64", 8), ("fp32", 4), ("bf16", 2)])
def test_bytes_and_operations_are_counted_as_stream_counts(
    kernel: str, read: int, written: int, flops: int, precision: str, item: int
) -> None:
    work = prepare(kernel, precision)
    assert work.bytes_read == read * ELEMENTS * item
    assert work.bytes_written == written * ELEMENTS * item
    assert work.flops == flops * ELEMENTS
    assert work.array_bytes == ELEMENTS * item
    assert stream.bytes_per_launch(kernel, precision, ELEMENTS) == (
        work.bytes_read,
        work.bytes_written,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_item_sizes_are_those_of_torch(precision: str) -> None:
    dtype = getattr(torch, stream.DTYPES[precision])
    assert stream.ITEM_BYTES[precision] == dtype.itemsize


def test_buffer_sets_are_separate_arrays() -> None:
    work = stream.prepare("write", "torch", "fp32", CPU, elements=8, buffer_sets=3, seed=0)
    outputs = [launch.args[0] for launch in work.launches]  # type: ignore[attr-defined]
    assert len({out.data_ptr() for out in outputs}) == 3


@pytest.mark.parametrize(
    ("kernel", "route", "target", "code"),
    [
        ("triad", "copy-engine", GPU, "copy-engine"),
        ("copy", "copy-engine", CPU, "no-copy-engine"),
        ("copy", "torch", GPU, "copy-engine-route"),
        ("copy", "triton", CPU, "no-triton-target"),
        ("copy", "triton", NPU, "no-triton-target"),
        ("copy", "triton", Target("cuda", "cuda:0", None), "no-triton-target"),
    ],
)
def test_a_route_that_a_device_lacks_has_a_reason(
    kernel: str, route: str, target: Target, code: str
) -> None:
    reason = stream.unavailable(kernel, route, "fp32", target)
    assert reason is not None
    assert reason.code == code
    with pytest.raises(Unsupported):
        stream.prepare(kernel, route, "fp32", target, elements=8, buffer_sets=1, seed=0)


@pytest.mark.parametrize(
    ("kernel", "route", "target"),
    [
        ("copy", "copy-engine", GPU),
        ("copy", "torch", CPU),
        ("copy", "torch", NPU),
        ("copy", "copy-engine", NPU),
        ("triad", "torch", GPU),
    ],
)
def test_a_route_that_a_device_has_has_no_reason(kernel: str, route: str, target: Target) -> None:
    assert stream.unavailable(kernel, route, "fp32", target) is None
