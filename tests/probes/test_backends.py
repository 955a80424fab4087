"""The CPU describes itself; any other accelerator needs only what it has."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from roofprobe.kernels.rows import BY_NAME
from roofprobe.probes.backends import (
    AcceleratorBackend,
    CpuBackend,
    CudaBackend,
    available_backends,
    target_of,
)
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.execute import measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.plan import plan_cases
from roofprobe.probes.session import Session
from roofprobe.probes.timers import EventTimer, Launches, WallTimer
from roofprobe.records.schema import CacheLevel, Case, Device, Measurement, Options

POLICY = Policy(
    batch_s=0.001, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=6, search_s=0.02
)


class NpuInterface:
    """What ``torch.accelerator`` offers for the double; it counts what was asked of it."""

    def __init__(self, devices: int = 2) -> None:
        self._devices = devices
        self.synchronised = 0
        self.index: int | None = None

    def device_count(self) -> int:
        return self._devices

    def set_device_index(self, index: int) -> None:
        self.index = index

    def synchronize(self) -> None:
        self.synchronised += 1


class NpuEvent:
    """A timing event that fires a millisecond after the one recorded before it."""

    _clock = itertools.count()

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at_ms = -1

    def record(self) -> None:
        self.at_ms = next(self._clock)

    def elapsed_time(self, later: NpuEvent) -> float:
        return float(later.at_ms - self.at_ms)


class NpuModule:
    """What ``torch.npu`` offers for the double."""

    Event = NpuEvent

    def get_device_name(self, index: int) -> str:
        return "Example NPU"

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return 3 << 30, 4 << 30

    def get_device_properties(self, index: int) -> object:
        class Properties:
            cube_core_num = 20
            L2_cache_size = 1 << 20

        return Properties()


class SmallModule(NpuModule):
    """A device with little memory, so that a search on the double stays small."""

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return 96 << 20, 128 << 20


class EventlessModule(NpuModule):
    """A module whose events cannot time."""

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            raise RuntimeError("timing events are not implemented for 'NPU'")


class BareModule:
    """A half-installed plug-in: nothing is there."""


class LacksOperations(TorchFunctionMode):
    """Makes torch answer for some operations as it does on a backend without them."""

    LACKING = ("_int_mm", "_scaled_mm", "dot")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "_scaled_mm":
            raise NotImplementedError(f"Could not run 'aten::{name}' with the 'NPU' backend")
        if name in self.LACKING:
            raise RuntimeError(f"\"{name}\" not implemented for 'NPU'")
        return func(*args, **(kwargs or {}))


class FakeTimer:
    name = "fake timer"

    def time_batch(self, launches: Launches, count: int) -> float:
        return 0.002 * count

    def synchronize(self) -> None:
        pass


class NoTelemeter:
    def watch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def summary(self) -> None:
        return None


def npu(module: Any = None, interface: Any = None) -> AcceleratorBackend:
    return AcceleratorBackend(
        "npu", interface or NpuInterface(), module or NpuModule(), tensor_device="cpu"
    )


def test_the_cpu_is_one_device_with_cores_memory_and_a_wall_clock() -> None:
    backend = CpuBackend()
    device = backend.describe()
    assert backend.count() == 1
    assert (device.device_id, device.torch_device, device.backend) == ("cpu", "cpu", "cpu")
    assert device.name
    assert device.unit == "core"
    assert device.unit_count is not None
    assert device.unit_count >= 1
    assert device.memory_bytes is not None
    assert device.memory_free_bytes is not None
    assert 0 < device.memory_free_bytes <= device.memory_bytes
    assert (device.last_level_cache_bytes is None) == ("last_level_cache_bytes" in device.missing)
    assert (device.limits.max_sm_clock_mhz is None) == ("clock_mhz" in device.missing)
    assert isinstance(backend.timer(), WallTimer)
    free = backend.free_memory_bytes()
    assert free is not None
    assert 0 < free <= device.memory_bytes


def test_the_cpu_is_always_the_last_backend() -> None:
    assert available_backends()[-1].kind == "cpu"


def test_another_accelerator_tells_name_units_cache_and_memory() -> None:
    device = npu().describe(1)
    assert device == Device(
        device_id="npu:1",
        torch_device="cpu",
        backend="npu",
        name="Example NPU",
        index=1,
        unit_count=20,
        memory_bytes=4 << 30,
        memory_free_bytes=3 << 30,
        last_level_cache_bytes=1 << 20,
        caches=(
            CacheLevel(
                level=2,
                kind="unified",
                instance_bytes=1 << 20,
                instance_count=1,
                used_count=1,
                shared_by=20,
                source="driver",
            ),
        ),
    )


def test_without_a_tensor_device_tensors_go_to_the_numbered_device() -> None:
    backend = AcceleratorBackend("npu", NpuInterface(), NpuModule())
    assert backend.describe(1).torch_device == "npu:1"


def test_what_a_backend_lacks_is_absent_with_the_reason() -> None:
    device = npu(BareModule()).describe(0)
    assert set(device.missing) == {"name", "properties", "memory_free_bytes"}
    assert all(device.missing.values())
    assert device.name == "npu device 0"
    assert (device.memory_bytes, device.unit_count, device.last_level_cache_bytes) == (None,) * 3
    assert npu(BareModule()).free_memory_bytes(0) is None


def test_memory_is_asked_of_the_plug_in_where_torch_s_interface_fails() -> None:
    class Interface(NpuInterface):
        def get_memory_info(self, index: int) -> tuple[int, int]:
            raise RuntimeError("the allocator for npu is not a DeviceAllocator")

    assert npu(interface=Interface()).free_memory_bytes(0) == 3 << 30


def test_a_plug_in_that_fails_shows_no_device() -> None:
    assert npu(interface=object()).count() == 0
    assert npu(interface=NpuInterface(3)).count() == 3


def test_release_survives_a_backend_without_a_cache() -> None:
    interface = NpuInterface()
    assert not hasattr(interface, "empty_cache")
    npu(interface=interface).release()


def test_timing_events_are_used_where_there_are_any() -> None:
    interface = NpuInterface()
    timer = npu(interface=interface).timer(1)
    assert isinstance(timer, EventTimer)
    assert timer.name == "device events (launch cost not hidden)"
    assert timer.time_batch([lambda: None], 3) == 0.001
    assert interface.index == 1


def test_another_accelerator_is_made_the_current_device_where_it_can_be() -> None:
    interface = NpuInterface()
    npu(interface=interface).select(1)
    assert interface.index == 1
    npu(interface=object()).select(1)


def test_a_gpu_is_made_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    CudaBackend().select(3)
    assert selected == [3]


def test_without_timing_events_the_wall_clock_waits_before_and_after() -> None:
    interface = NpuInterface()
    timer = npu(EventlessModule(), interface).timer(0)
    seen: list[int] = []
    timer.time_batch([lambda: seen.append(interface.synchronised)], 3)
    assert timer.name == "wall clock around synchronised batches (launch cost included)"
    assert seen == [1, 1, 1]
    assert interface.synchronised == 2
    timer.synchronize()
    assert interface.synchronised == 3


def test_the_target_repeats_what_kernels_need() -> None:
    target = target_of(npu().describe(0))
    assert (target.kind, target.torch_device, target.unit_count) == ("npu", "cpu", 20)
    assert not target.is_gpu


def tiny(case: Case) -> Case:
    if case.family == "memory":
        return case.model_copy(update={"shape": {"elements": 4096}})
    if not case.shape:
        return case
    return case.model_copy(update={"shape": {"m": 32, "n": 32, "k": 64}})


Outcomes = dict[tuple[str, str, str], Measurement]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Measure every kind of case, at tiny shapes, on a double that lacks several operations."""
    backend = npu(SmallModule())
    device = backend.describe(0)
    session = Session.on(device, backend, NoTelemeter(), NoClock(), timer=FakeTimer())
    found: Outcomes = {}
    with LacksOperations():
        for case in plan_cases(device, Options(families=("compute", "memory"))):
            key = (case.op, case.row or case.precision, case.route)
            if case.op == "search" and case.row not in ("fp32", "int8", "tf32", "fp8"):
                continue  # a search on a double takes a while and is the same for each
            if key not in found:
                found[key] = measure_case(tiny(case), POLICY, session)
    return found


def test_no_case_fails_on_a_backend_that_lacks_operations(outcomes: Outcomes) -> None:
    failed = {key: row.reason for key, row in outcomes.items() if row.status == "failed"}
    assert failed == {}
    assert {row.status for row in outcomes.values()} == {"ok", "skipped"}
    assert {key[1] for key in outcomes if key[0] in ("gemm", "pipe")} == set(BY_NAME)
    skipped = [row for row in outcomes.values() if row.status == "skipped"]
    assert all(row.reason is not None and row.reason.sentence for row in skipped)
    assert all(not row.samples_us for row in skipped)


@pytest.mark.parametrize("row", ["fp64", "fp32", "bf16", "fp16"])
def test_plain_products_are_measured_on_any_accelerator(outcomes: Outcomes, row: str) -> None:
    found = outcomes[("gemm", row, "torch.mm")]
    assert found.status == "ok"
    assert found.samples_us == (2000.0,) * 6


def test_bits_are_watched_and_shapes_searched_on_any_accelerator(outcomes: Outcomes) -> None:
    assert outcomes[("stability", "fp32", "torch.mm")].status == "ok"
    search = outcomes[("search", "fp32", "torch.mm")].search
    assert search is not None
    assert search.best is not None


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (("gemm", "tf32", "torch.mm"), "backend"),
        (("gemm", "fp16-acc16", "torch.mm"), "backend"),
        (("gemm", "fp8-fast", "torch._scaled_mm"), "architecture"),
        (("gemm", "fp8", "torch._scaled_mm"), "not-implemented"),
        (("gemm", "fp8-rowwise", "torch._scaled_mm"), "not-implemented"),
        (("gemm", "fp8-blockwise", "F.scaled_mm"), "backend"),
        (("gemm", "int8", "torch._int_mm"), "not-implemented"),
        (("gemm", "nvfp4", "F.scaled_mm"), "backend"),
        (("gemm", "bf16-sparse", "cuSPARSELt"), "backend"),
        (("gemm", "bf16", "torch.mm/lt"), "backend"),
        (("gemm", "bf16", "torch.mm/tuned"), "backend"),
        (("gemm", "fp32", "numpy.matmul"), "backend"),
        (("gemm", "bf16", "triton"), "no-triton-target"),
        (("pipe", "int4", "pipe"), "no-triton-target"),
        (("pipe", "bf16", "pipe"), "no-triton-target"),
        (("pipe", "bf16-sparse", "pipe"), "no-route"),
        (("search", "tf32", "torch.mm"), "backend"),
        (("dot", "fp32", "torch"), "not-implemented"),
        (("triad", "fp32", "torch"), None),
        (("copy", "fp32", "copy-engine"), None),
    ],
)
def test_only_what_is_lacking_is_skipped_and_has_its_reason(
    outcomes: Outcomes, key: tuple[str, str, str], code: str | None
) -> None:
    reason = outcomes[key].reason
    assert (reason.code if reason else None) == code


@pytest.mark.parametrize(("row", "route"), [("fp8", "torch._scaled_mm"), ("int8", "torch._int_mm")])
def test_a_search_of_what_the_backend_lacks_is_skipped(
    outcomes: Outcomes, row: str, route: str
) -> None:
    found = outcomes[("search", row, route)]
    assert found.status == "skipped"
    assert found.reason is not None


def test_the_double_lacks_what_it_says() -> None:
    a = torch.ones(32, 32, dtype=torch.int8)
    with LacksOperations(), pytest.raises(RuntimeError, match="not implemented for 'NPU'"):
        torch._int_mm(a, a)
