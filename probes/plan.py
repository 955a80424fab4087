"""Plan a run: which cases on which device, in which order, and how long each may take.

Everything here is a pure function of the devices and the options, so a resumed run plans the same.
Cases are ordered in rounds, the first shape of every precision and kernel before the second of any:
a run that is cut short has something of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from roofprobe.probes import compute, memory
from roofprobe.probes.measure import Policy
from roofprobe.records.schema import Case, Device, Options

PROBES = (compute, memory)

# (device kind, tier) → how a burst case is sampled.
_BURST: dict[tuple[str, str], Policy] = {
    ("cpu", "quick"): Policy(0.002, 0.1, 0.3, 0.8, target_ci=0.01, timeout_s=60),
    ("cpu", "standard"): Policy(0.002, 0.2, 0.8, 2.0, target_ci=0.005, timeout_s=120),
    ("cpu", "soak"): Policy(0.002, 0.5, 5.0, 15.0, target_ci=0.002, timeout_s=240),
    ("gpu", "quick"): Policy(0.001, 0.05, 0.15, 0.5, target_ci=0.005, timeout_s=120),
    ("gpu", "standard"): Policy(0.001, 0.1, 0.3, 1.0, target_ci=0.003, timeout_s=180),
    ("gpu", "soak"): Policy(0.001, 0.2, 1.0, 5.0, target_ci=0.001, timeout_s=300),
}
# Settled: three seconds of back-to-back work before the first sample, by the guidelines of NVIDIA's
# CUTLASS (clocks swing for about three seconds under load), and samples of 20 ms without pauses.
_SETTLED = {
    "quick": Policy(0.02, 3.0, 0.5, 1.0, timeout_s=120),
    "standard": Policy(0.02, 3.0, 1.0, 2.0, target_ci=0.003, timeout_s=180),
    "soak": Policy(0.02, 10.0, 20.0, 20.0, target_ci=0.001, timeout_s=300),
}
_SETUP_S = {"cpu": 0.8, "gpu": 0.5}


def plan_cases(device: Device, options: Options) -> tuple[Case, ...]:
    """Return the cases of ``device`` in the order in which they run."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for probe in PROBES:
        if probe.FAMILY in options.families:
            for case in probe.cases(device, options):
                groups.setdefault((case.op, case.precision), []).append(case)
    rounds = zip_longest(*(_by_shape(group) for group in groups.values()), fillvalue=())
    return tuple(case for level in rounds for batch in level for case in batch)


def policy_for(case: Case, device: Device, options: Options) -> Policy:
    """Return how ``case`` is sampled on ``device`` at the tier that was asked for."""
    if case.regime == "settled":
        return _SETTLED[options.tier]
    policy = _BURST[("cpu" if device.backend == "cpu" else "gpu", options.tier)]
    if device.backend == "cpu" and case.family == "memory":
        return replace(policy, min_samples=20)
    return policy


def expected_s(case: Case, device: Device, options: Options) -> float:
    """Return about how long ``case`` takes, for the time that remains on the screen."""
    if case.route in ("none", "triton") and device.backend == "cpu":
        return 0.01
    policy = policy_for(case, device, options)
    setup = _SETUP_S["cpu" if device.backend == "cpu" else "gpu"]
    return setup + policy.warmup_s + (policy.min_time_s + policy.max_time_s) / 2


def _by_shape(group: Sequence[Case]) -> list[list[Case]]:
    """Split a group into batches of one shape each, in the order given."""
    batches: dict[tuple[tuple[str, int], ...], list[Case]] = {}
    for case in group:
        batches.setdefault(tuple(sorted(case.shape.items())), []).append(case)
    return list(batches.values())
