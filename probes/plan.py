"""Plan a run: which cases on which device, in which order, and how long each may take.

Everything here is a pure function of the devices, the options and what was measured, so a resumed
run plans the same. Cases come in stages: fixed shapes and memory first (in rounds, the first shape
of every precision and kernel before the second of any, so that a run that is cut short has
something of everything), then the pipes, the searches with what follows each, and the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from roofprobe.probes import compute, latency, launch, links, llm, memory, validate
from roofprobe.probes.measure import Policy
from roofprobe.records.schema import Case, Device, Measurement, Options

PROBES = (compute, memory, latency, launch, links, llm, validate)

# (device kind, tier) → how a burst case is sampled. On a GPU the device rests first, and pauses
# between samples of a few milliseconds keep it cool; a processor's clock has no such memory.
_BURST: dict[tuple[str, str], Policy] = {
    ("cpu", "quick"): Policy(0.002, 0.1, 0.3, 0.8, target_ci=0.01, timeout_s=60),
    ("cpu", "standard"): Policy(0.002, 0.1, 0.4, 1.2, target_ci=0.005, timeout_s=120),
    ("cpu", "soak"): Policy(0.002, 0.5, 5.0, 15.0, target_ci=0.002, timeout_s=240),
    ("gpu", "quick"): Policy(0.001, 0.02, 0.15, 0.3, target_ci=0.005, timeout_s=120),
    ("gpu", "standard"): Policy(0.001, 0.02, 0.3, 1.0, target_ci=0.003, timeout_s=180),
    ("gpu", "soak"): Policy(0.001, 0.02, 1.0, 5.0, target_ci=0.001, timeout_s=300),
}
_GPU_REST_S, _GPU_PAUSE_S = {"quick": 0.1, "standard": 0.3, "soak": 1.0}, 0.008
# Settled: three seconds of back-to-back work before the first sample, then samples of 20 ms without
# pauses. NVIDIA's CUTLASS guidelines ask to warm up until power is steady, and saw clocks swing for
# about three seconds under load.
_SETTLED = {
    "quick": Policy(0.02, 3.0, 0.5, 1.0, timeout_s=120),
    "standard": Policy(0.02, 3.0, 0.8, 1.5, target_ci=0.003, timeout_s=180),
    "soak": Policy(0.02, 10.0, 20.0, 20.0, target_ci=0.001, timeout_s=300),
}
# Many small cases, each known well enough for a map or a comparison on the same shape.
_BRIEF = {
    "cpu": Policy(0.002, 0.02, 0.05, 0.2, min_samples=5, target_ci=0.02, timeout_s=60),
    "gpu": Policy(0.001, 0.01, 0.03, 0.1, min_samples=8, target_ci=0.01, timeout_s=60),
}
# Data patterns are compared with each other, so all of them (uniform data too) are taken the same
# way: on a GPU hot, with 0.6 s of work before each, right after the settled case.
_PATTERN = {
    "cpu": Policy(0.002, 0.05, 0.15, 0.4, target_ci=0.005, timeout_s=60),
    "gpu": Policy(0.02, 0.6, 0.3, 0.5, target_ci=0.003, timeout_s=120),
}
# Hundreds of small cases of one operation each, many of them a few microseconds long. Operands go
# round from sample to sample; a graph is always replayed from its start, so it holds whole rounds.
_OPERATION = {
    "cpu": Policy(0.001, 0.008, 0.03, 0.12, min_samples=7, target_ci=0.02, timeout_s=180),
    "gpu": Policy(0.0005, 0.005, 0.02, 0.06, min_samples=8, target_ci=0.01, timeout_s=240,
                  whole_rounds=True),
}  # fmt: skip
# An operation before each launch of which caches are swept: launches are timed one by one.
_SWEPT = Policy(1e-6, 0.01, 0.05, 0.25, min_samples=15, target_ci=0.02, timeout_s=180)
# A whole step, tens of microseconds to seconds; parts of it are watched afterwards.
_STEP = {
    "cpu": Policy(0.002, 0.1, 0.4, 1.5, min_samples=9, target_ci=0.01, timeout_s=240),
    "gpu": Policy(0.001, 0.05, 0.2, 1.0, min_samples=8, target_ci=0.005, timeout_s=600),
}
# What a host needs for a launch is a few short cases that a whole prediction rests on.
_HOST_TRIES = 3
_SEARCH_S = {
    ("cpu", "quick"): 1.0, ("cpu", "standard"): 2.5, ("cpu", "soak"): 20.0,
    ("gpu", "quick"): 1.0, ("gpu", "standard"): 5.0, ("gpu", "soak"): 60.0,
}  # fmt: skip
_EXHAUSTIVE_SHAPES, _EXHAUSTIVE_S = 64, 0.25
_SETUP_S = {"cpu": 0.8, "gpu": 0.3}
_OPERATION_SETUP_S = {"cpu": 0.02, "gpu": 0.15}  # filled, checked, on a GPU named by the profiler
_REFUSAL_S = 0.01
_BRIEFLY = ("surface", "layout", "alignment", "curve", "tune")
_STAGES = {"anchor": 0, "pipe": 1, "stability": 1, "surface": 4, "curve": 4}  # everything else: 2
# In their own order: it keeps weights from case to case, and a step beside its operations.
_ORDERED = {llm: 3, validate: 5}


def plan_cases(device: Device, options: Options) -> tuple[Case, ...]:
    """Return the cases of ``device`` that are known from the start, in order."""
    stages: dict[int, list[Case]] = {}
    for probe in PROBES:
        if probe.FAMILY in options.families:
            for case in probe.cases(device, options):
                stage = _ORDERED.get(probe) or _STAGES.get(case.role, 2)
                stages.setdefault(stage, []).append(case)
    first = stages.pop(0, [])
    return (*_in_rounds(first), *(case for stage in sorted(stages) for case in stages[stage]))


def follow_ups(
    measurement: Measurement, earlier: Sequence[Measurement], device: Device, options: Options
) -> tuple[Case, ...]:
    """Return the cases that ``measurement`` calls for, to be measured right after it.

    ``earlier`` are the device's measurements before it, in order.
    """
    if measurement.case.family != compute.FAMILY:
        return ()
    return compute.follow_ups(measurement, earlier, device, options)


def policy_for(case: Case, device: Device, options: Options) -> Policy:
    """Return how ``case`` is sampled on ``device`` at the tier that was asked for."""
    kind = "cpu" if device.backend == "cpu" else "gpu"
    if case.role == "pattern":
        return _PATTERN[kind]
    if case.regime == "settled":
        return _SETTLED[options.tier]
    if case.op == validate.STEP:
        return replace(_STEP[kind], tries=_HOST_TRIES)
    if case.family == validate.FAMILY:
        return _STEP[kind]
    if case.model is not None and kind == "cpu":
        return _SWEPT
    if case.family == llm.FAMILY:
        policy = _OPERATION[kind]
        return (
            replace(policy, max_time_s=4 * policy.max_time_s) if options.tier == "soak" else policy
        )
    if case.family == "latency":
        return replace(_BRIEF[kind], warmup_s=latency.warmup_s(case), max_time_s=0.3, timeout_s=120)
    if case.peer is not None:
        return replace(_BRIEF[kind], warmup_s=0.05, min_time_s=0.1, max_time_s=0.3)
    if case.op == memory.CHECK:
        return replace(_BURST[(kind, options.tier)], timeout_s=1800.0)
    if case.family == "launch":
        return replace(_BRIEF[kind], min_time_s=0.1, target_ci=0.01, tries=_HOST_TRIES)
    if case.role in _BRIEFLY and (case.family, case.role) != ("compute", "tune"):
        return _BRIEF[kind]
    policy = _BURST[(kind, options.tier)]
    if kind == "cpu":
        if case.family == "memory":
            policy = replace(
                policy,
                min_samples=20,
                min_time_s=policy.min_time_s * 0.6,
                max_time_s=policy.max_time_s * 0.5,
            )
    elif case.family == "compute":
        policy = replace(
            policy, rest_s=_GPU_REST_S[options.tier], pause_s=_GPU_PAUSE_S, max_samples=200
        )
    if case.role == "search":
        seconds = _SEARCH_S[(kind, options.tier)]
        if options.search == "exhaustive":
            seconds = _EXHAUSTIVE_S
            policy = replace(policy, timeout_s=600.0)
        policy = replace(
            policy,
            search_s=seconds,
            search_method=options.search,
            timeout_s=policy.timeout_s + 4 * seconds,
        )
    return policy


def expected_s(case: Case, device: Device, options: Options) -> float:
    """Return about how long ``case`` takes, for the time that remains on the screen."""
    kind = "cpu" if device.backend == "cpu" else "gpu"
    if not _may_run(case, device):
        return _REFUSAL_S
    policy = policy_for(case, device, options)
    sampling = policy.rest_s + policy.warmup_s + (policy.min_time_s + policy.max_time_s) / 2
    if case.family == llm.FAMILY:
        return _OPERATION_SETUP_S[kind] + sampling
    if case.role in (*_BRIEFLY, "pattern") or case.family in ("latency", "launch"):
        return 0.05 + sampling
    if case.role == "search":
        shapes = _EXHAUSTIVE_SHAPES if options.search == "exhaustive" else 1
        brief = policy.warmup_s + policy.min_time_s
        return _SETUP_S[kind] + shapes * policy.search_s + brief
    return _SETUP_S[kind] + sampling


def _may_run(case: Case, device: Device) -> bool:
    """Return whether the device alone does not rule the case out; asks neither torch nor Triton."""
    if case.family == compute.FAMILY:
        return compute.may_run(case, device)
    on_cpu = device.backend == "cpu"
    if case.family == links.FAMILY:
        return on_cpu == (case.op == "host-copy")
    if case.family == llm.FAMILY:
        return llm.may_run(case, device)
    return case.route not in (("triton", "copy-engine") if on_cpu else ("machine-code",))


def _in_rounds(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Order ``cases`` so that the first shape of every kind comes before the second of any."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.op, case.row or case.precision), []).append(case)
    rounds = zip_longest(*(_by_shape(group) for group in groups.values()), fillvalue=())
    return tuple(case for level in rounds for batch in level for case in batch)


def _by_shape(group: Sequence[Case]) -> list[list[Case]]:
    """Split a group into batches of one shape each, in the order given."""
    batches: dict[tuple[tuple[str, int], ...], list[Case]] = {}
    for case in group:
        batches.setdefault(tuple(sorted(case.shape.items())), []).append(case)
    return list(batches.values())
