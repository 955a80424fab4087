"""The worker answers each line with one line, whatever happens in between."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch

from roofprobe.kernels import routes
from roofprobe.probes import clocks, compute, devices, execute, worker
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.measure import Policy
from roofprobe.probes.session import Session, is_lost
from roofprobe.probes.timers import EventTimer, GraphTimer, Launches, Timer, WallTimer
from roofprobe.records.schema import Case, Device, Measurement

CPU = Device(
    device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU", architecture="x86_64"
)
OPEN = {"op": "open", "device": CPU.model_dump(mode="json"), "seed": 5}
POLICY = {"batch_s": 0.001, "warmup_s": 0.0, "min_time_s": 0.0, "max_time_s": 0.01}


def product(row: str = "fp32") -> Case:
    return compute.gemm(routes.routes_for(row)[0], (32, 48, 64), "surface")


def measuring(case: Case) -> dict[str, Any]:
    return {"op": "measure", "case": case.model_dump(mode="json"), "policy": POLICY}


def asked(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    replies = io.StringIO()
    worker.serve(io.StringIO("".join(json.dumps(r) + "\n" for r in requests)), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_an_opened_device_measures_case_after_case() -> None:
    opened, first, second, third = asked(
        OPEN, measuring(product()), measuring(product("bf16")), measuring(product("tf32"))
    )
    assert opened == {"opened": True}
    found = [Measurement.model_validate(reply["measurement"]) for reply in (first, second, third)]
    assert [m.status for m in found] == ["ok", "ok", "skipped"]
    assert [m.case for m in found] == [product(), product("bf16"), product("tf32")]
    assert [reply["lost"] for reply in (first, second, third)] == [False] * 3
    assert found[0].timing is not None
    assert found[0].timing.timer == "wall clock"
    assert found[0].telemetry is not None


def test_a_request_that_makes_no_sense_is_answered_with_one_sentence() -> None:
    replies = asked(measuring(product()), OPEN, {"op": "measure", "case": {}, "policy": POLICY})
    errors = [reply.get("error") for reply in replies]
    assert errors[1] is None
    for error in (errors[0], errors[2]):
        assert error is not None
        assert error["code"] == "worker-error"
        assert "\n" not in error["sentence"]
        assert len(error["sentence"]) <= 400
    assert errors[0] is not None
    assert "measure before open" in errors[0]["sentence"]


def test_discovery_is_a_request_like_another() -> None:
    (reply,) = asked({"op": "discover"})
    found = [Device.model_validate(fields) for fields in reply["devices"]]
    assert found[-1].backend == "cpu"


def test_a_lost_device_ends_the_worker_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Measurement(case=product(), device_id="cpu", status="failed")

    def measure_case(case: Case, policy: Policy, session: Session) -> Measurement:
        raise execute.DeviceLost(lost)

    monkeypatch.setattr(execute, "measure_case", measure_case)
    replies = asked(OPEN, measuring(product()), measuring(product()))
    assert len(replies) == 2, "the third request is the next worker's"
    kept = lost.model_dump(mode="json")
    assert replies[1] == {"measurement": kept, "lost": True, "damaged": False}


def test_a_damaged_timer_ends_the_worker_after_a_measurement_that_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing(GraphTimer):
        """A graph timer without a device, whose capture does not end."""

        def _capture(self, launches: Launches, count: int) -> None:
            self.damaged = True

        def time_batch(self, launches: Launches, count: int) -> float:
            super().time_batch(launches, count)
            return 0.002 * count

    def timer(backend: CpuBackend, index: int = 0) -> Timer:
        return Refusing(torch.device("cpu"), EventTimer(Event, lambda: None))

    class Event:
        def record(self) -> None: ...

        def elapsed_time(self, later: Event) -> float:
            return 2.0

    monkeypatch.setattr(CpuBackend, "timer", timer)
    replies = asked(OPEN, measuring(product()), measuring(product()))
    assert len(replies) == 2, "the third request is the next worker's"
    assert (replies[1]["lost"], replies[1]["damaged"]) == (False, True)
    assert Measurement.model_validate(replies[1]["measurement"]).status == "ok"


def test_a_device_is_made_the_current_one_before_its_clock_and_timer_are_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []

    class Second(CpuBackend):
        def select(self, index: int = 0) -> None:
            log.append(f"select {index}")

        def timer(self, index: int = 0) -> Timer:
            log.append(f"timer {index}")
            return WallTimer()

    def clock_of(device: Device) -> NoClock:
        log.append(f"clock {device.index}")
        return NoClock()

    monkeypatch.setattr(devices, "backend_of", lambda device: Second())
    monkeypatch.setattr(clocks, "clock_of", clock_of)
    worker.opened(CPU.model_copy(update={"backend": "npu", "index": 1}), seed=0)
    assert log == ["select 1", "clock 1", "timer 1"]


def test_a_device_is_opened_with_its_timer_telemetry_clock_memory_and_seed() -> None:
    session = worker.opened(CPU, seed=5)
    assert (session.device, session.seed) == (CPU, 5)
    assert isinstance(session.backend, CpuBackend)
    assert isinstance(session.timer, WallTimer)
    assert type(session.clock) is type(clocks.clock_of(CPU))
    free = session.arenas._free_bytes()
    assert free is not None
    assert free > 0


def test_broken_telemetry_costs_no_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(device: Device) -> None:
        raise OSError("the driver library is broken")

    monkeypatch.setattr(devices, "telemeter_of", fails)
    session = worker.opened(CPU, seed=0)
    with session.telemeter.watch():
        pass
    session.telemeter.summary()
    assert "no telemetry: OSError: the driver library is broken" in capsys.readouterr().err


def test_a_timer_that_is_given_replaces_the_backend_s_own() -> None:
    timer = WallTimer()
    session = Session.on(CPU, CpuBackend(), devices.SamplerTelemeter(None), NoClock(), timer=timer)
    assert session.timer is timer
    assert session.seed == 0


# What torch adds to every CUDA error, whatever its cause.
TORCH_ADDS = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call.\nFor debugging "
    "consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable "
    "device-side assertions.\n"
)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered" + TORCH_ADDS, True),
        ("Triton Error [CUDA]: an illegal memory access was encountered", True),
        ("Triton Error [CUDA]: misaligned address", True),
        ("Triton Error [HIP]: unspecified launch failure", True),
        ("HIP error: unspecified launch failure", True),
        ("CUDA error: device-side assert triggered" + TORCH_ADDS, True),
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("CUDA error: hardware stack error", True),
        ("CUDA error: an illegal instruction was encountered", True),
        ("CUDA error: invalid program counter", True),
        ("CUDA error: the launch timed out and was terminated", True),
        ("CUDA error: operation not supported on global/shared address space", True),
        ("CUDA error: unknown error", True),
        ("the driver reported Xid 79", True),
        ("the Device Lost its context", True),
        ("the GPU is lost", True),
        ("CUDA error: out of memory" + TORCH_ADDS, False),
        ("Triton Error [CUDA]: out of memory", False),
        ("CUDA error: invalid argument" + TORCH_ADDS, False),
        (
            "CUDA error: no kernel image is available for execution on the device" + TORCH_ADDS,
            False,
        ),
        ("CUDA error: operation not permitted when stream is capturing" + TORCH_ADDS, False),
        ("Triton Error [CUDA]: invalid argument", False),
        ("Triton Error [CUDA]: device kernel image is invalid", False),
        ("CUDA error: CUBLAS_STATUS_ARCH_MISMATCH when calling cublasLtMatmul", False),
        ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul", False),
        ("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling cublasGemmEx", False),
        ("something else", False),
    ],
)
def test_a_device_is_lost_by_what_its_context_does_not_survive(text: str, lost: bool) -> None:
    gpu = CPU.model_copy(update={"backend": "cuda"})
    assert is_lost(RuntimeError(text), gpu) is lost
    assert is_lost(RuntimeError(text), CPU) is False
