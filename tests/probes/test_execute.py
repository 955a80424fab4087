"""One case becomes one record, whatever the kernel, the library or the device does."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from roofprobe.kernels import identity, matmul, memory_check, routes
from roofprobe.kernels.identity import Identity
from roofprobe.kernels.memory_check import MemoryCheck
from roofprobe.kernels.work import Work
from roofprobe.probes import execute
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import Clock, NoClock
from roofprobe.probes.execute import DeviceLost, measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.session import Session
from roofprobe.probes.timers import Launches
from roofprobe.records.schema import NOT_ALONE, Case, Device, Measurement, Span, Telemetry

POLICY = Policy(
    batch_s=0.001, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=10, max_samples=40
)
CPU = Device(
    device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU", architecture="x86_64"
)
NPU = Device(device_id="npu:0", torch_device="cpu", backend="npu", name="Example NPU")
TELEMETRY = Telemetry(n_samples=3, power_w=Span(min=90, median=100, max=110), energy_j=3.0)
SEEN = Identity(names=("sgemm_kernel",), library="MKL", instruction="avx2")


@pytest.fixture(autouse=True)
def identified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand for the watching of kernels, which has tests of its own; notes what was watched."""
    watched: list[str] = []

    def identify(launch: Callable[[], None], target: object) -> Identity:
        launch()
        watched.append(str(target))
        return SEEN

    monkeypatch.setattr(identity, "identify", identify)
    return watched


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


class Launching(FakeTimer):
    """Launches what it is given, and returns what it was told."""

    def time_batch(self, launches: Launches, count: int) -> float:
        launches[0]()
        return super().time_batch(launches, count)


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

    def __init__(self, name: str, act: Callable[[torch.Tensor], object]) -> None:
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


def gemm(row: str = "fp32", route: str | None = None, **fields: Any) -> Case:
    found = routes.route_named(row, route) if route else routes.routes_for(row)[0]
    return Case.model_validate(
        {
            "case_id": f"gemm/{row}",
            "family": "compute",
            "op": "gemm",
            "precision": found.precision,
            "route": found.name,
            "row": row,
            "shape": {"m": 32, "n": 48, "k": 64},
            **fields,
        }
    )


def bare(op: str, row: str = "fp32", route: str = "pipe") -> Case:
    """Return a case without a shape: the pipe alone, a search, a row without a route."""
    return Case.model_validate(
        {
            "case_id": f"{op}/{row}",
            "family": "compute",
            "op": op,
            "precision": row,
            "route": route,
            "row": row,
            "role": op if op != "gemm" else "anchor",
            "shape": {},
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


class Counting:
    """A clock that says for each sample what it was told."""

    def __init__(self, *values_mhz: float | None) -> None:
        self._values = itertools.cycle(values_mhz)
        self._counted: list[float] = []
        self.began = 0

    def clear(self) -> None:
        self._counted.clear()

    def begin(self) -> None:
        self.began += 1

    def end(self) -> None:
        mhz = next(self._values)
        if mhz is not None:
            self._counted.append(mhz)

    def clocks_mhz(self) -> tuple[float, ...]:
        return tuple(self._counted)


def session_on(
    device: Device = CPU,
    backend: CpuBackend | None = None,
    timer: FakeTimer | None = None,
    telemeter: FakeTelemeter | None = None,
    clock: Clock | None = None,
) -> Session:
    if backend is None:
        backend = CpuBackend() if device.backend == "cpu" else OtherBackend()
    return Session.on(
        device,
        backend,
        telemeter or FakeTelemeter(),
        clock or NoClock(),
        timer=timer or FakeTimer(),
    )


def measured(case: Case, policy: Policy = POLICY, **session: Any) -> Measurement:
    return measure_case(case, policy, session_on(**session))


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
    assert found.energy_j_per_tflop == 3.0 / ((2 + 10) * 2 * 32 * 48 * 64 * 1e-12)
    assert found.identity is not None
    assert (found.identity.names, found.identity.library) == (("sgemm_kernel",), "MKL")
    assert (found.identity.instruction, found.identity.missing) == ("avx2", None)
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


class Neighbours(FakeTelemeter):
    """Tells of each watch how many of our threads waited for a processor that others had."""

    def __init__(self, *waiting: float) -> None:
        super().__init__()
        self._waiting = waiting

    def summary(self) -> Telemetry | None:
        waiting = self._waiting[self.watched - 1]
        return Telemetry(waiting_threads=waiting, others_cores=1.0)


@pytest.mark.parametrize(
    ("tries", "waiting", "kept"),
    [
        (3, (0.04,), 0),  # little enough at once
        (3, (0.5, 0.02), 1),  # they went
        (3, (0.5, 0.2, 0.4), 1),  # the least disturbed, with its note
        (1, (0.5,), 0),
    ],
)
def test_what_others_disturbed_is_sampled_anew_and_the_least_disturbed_counts(
    tries: int, waiting: tuple[float, ...], kept: int
) -> None:
    policy = replace(POLICY, tries=tries)
    # 12 batches a try: two that size it, ten samples; each try is slower than the one before
    timer = FakeTimer(0.001 * (2 + index // 12) for index in itertools.count())
    telemeter = Neighbours(*waiting)
    found = measured(gemm(), policy, timer=timer, telemeter=telemeter)
    assert telemeter.watched == len(waiting)
    assert found.timing is not None
    assert found.timing.tries == len(waiting)
    assert found.telemetry is not None
    assert found.telemetry.waiting_threads == waiting[kept]
    assert found.samples_us == (1000.0 * (2 + kept),) * 10
    noted = {note.code: note.figures for note in found.notes}
    share = waiting[kept] if waiting[kept] > 0.05 else None
    assert noted.get(NOT_ALONE) == (
        share and {"share": share, "waiting_threads": share, "others_cores": 1.0}
    )


def test_a_try_that_took_as_long_as_all_should_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a crowded host each may take minutes, and the next would be no better."""
    clock = itertools.count(0.0, 7.0)
    monkeypatch.setattr("roofprobe.probes.execute.time.monotonic", lambda: next(clock))
    policy = replace(POLICY, tries=3, min_samples=3, max_time_s=2.0)
    found = measured(gemm(), policy, telemeter=Neighbours(0.5, 0.1, 0.0))
    assert found.timing is not None
    assert found.timing.tries == 1


def test_scattered_samples_carry_a_note_with_the_figure() -> None:
    durations = itertools.cycle([0.002 + 0.0001 * (7 * index % 40) for index in range(40)])
    found = measured(gemm(), timer=FakeTimer(durations))
    note = next(note for note in found.notes if note.code == "noisy")
    assert found.rate is not None
    width = (found.rate.ci_high - found.rate.ci_low) / 2 / found.rate.median
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
    with Faulty("mm", raising(RuntimeError("CUDA error: an illegal memory access"))):
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
def test_buffers_are_free_when_the_backend_is_asked_to_release_them(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    backend = OtherBackend()

    def act(_: torch.Tensor) -> None:
        if fails:
            raise RuntimeError("broken")

    monkeypatch.setattr(execute, "WORTH_RELEASING_BYTES", 1 << 22)
    with Faulty("add", act):
        found = measured(stream("triad", elements=1 << 19), device=NPU, backend=backend)
    assert found.status == ("failed" if fails else "ok")
    assert backend.in_use_at_release == [0]


class Unreleasable(OtherBackend):
    """A device that cannot give memory back, as after an error in it."""

    def release(self) -> None:
        raise RuntimeError("CUDA error: captures_underway.empty()")


@pytest.mark.parametrize("lost", [False, True])
def test_a_release_that_fails_does_not_stand_in_for_the_end_of_the_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: bool
) -> None:
    monkeypatch.setattr(execute, "WORTH_RELEASING_BYTES", 1 << 22)
    case, fault = stream("triad", elements=1 << 19), "an illegal memory access was encountered"
    if lost:
        with Faulty("add", raising(RuntimeError(fault))), pytest.raises(DeviceLost) as raised:
            measured(case, device=NPU, backend=Unreleasable())
        assert raised.value.measurement.case == case
    else:
        assert measured(case, device=NPU, backend=Unreleasable()).status == "ok"
    told = "memory not released: RuntimeError: CUDA error: captures_underway.empty()\n"
    assert told in capsys.readouterr().err


def test_small_work_does_not_cost_a_release() -> None:
    backend = OtherBackend()
    session = session_on(NPU, backend)
    for case in (gemm(), gemm("bf16"), stream()):
        assert measure_case(case, POLICY, session).status == "ok"
    assert backend.in_use_at_release == []


def test_operands_stay_from_case_to_case_and_go_before_a_stream_needs_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from roofprobe.probes import arenas

    monkeypatch.setattr(arenas, "WORTH_RELEASING_BYTES", 0)
    monkeypatch.setattr(execute, "WORTH_RELEASING_BYTES", 0)
    backend = OtherBackend()
    session = session_on(NPU, backend)
    for _ in range(3):
        assert measure_case(gemm(), POLICY, session).status == "ok"
    assert backend.in_use_at_release == [], "three products of one row cost no release"
    assert measure_case(stream(elements=64), POLICY, session).status == "ok"
    assert len(backend.in_use_at_release) == 2, "the operands before, the arrays after"


# The kernel's name


def test_the_kernel_is_asked_for_its_name_where_it_may_be_a_new_one_only(
    identified: list[str],
) -> None:
    for role in ("anchor", "route", "tune", "layout", "alignment"):
        assert measured(gemm(role=role)).identity is not None
    assert len(identified) == 5
    for role in ("pattern", "surface", "settled"):
        assert measured(gemm(role=role)).identity is None
    assert measured(stream()).identity is None
    assert len(identified) == 5


def test_a_kernel_that_is_not_the_precision_s_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        identity, "fallback", lambda seen, precision, target: f"{seen.library} did {precision}"
    )
    found = measured(gemm("bf16"))
    assert found.identity is not None
    assert found.identity.fallback == "MKL did bf16"


def test_a_kernel_of_ours_is_known_by_what_it_was_compiled_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = matmul.prepare

    def compiled_to(assembly: str | None) -> Callable[..., Work]:
        return lambda *args, **more: replace(real(*args, **more), assembly=lambda: assembly)

    hopper = CPU.model_copy(update={"architecture": "sm_90"})
    for assembly, instruction, fallback in (
        ("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16", "wgmma", None),
        ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "mma.sync", "not the wgmma form"),
    ):
        monkeypatch.setattr(matmul, "prepare", compiled_to(assembly))
        found = measured(gemm("bf16"), device=hopper)
        assert found.identity is not None
        assert (found.identity.library, found.identity.instruction) == ("Triton", instruction)
        assert (
            (fallback in str(found.identity.fallback))
            if fallback
            else (found.identity.fallback is None)
        )
    monkeypatch.setattr(matmul, "prepare", compiled_to(None))
    found = measured(gemm("bf16"), device=hopper)
    assert found.identity is not None
    assert found.identity.library == "MKL", "without assembly the profiler's word stands"


def test_why_no_kernel_was_seen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        identity, "identify", lambda launch, target: Identity((), reason="no profiler here")
    )
    found = measured(gemm())
    assert found.identity is not None
    assert (found.identity.names, found.identity.missing) == ((), "no profiler here")


# The clock


def test_the_clock_is_counted_around_each_sample() -> None:
    clock = Counting(2000.0, None, 1000.0, None)
    found = measured(gemm(), clock=clock)
    assert clock.began == len(found.samples_us) == 10
    assert found.sample_clocks_mhz == (2000.0, 1000.0, 2000.0, 1000.0, 2000.0)
    assert found.clock_mhz == Span(min=1000, median=2000, max=2000)


def test_a_stream_is_sampled_without_its_own_words_for_the_clock() -> None:
    assert measured(stream(), clock=Counting(None)).clock_mhz is None


# The pipe


def test_the_pipe_of_this_processor_is_measured_like_a_product() -> None:
    from roofprobe.probes import host

    device = CPU.model_copy(
        update={"features": host.cpu_facts().simd_features, "architecture": None, "unit_count": 2}
    )
    found = measured(bare("pipe"), device=device)
    if found.status == "skipped":
        pytest.skip(f"this processor has no pipe for fp32: {found.reason}")
    assert found.status == "ok"
    assert found.rate is not None
    assert found.flops is not None
    assert found.rate.median == pytest.approx(found.flops / 0.002 / 1e12, rel=1e-12)
    assert found.correctness is not None
    assert found.correctness.error == 0
    assert found.kernel_config is not None
    assert found.kernel_config["threads"] == 2
    assert found.identity is not None
    assert found.identity.names == (found.kernel,)
    assert found.identity.instruction == found.kernel_config["instruction"]


@pytest.mark.parametrize("row", ["bf16-sparse", "nvfp4", "fp16-acc16"])
def test_a_pipe_that_a_processor_lacks_is_skipped_with_the_reason(row: str) -> None:
    found = measured(bare("pipe", row).model_copy(update={"precision": row}))
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.sentence


def test_the_pipe_needs_no_operands_and_gives_them_back() -> None:
    session = session_on()
    measure_case(gemm(), POLICY, session)
    assert session.arenas._arena is not None
    measure_case(bare("pipe"), POLICY, session)
    assert session.arenas._arena is None


# Searching


SEARCHING = Policy(
    batch_s=0.001, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=6, search_s=0.05
)


def test_a_search_leaves_its_whole_path_and_the_best_shape_checked_and_sampled() -> None:
    found = measured(bare("search", route="torch.mm"), SEARCHING)
    search = found.search
    assert found.status == "ok"
    assert search is not None
    assert search.best is not None
    m, n, k = search.best
    assert found.flops == 2 * m * n * k
    assert (search.route, search.method, search.seed) == ("torch.mm", "successive halving", 0)
    assert search.candidates >= len({step.shape for step in search.steps if step.tflops}) > 0
    assert search.best_tflops is not None
    assert found.correctness is not None
    assert found.correctness.checked_elements == m * n
    assert found.samples_us == (2000.0,) * 3, "briefly: its route follows at the same shape"
    assert found.case.shape == {}, "the case stays what was planned"


def test_an_exhaustive_search_is_the_whole_grid() -> None:
    policy = Policy(
        batch_s=0.001, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=6, search_s=0.001,
        search_method="exhaustive",
    )  # fmt: skip
    search = measured(bare("search", route="torch.mm"), policy).search
    assert search is not None
    assert search.method == "exhaustive"
    assert len(search.steps) == search.candidates == 64
    assert (search.budget_s, search.anchor, search.untried) == (None, None, ())


def test_a_search_on_a_row_that_the_device_lacks_is_skipped_with_its_reason() -> None:
    found = measured(bare("search", "tf32", "torch.mm"), SEARCHING)
    assert (found.status, found.search) == ("skipped", None)
    assert found.reason is not None
    assert found.reason.code == "architecture"


def test_a_search_in_which_every_shape_fails_is_skipped_and_quotes_the_last() -> None:
    with Faulty("mm", raising(RuntimeError("no such shape\nat line 3"))):
        found = measured(bare("search", route="torch.mm"), SEARCHING, timer=Launching())
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == "no-candidate"
    assert found.reason.sentence.startswith("none of ")
    assert found.reason.sentence.endswith("shapes worked: no such shape")


def test_a_device_lost_in_a_search_ends_the_worker_with_the_record() -> None:
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")
    with Faulty("mm", raising(lost)), pytest.raises(DeviceLost) as raised:
        measured(
            bare("search", route="torch.mm"),
            SEARCHING,
            device=NPU,
            backend=OtherBackend(free_bytes=128 << 20),
            timer=Launching(),
        )
    assert raised.value.measurement.case.op == "search"


def test_the_best_shape_of_a_search_is_not_trusted_but_checked() -> None:
    with Faulty("mm", lambda out: out.mul_(1.01)):
        found = measured(bare("search", route="torch.mm"), SEARCHING)
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "wrong-result"


def test_the_seed_of_the_session_decides_the_order_of_a_search() -> None:
    session = session_on()
    other = Session.on(CPU, CpuBackend(), FakeTelemeter(), NoClock(), timer=FakeTimer(), seed=7)
    found = [measure_case(bare("search", route="torch.mm"), SEARCHING, s) for s in (session, other)]
    assert [m.search.seed for m in found if m.search] == [0, 7]


# Stability


def stability(row: str = "fp32") -> Case:
    return gemm(row, op="stability", role="stability")


@pytest.mark.parametrize("row", ["fp64", "fp32", "bf16", "fp8", "int8"])
def test_a_product_whose_bits_stay_is_ok_without_samples(row: str) -> None:
    telemeter = FakeTelemeter()
    found = measured(stability(row), telemeter=telemeter)
    assert (found.status, found.samples_us, found.rate) == ("ok", (), None)
    assert found.correctness is not None
    assert (found.correctness.error, found.correctness.tolerance) == (0.0, 0.0)
    assert found.correctness.checked_elements == 4 * 32 * 48
    assert (found.telemetry, telemeter.watched) == (TELEMETRY, 1)
    assert found.kernel == gemm(row).route


@pytest.mark.parametrize("launch", [3, 4, 5])
def test_a_product_whose_bits_differ_once_is_failed_with_the_place(launch: int) -> None:
    launched = itertools.count(1)  # the first is the check's, which forgives a last bit

    def flip_last_bit_once(out: torch.Tensor) -> None:
        if next(launched) == launch:
            out.view(torch.int32)[5, 7] ^= 1

    with Faulty("mm", flip_last_bit_once):
        found = measured(stability())
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "unstable-bits"
    assert "1 of 1536 elements had other bits" in found.reason.sentence
    assert "the first at (5, 7)" in found.reason.sentence
    assert found.reason.remedy == "repeat; if it stays, the device corrupts data: stop using it"
    assert found.correctness is not None
    assert found.correctness.error == 1 / 1536
    assert found.rate is None


def test_a_stable_but_wrong_product_is_a_wrong_result() -> None:
    with Faulty("mm", lambda out: out.mul_(1.01)):
        found = measured(stability())
    assert found.reason is not None
    assert found.reason.code == "wrong-result"


# What was declined


@pytest.mark.parametrize("op", ["gemm", "search", "stability"])
def test_a_format_that_the_library_declined_is_skipped_and_nothing_is_wrong(
    monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    # A device whose library computes TF32 in IEEE float32, as this processor does.
    monkeypatch.setattr(routes, "unavailable", lambda route, target: None)
    monkeypatch.setattr(matmul, "unavailable", lambda route, target: None)
    timer = FakeTimer()
    case = bare("search", "tf32", "torch.mm") if op == "search" else gemm("tf32", op=op)
    found = measured(case, SEARCHING, timer=timer, telemeter=FakeTelemeter())
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == "declined"
    assert "declined this precision" in found.reason.sentence
    assert "NVIDIA_TF32_OVERRIDE" in str(found.reason.remedy)
    assert found.correctness is not None
    assert found.correctness.error < 1e-5
    assert (found.samples_us, found.rate) == ((), None)
    if op == "gemm":
        assert timer.batches == 0


# What cannot be done


def test_a_row_without_a_route_is_skipped_with_what_it_would_take() -> None:
    found = measured(bare("gemm", "int4", "none"))
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == "no-route"
    assert found.reason.remedy == "a GPU of compute capability 7.5 to 8.9"


def test_a_shape_that_a_route_cannot_do_costs_no_memory() -> None:
    session = session_on()
    case = gemm("int8", shape={"m": 32, "n": 36, "k": 32})
    found = measure_case(case, POLICY, session)
    assert found.reason is not None
    assert (found.status, found.reason.code) == ("skipped", "shape")
    assert session.arenas._arena is None


@pytest.mark.parametrize("layout", ["TN", "NN", "NT", "TT"])
def test_layout_and_pattern_of_the_case_are_those_of_the_operands(layout: str) -> None:
    session = session_on()
    found = measure_case(gemm(layout=layout, pattern="zeros"), POLICY, session)
    assert found.status == "ok"
    arena = session.arenas._arena
    assert arena is not None
    assert arena.pattern == "zeros"
    operands = arena.sets((32, 48, 64), layout)[0]
    assert float(operands.out.abs().max()) == 0.0


# Bit patterns over the free memory


MEMORY_CHECK = Case(
    case_id="memory-check", family="memory", op="memory-check", precision="none", route="torch",
    shape={}, role="stability",
)  # fmt: skip


def test_the_free_memory_is_checked_with_bit_patterns() -> None:
    found = measured(MEMORY_CHECK, backend=OtherBackend(free_bytes=8 << 20))
    assert found.status == "ok", found.reason
    assert found.array_bytes == 4 << 20
    assert found.correctness is not None
    assert found.correctness.error == 0
    assert found.correctness.checked_elements == (4 << 20) // 8
    assert found.rate is None


def test_memory_that_gives_back_something_else_fails_and_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = memory_check.PatternResult("address", 3, 64, expected=0b1000, found=0b1010)
    monkeypatch.setattr(
        memory_check, "check_memory", lambda chunks, seed: MemoryCheck(4 << 20, (bad,))
    )
    found = measured(MEMORY_CHECK, backend=OtherBackend(free_bytes=8 << 20))
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "unstable-bits"
    assert "at byte 64, bits 0x2" in found.reason.sentence
