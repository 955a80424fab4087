"""Make one measurement of one case: prepare, check, sample under telemetry, summarise.

Whatever happens becomes a record: ``skipped`` when the device, torch or the shape cannot do it or
the library declined to, ``failed`` when it could but did not (wrong result, other bits, out of
memory, an error), ``ok`` with all samples otherwise. Nothing here raises for a case's sake; only a
lost device ends the worker.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from roofprobe.kernels import identity
from roofprobe.kernels.work import Check, Unsupported, Work
from roofprobe.probes import (
    gemm,
    latency,
    launch,
    links,
    llm,
    memory,
    peers,
    shape_search,
    validate,
)
from roofprobe.probes.arenas import WORTH_RELEASING_BYTES
from roofprobe.probes.figures import figures_of, share_of_others
from roofprobe.probes.measure import Declined, Policy, Sampled, WrongResult, sample, verify
from roofprobe.probes.session import Session, is_lost
from roofprobe.probes.stability import check_bits
from roofprobe.probes.timers import Timer
from roofprobe.records.schema import (
    NOT_ALONE_SHARE,
    Case,
    Correctness,
    Device,
    Family,
    KernelIdentity,
    Measurement,
    Reason,
    Telemetry,
)

Fields = dict[str, object]

# How torch and its libraries say that a backend lacks an operation, as against a fault in it.
_LACKING = re.compile(
    r"not implemented|not supported|unsupported|no kernel|NOT_SUPPORTED|Could not run|"
    r"only supported|requires compute capability|is only available",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|bad allocation", re.IGNORECASE
)
_DECLINED_REMEDY = (
    "unset NVIDIA_TF32_OVERRIDE where it is set, or try another shape: libraries choose by shape"
)
# The roles whose kernel is asked for its name: the others run the same ones.
_IDENTIFIED = ("anchor", "route", "tune", "layout", "alignment", "pipe")


class DeviceLost(Exception):
    """The device's context is unusable; ``measurement`` is the case that found out."""

    def __init__(self, measurement: Measurement) -> None:
        """Keep the failed measurement."""
        super().__init__("device lost")
        self.measurement = measurement


class _Unstable(Exception):
    """The same inputs gave other bits; ``check`` says where."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.problem or "unstable bits")
        self.check = check


def measure_case(case: Case, policy: Policy, session: Session) -> Measurement:
    """Measure ``case``; raises ``DeviceLost`` when no further case can run on the device."""
    try:
        return _attempt(case, policy, session)
    finally:
        # A stream's arrays go back at once. Not before here: an error keeps hold of them.
        if case.family == "memory" and memory.case_bytes(case) > WORTH_RELEASING_BYTES:
            try:
                session.backend.release()
            except Exception as error:  # must not stand in for the case's own end
                print(f"memory not released: {type(error).__name__}: {error}", file=sys.stderr)


def _attempt(case: Case, policy: Policy, session: Session) -> Measurement:
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    begun = time.monotonic()

    def ended(status: str, **fields: object) -> Measurement:
        return Measurement.model_validate(
            {
                "case": case,
                "device_id": session.device.device_id,
                "status": status,
                "started_at": started_at,
                "wall_s": round(time.monotonic() - begun, 3),
                **fields,
            }
        )

    try:
        # what this version does not know is refused by the compute probe, with a sentence
        doing = _BY_KIND.get((case.family, case.op)) or _BY_FAMILY.get(case.family, _product)
        return ended("ok", **doing(case, policy, session))
    except Unsupported as reason:
        return ended("skipped", reason=_reason(reason.code, reason.sentence, reason.remedy))
    except WrongResult as wrong:
        return ended(
            "failed",
            reason=_reason(
                "wrong-result",
                f"the result is wrong and was not timed: {wrong.check.problem}",
                "repeat; if it stays, the kernel or the device is faulty",
            ),
            correctness=_correctness(wrong.check),
        )
    except Declined as declined:  # nothing is wrong, and nothing of this format was measured
        return ended(
            "skipped",
            reason=_reason("declined", declined.check.declined or "", _DECLINED_REMEDY),
            correctness=_correctness(declined.check),
        )
    except _Unstable as unstable:
        return ended(
            "failed",
            reason=_reason(
                "unstable-bits",
                unstable.check.problem or "",
                "repeat; if it stays, the device corrupts data: stop using it",
            ),
            correctness=_correctness(unstable.check),
        )
    except Exception as error:  # whatever a library raises here belongs to this case
        measurement = ended("failed", **_explain(error, session.device))
        if measurement.reason and measurement.reason.code == "not-implemented":
            measurement = measurement.model_copy(update={"status": "skipped"})
        if is_lost(error, session.device):
            raise DeviceLost(measurement) from error
        return measurement


def _product(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure a product or the pipe alone."""
    return _measured(case, policy, session, gemm.prepare(case, session))


def _stream(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure a memory kernel, for which the operands of products make room."""
    session.arenas.drop()
    free = session.backend.free_memory_bytes(session.device.index)
    return _measured(
        case, policy, session, memory.prepare(case, session.device, free, session.seed)
    )


def _chase(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure the latency of dependent loads: of a chain of them, and on a GPU of single ones."""
    session.arenas.drop()
    work = latency.prepare(case, session)
    fields = _measured(case, policy, session, work)
    return {**fields, "access_populations": latency.single_loads(work, session.target)}


def _launch(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure what a launch costs, by the timer that looks at the part in question."""
    work, timer = launch.prepare(case, session)
    return _measured(case, policy, session, work, timer)


def _transfer(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure a transfer between host and device."""
    session.arenas.drop()
    work, timer = links.prepare(case, session)
    return _measured(case, policy, session, work, timer)


def _to_peer(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure a transfer to another device, and ask right after it what joins the two."""
    session.arenas.drop()
    work, timer = peers.prepare(case, session)
    fields = _measured(case, policy, session, work, timer)
    return {**fields, "link": peers.link_of(case, session)}


def _language(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure an operation of a language model."""
    if case.model is not None:
        work, timer = validate.prepare_operation(case, session)
    else:
        work, timer = llm.prepare(case, session)
    return _measured(case, policy, session, work, timer)


def _step(case: Case, policy: Policy, session: Session) -> Fields:
    """Measure a step of a whole model, then watch what its operations take."""
    work, timer = validate.prepare_step(case, session)
    fields = _measured(case, policy, session, work, timer)
    return {**fields, "parts": validate.parts(work, session)}


def _search(case: Case, policy: Policy, session: Session) -> Fields:
    """Search for the best shape, then check and sample it, briefly: its route follows anyway."""
    search, route = shape_search.search(case, session, policy, policy.search_method)
    if search.best is None:
        failures = [step.failure for step in search.steps if step.failure]
        told = failures[-1] if failures else "the time budget was too small"
        raise Unsupported("no-candidate", f"none of {search.candidates} shapes worked: {told}")
    work = gemm.product(case, session, route, search.best)
    brief = replace(policy, max_time_s=policy.min_time_s, rest_s=0.0)
    return {"search": search, **_measured(case, brief, session, work)}


def _stable(case: Case, policy: Policy, session: Session) -> Fields:
    """Repeat one product and compare bits."""
    work = gemm.prepare(case, session)
    with work.settings():
        verify(work)
        with session.telemeter.watch():
            check = check_bits(work, seconds=policy.min_time_s)
    if check.problem is not None:
        raise _Unstable(check)
    return {
        "correctness": _correctness(check),
        "telemetry": session.telemeter.summary(),
        "kernel": work.kernel,
    }


def _memory_check(case: Case, policy: Policy, session: Session) -> Fields:
    """Write bit patterns over the free memory and read them back."""
    from roofprobe.kernels.memory_check import PATTERNS, WORD_BYTES, check_memory

    session.arenas.drop()
    session.backend.release()
    free = session.backend.free_memory_bytes(session.device.index)
    with session.telemeter.watch():
        found = check_memory(memory.free_chunks(session.device, free), seed=session.seed)
    check = Check(
        error=float(found.wrong_words),
        tolerance=0.0,
        measure=f"words of {WORD_BYTES} bytes that came back changed, {len(PATTERNS)} patterns",
        checked_elements=found.checked_bytes // WORD_BYTES,
        problem=found.problem,
    )
    if check.problem is not None:
        raise _Unstable(check)
    return {
        "correctness": _correctness(check),
        "telemetry": session.telemeter.summary(),
        "kernel": "bit patterns",
        "array_bytes": found.checked_bytes,
    }


_Doing = Callable[[Case, Policy, Session], Fields]
_BY_KIND: dict[tuple[Family, str], _Doing] = {
    ("memory", memory.CHECK): _memory_check,
    ("compute", "search"): _search,
    ("compute", "stability"): _stable,
    ("launch", validate.STEP): _step,
    **{("interconnect", op): _to_peer for op in peers.OPERATIONS},
}
_BY_FAMILY: dict[Family, _Doing] = {
    "compute": _product,
    "memory": _stream,
    "latency": _chase,
    "launch": _launch,
    "interconnect": _transfer,
    llm.FAMILY: _language,
    validate.FAMILY: _step,
}


def _measured(
    case: Case, policy: Policy, session: Session, work: Work, timer: Timer | None = None
) -> Fields:
    """Verify, sample under telemetry, and name the kernel that ran."""
    timer = timer or session.timer
    with work.settings():
        check = verify(work)
        sampled, telemetry, tries = _undisturbed(work, policy, session, timer)
        named = _identity(case, session, work)
    session.timer.synchronize()
    return {
        "correctness": _correctness(check),
        "telemetry": telemetry,
        "identity": named,
        **figures_of(case, session.device, work, sampled, timer, telemetry, tries=tries),
    }


def _undisturbed(
    work: Work, policy: Policy, session: Session, timer: Timer
) -> tuple[Sampled, Telemetry | None, int]:
    """Sample until others left the processor alone, ``policy.tries`` times at most.

    On a crowded host a try may take ten times as long as it should: none begins once the time for
    all of them is spent. Returns the least disturbed samples with what was seen meanwhile, and how
    often it was tried.
    """
    until = time.monotonic() + policy.tries * (policy.rest_s + policy.warmup_s + policy.max_time_s)
    found: list[tuple[float, Sampled, Telemetry | None]] = []
    while not found or (
        found[-1][0] > NOT_ALONE_SHARE and len(found) < policy.tries and time.monotonic() < until
    ):
        with session.telemeter.watch():
            sampled = sample(work, timer, policy, clock=session.clock)
        telemetry = session.telemeter.summary()
        share = share_of_others(session.device, timer, telemetry) or 0.0
        found.append((share, sampled, telemetry))
    _, sampled, telemetry = min(found, key=lambda tried: tried[0])
    return sampled, telemetry, len(found)


def _identity(case: Case, session: Session, work: Work) -> KernelIdentity | None:
    if case.family == llm.FAMILY:
        return _seen(case, session, work)
    if case.op not in ("gemm", "pipe") or case.role not in _IDENTIFIED:
        return None
    if case.op == "pipe" and not session.target.is_gpu:  # machine code that we wrote ourselves
        told = work.config.get("instruction")
        return KernelIdentity(names=(work.kernel,), instruction=str(told) if told else None)
    seen = identity.identify(work.launches[0], session.target)
    fallback = identity.fallback(seen, case.precision, session.target)
    assembly = work.assembly() if work.assembly else None
    if assembly and case.row:
        seen, fallback = identity.describe_ours(seen, case.row, assembly, session.target)
    return KernelIdentity(
        names=seen.names,
        library=seen.library,
        instruction=seen.instruction,
        converts=seen.converts,
        fallback=fallback,
        missing=seen.reason,
    )


def _seen(case: Case, session: Session, work: Work) -> KernelIdentity | None:
    """Name the kernels of a product or an attention on a GPU, for a model must not mix them."""
    if case.op not in llm.IDENTIFIED or case.role != "anchor" or not session.target.is_gpu:
        return None
    seen = identity.identify(work.launches[0], session.target)
    return KernelIdentity(
        names=seen.names,
        library=seen.library,
        instruction=seen.instruction,
        converts=seen.converts,
        missing=seen.reason,
    )


def _correctness(check: Check) -> Correctness:
    return Correctness(
        error=check.error,
        tolerance=check.tolerance,
        measure=check.measure,
        checked_elements=check.checked_elements,
    )


def _reason(code: str, sentence: str, remedy: str | None = None) -> Reason:
    return Reason(code=code, sentence=sentence, remedy=remedy)


def _explain(error: Exception, device: Device) -> dict[str, Reason]:
    """Turn an exception into a reason of one sentence; its first line is quoted."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return {
            "reason": _reason(
                "out-of-memory",
                f"memory ran out on {device.torch_device}: {text or 'allocation refused'}",
                "free memory on the device (other processes?) and repeat",
            )
        }
    if isinstance(error, NotImplementedError) or _LACKING.search(str(error)):
        sentence = f"torch on {device.backend} cannot do this: {type(error).__name__}: {text}"
        return {"reason": _reason("not-implemented", sentence)}
    return {"reason": _reason("kernel-error", f"it ended in an error: {type(error).__name__}: "
                                              f"{text}")}  # fmt: skip
