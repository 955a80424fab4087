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
KERNELS = [kernel.name for kernel in stream.KERNELS if kernel.group != "cache"]
STREAMS = [kernel.name for kernel in stream.KERNELS if kernel.group == "stream"]
RUNS = [kernel.name for kernel in stream.KERNELS if kernel.group in ("gather", "strided")]
PRECISIONS = list(stream.DTYPES)


def elements_of(kernel: str, precision: str = "fp32") -> int:
    """Return a ragged number of elements: of a gather or stride 70 granules and a rest."""
    row = stream.BY_NAME[kernel]
    if row.group == "stream":
        return ELEMENTS
    return 70 * row.granule_bytes // stream.ITEM_BYTES[precision] + 3


def prepare(kernel: str, precision: str = "fp32", target: Target = CPU) -> Work:
    elements = elements_of(kernel, precision)
    return stream.prepare(
        kernel, "torch", precision, target, elements=elements, buffer_sets=1, seed=5
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
    row = stream.BY_NAME[kernel]
    assert check.checked_elements == row.read_elements(precision, elements_of(kernel, precision))
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
    [
        ("write", "fill_"),
        ("copy", "copy_"),
        ("scale", "mul"),
        ("add", "add"),
        ("triad", "add"),
        ("nstream", "addcmul_"),
    ],
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
        ("nstream", 3, 1, 3),
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


@pytest.mark.parametrize(("kernel", "operation"), [("gather-16", "embedding_bag"),
                                                   ("strided-4", "sum")])  # fmt: skip
@pytest.mark.parametrize("spoil", ["one", "nan"])
def test_a_wrong_column_is_found(kernel: str, operation: str, spoil: str) -> None:
    work = prepare(kernel)

    def wrong(sums: torch.Tensor) -> None:
        sums.view(-1)[7] += math.nan if spoil == "nan" else 0.5

    with Faulty(wrong, {operation}):
        check = work.check()
    assert check.problem is not None
    assert check.error > check.tolerance


@pytest.mark.parametrize(
    ("kernel", "granule_bytes", "one_of"),
    [
        ("gather-16", 4096, 1),
        ("gather-64", 16384, 1),
        ("gather-128", 32768, 1),
        ("strided-2", 128, 2),
        ("strided-4", 256, 4),
        ("strided-8", 512, 8),
        ("strided-16", 1024, 16),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_data_that_was_asked_for_counts(
    kernel: str, granule_bytes: int, one_of: int, precision: str
) -> None:
    work = prepare(kernel, precision)
    item = stream.ITEM_BYTES[precision]
    assert (work.bytes_read, work.bytes_written) == (70 * granule_bytes // one_of, 0)
    assert work.flops == 70 * granule_bytes // one_of // item
    assert work.array_bytes == 70 * granule_bytes + 3 * item


def test_what_the_bytes_of_a_gather_leave_out_is_told() -> None:
    config = prepare("gather-16").config
    assert config == {
        "page_bytes": 4096,
        "pages": 70,
        "index_bytes": 280,
        "bags": 64,
        "result_bytes": 64 * 4096,
    }
    assert prepare("strided-8").config == {"sector_bytes": 64, "one_of": 8}


def test_a_gather_reads_every_page_once_in_an_order_that_the_seed_gives() -> None:
    def order(seed: int) -> list[int]:
        return list(map(int, stream.page_order(64, torch.Generator().manual_seed(seed))))

    assert order(1) == order(1) != order(2)
    assert order(1) != list(range(64))
    assert sorted(order(1)) == list(range(64))


def test_in_place_work_stays_finite_however_often_it_runs() -> None:
    work = prepare("nstream", "fp16")
    for _ in range(20_000):
        work.launches[0]()
    assert bool(torch.isfinite(work.launches[0].args[-1]).all())  # type: ignore[attr-defined]
    assert work.check().problem is None


@pytest.mark.parametrize("kernel", RUNS)
def test_arrays_that_hold_no_granule_are_refused(kernel: str) -> None:
    with pytest.raises(Unsupported) as refused:
        stream.prepare(kernel, "torch", "fp32", CPU, elements=10, buffer_sets=1, seed=0)
    assert refused.value.code == "too-small"


def test_the_old_rows_come_first_and_every_row_has_its_group() -> None:
    assert KERNELS[:7] == ["read", "write", "copy", "scale", "add", "triad", "dot"]
    assert [*STREAMS, *RUNS] == KERNELS
    groups = {kernel.name.partition("-")[0]: kernel.group for kernel in stream.KERNELS}
    assert {groups[name] for name in STREAMS} == {"stream"}
    assert (groups["gather"], groups["strided"]) == ("gather", "strided")
    assert stream.BY_NAME["nstream"].arrays == 3


@pytest.mark.parametrize("route", ["torch", "machine-code", "copy-engine"])
def test_only_our_triton_kernel_stays_within_a_cache(route: str) -> None:
    reason = stream.unavailable("l2-read", route, "fp32", GPU if route != "machine-code" else CPU)
    assert reason is not None
    assert reason.code == ("copy-engine" if route == "copy-engine" else "cache-route")


def test_only_triton_takes_a_configuration() -> None:
    assert stream.candidates("read", "torch", "fp32", GPU) == ()
    assert stream.candidates("read", "triton", "fp32", CPU)
    assert stream.candidates("read", "triton", "fp32", GPU)[0] == "b32768-w8"
    with pytest.raises(ValueError, match="only Triton"):
        stream.prepare(
            "read", "torch", "fp32", CPU, elements=8, buffer_sets=1, seed=0, config="b4096-w4"
        )
