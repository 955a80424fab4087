"""One case becomes one record, whatever the kernel, the library or the device does."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.execute import DeviceLost, measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.timers import Launches
from roofprobe.records.schema import Case, Device, Measurement, Span, Telemetry

POLICY = Policy(
    batch_s=0.001, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=10, max_samples=40
)
CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
NPU = Device(device_id="npu:0", torch_device="cpu", backend="npu", name="Example NPU")
TELEMETRY = Telemetry(n_samples=3, power_w=Span(min=90, median=100, max=110))


class FakeTimer:
    """Returns the seconds per launch that it was told, and launches nothing."""

    name = "fake timer"

    def __init__(self, launch_s: Iterable[float] | None = None) -> None:
        self._launch_s = iter(launch_s if launch_s is not None else itertools.repeat(0.002))
        self.batches = 0

    def time_batch(self, launches: Launches, count: int) -> float:
        self.batches += 1
        return next(self._launch_s) * count

    def synchronize(self) -> None:
        pass


class FakeTelemeter:
    """Tells always the same, and how often it was asked to watch."""

    def __init__(self) -> None:
        self.watched = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        self.watched += 1
        yield

    def summary(self) -> Telemetry | None:
        return TELEMETRY if self.watched else None


class OtherBackend(CpuBackend):
    """A device that is not the CPU and whose tensors lie there; it notes what is in use."""

    kind = "npu"

    def __init__(self, free_bytes: int | None = None) -> None:
        self._free_bytes = free_bytes
        self.in_use_at_release: list[int] = []

    def free_memory_bytes(self, index: int = 0) -> int | None:
        return self._free_bytes

    def release(self) -> None:
        gc.collect()
        tensors = [item for item in gc.get_objects() if type(item) is torch.Tensor]
        self.in_use_at_release.append(sum(tensor.numel() == 1 << 19 for tensor in tensors))


class Faulty(TorchFunctionMode):
    """Lets the device do something else in one named operation."""

    def __init__(self, name: str, act: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self._name, self._act = name, act

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == self._name:
            with torch._C.DisableTorchFunction():
                self._act(result)
        return result


def raising(error: Exception) -> Callable[[torch.Tensor], None]:
    def act(_: torch.Tensor) -> None:
        raise error

    return act


def gemm(precision: str = "fp32", **fields: Any) -> Case:
    route = {"fp8": "torch._scaled_mm", "int8": "torch._int_mm"}.get(precision, "torch.mm")
    shape = {"m": 32, "n": 48, "k": 64}
    return Case.model_validate(
        {
            "case_id": f"gemm/{precision}",
            "family": "compute",
            "op": "gemm",
            "precision": precision,
            "route": route,
            "shape": shape,
            **fields,
        }
    )


def stream(op: str = "triad", elements: int = 1024) -> Case:
    return Case(
        case_id=f"stream/{op}",
        family="memory",
        op=op,
        precision="fp32",
        route="torch",
        shape={"elements": elements},
    )


def measured(
    case: Case,
    *,
    device: Device = CPU,
    backend: CpuBackend | None = None,
    timer: FakeTimer | None = None,
    telemeter: FakeTelemeter | None = None,
) -> Measurement:
    if backend is None:
        backend = CpuBackend() if device.backend == "cpu" else OtherBackend()
    return measure_case(
        case, device, POLICY, backend, timer or FakeTimer(), telemeter or FakeTelemeter(), 0
    )


def test_a_product_that_went_well_has_everything_that_belongs_to_its_figure() -> None:
    case = gemm()
    found = measured(case)
    assert (found.status, found.reason, found.case) == ("ok", None, case)
    assert found.samples_us == (2000.0,) * 10
    assert found.flops == 2 * 32 * 48 * 64
    assert found.rate is not None
    assert found.rate.unit == "TFLOPS"
    assert found.rate.median == pytest.approx(2 * 32 * 48 * 64 / 0.002 / 1e12, rel=1e-12)
    assert found.latency is not None
    assert found.latency.median == pytest.approx(2000.0, rel=1e-12)
    assert found.correctness is not None
    assert 0 < found.correctness.error < found.correctness.tolerance
    assert found.correctness.checked_elements == 32 * 48
    assert found.timing is not None
    assert found.timing.timer == "fake timer"
    assert found.timing.launches_per_sample == 1
    assert found.timing.buffer_sets == 2
    assert found.timing.stop_reason == "interval narrow enough"
    assert found.notes == ()
    assert found.started_at is not None
    assert found.wall_s is not None


def test_integer_products_are_counted_in_tops() -> None:
    found = measured(gemm("int8"))
    assert found.rate is not None
    assert (found.status, found.rate.unit) == ("ok", "TOPS")


def test_a_stream_is_counted_in_bytes_read_and_written() -> None:
    found = measured(stream())
    assert (found.bytes_read, found.bytes_written) == (8192, 4096)
    assert found.rate is not None
    assert found.rate.unit == "GB/s"
    assert found.rate.median == pytest.approx(12288 / 0.002 / 1e9, rel=1e-12)


def test_what_the_device_said_meanwhile_is_kept() -> None:
    assert measured(gemm()).telemetry == TELEMETRY


def test_scattered_samples_carry_a_note_with_the_figure() -> None:
    durations = itertools.cycle([0.002 + 0.0001 * (7 * index % 40) for index in range(40)])
    found = measured(gemm(), timer=FakeTimer(durations))
    note = next(note for note in found.notes if note.code == "noisy")
    assert found.latency is not None
    width = (found.latency.ci_high - found.latency.ci_low) / 2 / found.latency.median
    assert note.figures == {"relative_ci_halfwidth": width}
    assert width > 0.02
    assert len(found.samples_us) == 40


def test_a_pass_that_a_cache_could_hold_in_part_carries_a_note() -> None:
    device = CPU.model_copy(update={"last_level_cache_bytes": 1229})
    note = next(n for n in measured(stream(), device=device).notes if n.code == "cache-residue")
    assert note.figures["bound"] == 1229 / 12288
    small = CPU.model_copy(update={"last_level_cache_bytes": 300})
    assert measured(stream(), device=small).notes == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: out.mul_(1.01),
        lambda out: out[:16, :16].fill_(0),
        lambda out: out[3].fill_(float("nan")),
        lambda out: out[3, 3].fill_(float("inf")),
    ],
    ids=["scaled", "one tile", "one row unwritten", "infinite"],
)
def test_a_wrong_result_fails_and_is_never_timed(spoil: Callable[[torch.Tensor], None]) -> None:
    timer, telemeter = FakeTimer(), FakeTelemeter()
    with Faulty("mm", spoil):
        found = measured(gemm(), timer=timer, telemeter=telemeter)
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "wrong-result"
    assert found.correctness is not None
    assert found.correctness.error > found.correctness.tolerance
    assert (found.samples_us, found.rate, timer.batches, telemeter.watched) == ((), None, 0, 0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MemoryError(), "failed", "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "failed", "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "failed", "out-of-memory"),
        (NotImplementedError("no such operator"), "skipped", "not-implemented"),
        (RuntimeError("\"mm\" not implemented for 'NPU'"), "skipped", "not-implemented"),
        (RuntimeError("something broke\nat line 3"), "failed", "kernel-error"),
        (ValueError("a shape that nobody likes"), "failed", "kernel-error"),
        (ImportError("cannot import name 'plugin'"), "failed", "kernel-error"),
    ],
    ids=[
        "memory-error",
        "cuda-out-of-memory",
        "cpu-out-of-memory",
        "no-operator",
        "no-kernel",
        "broken",
        "value-error",
        "import-error",
    ],
)
@pytest.mark.parametrize("device", [CPU, NPU], ids=["cpu", "npu"])
def test_an_error_becomes_a_record_with_a_reason(
    device: Device, error: Exception, status: str, code: str
) -> None:
    timer = FakeTimer()
    with Faulty("mm", raising(error)):
        found = measured(gemm(), device=device, timer=timer)
    assert found.status == status
    assert found.reason is not None
    assert found.reason.code == code
    assert "\n" not in found.reason.sentence
    assert (found.samples_us, timer.batches) == ((), 0)


def test_a_reason_quotes_the_first_line_of_the_error() -> None:
    with Faulty("mm", raising(RuntimeError("something broke\nat line 3"))):
        found = measured(gemm())
    assert found.reason is not None
    assert found.reason.sentence == "it ended in an error: RuntimeError: something broke"


def test_an_error_while_timing_becomes_a_record_too() -> None:
    found = measured(gemm(), timer=FakeTimer([0.002, 0.002, 0.002]))
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "kernel-error"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "HIP error: unspecified launch failure",
        "the Device Lost its context",
    ],
)
def test_a_device_side_error_ends_the_worker_with_the_record(text: str) -> None:
    with Faulty("mm", raising(RuntimeError(text))), pytest.raises(DeviceLost) as lost:
        measured(gemm(), device=NPU)
    assert lost.value.measurement.status == "failed"
    assert lost.value.measurement.case == gemm()


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul",
        "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling cublasGemmEx",
    ],
)
def test_a_refused_call_does_not_cost_the_device(text: str) -> None:
    with Faulty("mm", raising(RuntimeError(text))):
        assert measured(gemm(), device=NPU).status in ("failed", "skipped")


def test_the_cpu_is_never_lost() -> None:
    with Faulty("mm", raising(RuntimeError("CUDA error: unknown"))):
        assert measured(gemm()).status == "failed"


def test_what_the_device_has_no_mode_for_is_skipped_with_the_reason() -> None:
    found = measured(gemm("tf32"))
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == "architecture"


def test_a_case_that_does_not_fit_is_skipped_and_says_how_much_is_missing() -> None:
    found = measured(gemm(), device=NPU, backend=OtherBackend(free_bytes=1000))
    assert found.status == "skipped"
    assert found.reason is not None
    assert (found.reason.code, found.reason.remedy is None) == ("memory", False)


@pytest.mark.parametrize("fails", [False, True], ids=["ok", "failed"])
def test_buffers_are_free_when_the_backend_is_asked_to_release_them(fails: bool) -> None:
    backend = OtherBackend()

    def act(_: torch.Tensor) -> None:
        if fails:
            raise RuntimeError("broken")

    with Faulty("add", act):
        found = measured(stream("triad", elements=1 << 19), device=NPU, backend=backend)
    assert found.status == ("failed" if fails else "ok")
    assert backend.in_use_at_release == [0]


def test_small_work_does_not_cost_a_release() -> None:
    backend = OtherBackend()
    measured(gemm(), device=NPU, backend=backend)
    assert backend.in_use_at_release == []
