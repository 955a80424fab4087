"""Make one measurement of one case: prepare, check, sample under telemetry, summarise.

Whatever happens becomes a record: ``skipped`` when the device, torch or the shape cannot do it,
``failed`` when it could but did not (wrong result, out of memory, an error), ``ok`` with all
samples otherwise. Nothing here raises for a case's sake; only a lost device ends the worker.
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Protocol

from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes import compute, memory, statistics
from roofprobe.probes.backends import Backend
from roofprobe.probes.measure import Policy, Sampled, WrongResult, sample, verify
from roofprobe.probes.timers import Timer
from roofprobe.records.schema import (
    Case,
    Correctness,
    Device,
    Measurement,
    Note,
    Reason,
    Telemetry,
    Timing,
)

_PREPARE = {probe.FAMILY: probe.prepare for probe in (compute, memory)}

# How torch and its libraries say that a backend lacks an operation, as against a fault in it.
_LACKING = re.compile(
    r"not implemented|not supported|unsupported|no kernel|NOT_SUPPORTED|Could not run|"
    r"only supported|requires compute capability|is only available",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|bad allocation", re.IGNORECASE
)
_NOISY_CI = 0.02
_RESIDUE_SHARE = 0.03


class DeviceLost(Exception):
    """The device's context is unusable; ``measurement`` is the case that found out."""

    def __init__(self, measurement: Measurement) -> None:
        """Keep the failed measurement."""
        super().__init__("device lost")
        self.measurement = measurement


class Telemeter(Protocol):
    """Watches the device around a case."""

    def watch(self) -> AbstractContextManager[None]:
        """Return a context that samples while it is open."""
        ...

    def summary(self) -> Telemetry | None:
        """Return what the last context saw."""
        ...


def measure_case(
    case: Case,
    device: Device,
    policy: Policy,
    backend: Backend,
    timer: Timer,
    telemeter: Telemeter,
    seed: int,
) -> Measurement:
    """Measure ``case`` on ``device``; raises ``DeviceLost`` when no further case can run."""
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    begun = time.monotonic()

    def ended(status: str, **fields: object) -> Measurement:
        return Measurement.model_validate(
            {
                "case": case,
                "device_id": device.device_id,
                "status": status,
                "started_at": started_at,
                "wall_s": round(time.monotonic() - begun, 3),
                **fields,
            }
        )

    work: Work | None = None
    try:
        free = backend.free_memory_bytes(device.index)
        work = _PREPARE[case.family](case, device, free, seed)
        with work.settings():
            check = verify(work)
            with telemeter.watch():
                sampled = sample(work, timer, policy)
        timer.synchronize()
        figures = _figures(case, device, work, sampled, timer)
    except Unsupported as reason:
        return ended("skipped", reason=Reason(
            code=reason.code, sentence=reason.sentence, remedy=reason.remedy))  # fmt: skip
    except WrongResult as wrong:
        return ended(
            "failed",
            reason=Reason(
                code="wrong-result",
                sentence=f"the result is wrong and was not timed: {wrong.check.problem}",
                remedy="repeat; if it stays, the kernel or the device is faulty",
            ),
            correctness=_correctness(wrong.check),
        )
    except Exception as error:  # whatever a library raises here belongs to this case
        measurement = ended("failed", **_explain(error, device))
        if measurement.reason and measurement.reason.code == "not-implemented":
            measurement = measurement.model_copy(update={"status": "skipped"})
        if _is_lost(error, backend, device):
            raise DeviceLost(measurement) from error
        return measurement
    finally:
        work_bytes = work.array_bytes if work else 0
        work_sets = len(work.launches) if work else 0
        work = None  # or release would find its buffers still in use
        if work_bytes * max(1, work_sets) > 1 << 20:
            backend.release()
    return ended(
        "ok",
        correctness=_correctness(check),
        telemetry=telemeter.summary(),
        **figures,
    )


def _figures(
    case: Case, device: Device, work: Work, sampled: Sampled, timer: Timer
) -> dict[str, object]:
    moved = work.bytes_read + work.bytes_written
    if case.family == "compute":
        unit = "TOPS" if case.precision.startswith("int") else "TFLOPS"
        rate = statistics.rates(sampled.samples_us, work.flops, unit)
    else:
        rate = statistics.rates(sampled.samples_us, moved, "GB/s")
    latency = statistics.summarise(sampled.samples_us, "us", lower_is_better=True)
    notes = []
    halfwidth = (latency.ci_high - latency.ci_low) / 2 / latency.median if latency.median else 0.0
    if halfwidth > _NOISY_CI:
        notes.append(
            Note(
                code="noisy",
                sentence="the samples scatter: the median is known no better than "
                f"±{halfwidth:.1%}; repeat on an idle host",
                figures={"relative_ci_halfwidth": halfwidth},
            )
        )
    cache = device.last_level_cache_bytes or 0
    streamed = work.array_bytes * (len(work.launches) if case.family == "compute" else 1)
    if case.family == "memory" and cache > _RESIDUE_SHARE * moved:
        notes.append(
            Note(
                code="cache-residue",
                sentence=f"up to {cache / moved:.0%} of the bytes of a pass can stay in the "
                "last-level cache",
                figures={"bound": cache / moved, "array_bytes": float(streamed)},
            )
        )
    return {
        "latency": latency,
        "rate": rate,
        "flops": work.flops,
        "bytes_read": work.bytes_read,
        "bytes_written": work.bytes_written,
        "array_bytes": work.array_bytes,
        "kernel": work.kernel,
        "kernel_config": work.config or None,
        "notes": tuple(notes),
        "samples_us": tuple(round(value, 4) for value in sampled.samples_us),
        "timing": Timing(
            timer=timer.name,
            launches_per_sample=sampled.launches_per_sample,
            warmup_launches=sampled.warmup_launches,
            buffer_sets=len(work.launches),
            stop_reason=sampled.stop_reason,
            elapsed_s=sampled.elapsed_s,
        ),
    }


def _correctness(check: object) -> Correctness:
    return Correctness.model_validate(
        {name: getattr(check, name) for name in ("error", "tolerance", "measure",
                                                 "checked_elements")})  # fmt: skip


def _explain(error: Exception, device: Device) -> dict[str, Reason]:
    """Turn an exception into a reason of one sentence; its first line is quoted."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return {"reason": Reason(
            code="out-of-memory",
            sentence=f"memory ran out on {device.torch_device}: {text or 'allocation refused'}",
            remedy="free memory on the device (other processes?) and repeat",
        )}  # fmt: skip
    if isinstance(error, NotImplementedError) or _LACKING.search(str(error)):
        return {"reason": Reason(
            code="not-implemented",
            sentence=f"torch on {device.backend} cannot do this: {type(error).__name__}: {text}",
        )}  # fmt: skip
    return {"reason": Reason(
        code="kernel-error", sentence=f"it ended in an error: {type(error).__name__}: {text}"
    )}  # fmt: skip


def _is_lost(error: Exception, backend: Backend, device: Device) -> bool:
    """Return whether the device's context is gone: after a device-side error nothing else runs."""
    if backend.kind == "cpu":
        return False
    text = str(error)
    if "CUDA error" not in text and "HIP error" not in text and "device lost" not in text.lower():
        return False
    refused = ("out of memory", "STATUS_NOT_SUPPORTED", "STATUS_INVALID_VALUE")
    return not any(words in text for words in refused)
