"""Launches without work: what exists where, what is checked, and that the kernels are empty."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import torch

from roofprobe.kernels import launches, triton_empty
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.probes import timers

CPU = Target("cpu", "cpu", "x86_64", 2)
GPU = Target("cuda", "cuda:0", "sm_90", 132)
NPU = Target("npu", "cpu")
NAMES = [row.name for row in launches.ROWS]


def names_on(target: Target) -> list[str]:
    return [name for name in NAMES if launches.unavailable(name, target) is None]


def test_each_device_has_the_rows_that_it_can_have() -> None:
    assert names_on(GPU) == NAMES
    assert names_on(Target("rocm", "cuda:0", "gfx942")) == NAMES
    assert names_on(CPU) == ["empty-waited", "op-waited", "op-enqueue", "op-batch"]
    assert names_on(NPU) == ["op-waited", "op-enqueue", "op-batch", "op-stream"]


@pytest.mark.parametrize(
    ("name", "target", "code"),
    [
        ("empty-graph", CPU, "no-graphs"),
        ("op-graph", NPU, "no-graphs"),
        ("op-stream", CPU, "no-stream"),
        ("triton-enqueue", CPU, "no-triton-target"),
        ("empty-waited", NPU, "no-triton-target"),
    ],
)
def test_a_row_that_a_device_lacks_has_a_reason(name: str, target: Target, code: str) -> None:
    reason = launches.unavailable(name, target)
    assert reason is not None
    assert reason.code == code
    with pytest.raises(Unsupported):
        launches.prepare(name, target)


def test_names_are_stable_keys_and_what_is_timed_has_a_timer() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {row.timed for row in launches.ROWS} == set(get_args(launches.Timed))
    events = timers.EventTimer(object, lambda: None)
    graph = timers.GraphTimer(torch.device("cpu"), events)
    for row in launches.ROWS:
        assert timers.launch_timer(row.timed, graph) is not None


@pytest.mark.parametrize("name", ["empty-waited", "op-waited", "op-enqueue", "op-batch"])
def test_a_launch_moves_no_bytes_and_does_no_operations(name: str) -> None:
    work = launches.prepare(name, CPU)
    assert (work.flops, work.bytes_read, work.bytes_written, work.array_bytes) == (0, 0, 0, 0)
    assert work.config["timed"] == launches.BY_NAME[name].timed
    assert len(work.launches) == 1
    assert work.check().problem is None


def test_the_operation_s_launches_are_counted() -> None:
    work = launches.prepare("op-enqueue", CPU)
    check = work.check()
    assert (check.error, check.tolerance, check.checked_elements) == (0.0, 0.0, 1)


@pytest.mark.parametrize(
    ("launched", "problem"), [(2, "3 launches added 2"), (4, "3 launches added 4")]
)
def test_a_launch_that_is_lost_or_doubled_is_found(launched: int, problem: str) -> None:
    counter = torch.zeros(1)
    steps = iter([1.0, 1.0, launched - 2.0])
    check = launches._check_count(counter, lambda: counter.add_(next(steps)))
    assert check.problem == problem
    assert check.error == 1.0


def test_a_counter_that_holds_no_number_is_found() -> None:
    counter = torch.zeros(1)
    check = launches._check_count(counter, lambda: counter.fill_(float("nan")))
    assert check.problem == "3 launches added nan"
    assert check.error == 1.0


def test_a_cpu_s_empty_launch_does_nothing() -> None:
    work = launches.prepare("empty-waited", CPU)
    first, second = work.launches[0](), work.launches[0]()
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    assert first.data_ptr() == second.data_ptr()
    assert float(second) == 0.0


@pytest.mark.parametrize(("call", "kernel"), [("empty", "empty_kernel"), ("triton", "arguments_")])
def test_a_gpu_s_launch_is_the_triton_kernel_of_its_row(
    call: launches.Call, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> object:
            return lambda *arguments, **options: asked.append((grid, len(arguments), options))

    monkeypatch.setattr(triton_empty, "empty_kernel", Kernel())
    monkeypatch.setattr(triton_empty, "arguments_kernel", Kernel())
    launch, name = launches._launcher(call, torch.zeros(1), GPU)
    launch()
    assert asked == [((1,), 0 if call == "empty" else 5, {"num_warps": 1})]
    assert name.startswith(kernel)


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100", "gfx942"])
def test_the_empty_kernels_compile_to_nothing(arch: str) -> None:
    for source in triton_empty.sources():
        emitted = source.compile(arch)
        assert emitted.shared_bytes == 0
        assert not emitted.spills
        touched = re.findall(r"\b(?:ld|st)\.global|\bglobal_(?:load|store)", emitted.assembly)
        assert touched == []
