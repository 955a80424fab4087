"""What the fleet's verdict finds of planted faults, and what it finds in healthy fleets.

    .venv/bin/python benchmarks/bench_fleet_accuracy.py [SEEDS]

prints two Markdown tables for fleets of 10,000 devices with 100 metrics each, over seeds from 2001
on, which no threshold was ever looked at with. Every figure is simulated, so that these are
properties of the statistics under the noise model of `acceptance/fleet/simulate_noise.py`, not of
any real fleet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain

from roofprobe.acceptance.fleet.criteria import hold
from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions
from roofprobe.acceptance.fleet.shortfall import flags_of
from roofprobe.acceptance.fleet.simulate_noise import Noise
from roofprobe.acceptance.fleet.simulate_present import imagine

HOSTS = 1250
FIRST_SEED = 2001
EFFECTS = ("3%", "4%", "5%", "7%", "10%")
KINDS = {
    "mixed, 3.4 % of devices": (
        "slow-gpu:100:{}:all", "slow-gpu:60:{}:memory", "slow-gpu:60:{}:compute",
        "slow-gpu:40:{}:fp8", "slow-gpu:40:{}:bf16", "throttling-rack:5:{}",
    ),
    "all figures, 1 %": ("slow-gpu:100:{}:all",),
    "memory, 1 %": ("slow-gpu:100:{}:memory",),
    "one precision, 1 %": ("slow-gpu:100:{}:fp8",),
    "one line alone, 1 %": ("slow-gpu:100:{}:gather-64",),
    "throttling racks, 1 %": ("throttling-rack:12:{}",),
    "all figures, 10 %": ("slow-gpu:10%:{}:all",),
}  # fmt: skip
NOISES = {
    "as published": Noise(),
    "1.5 times as wide": Noise().times(1.5),
    "twice as wide": Noise().times(2),
    "tails of t with 3": Noise(dof=3),
    "nearly normal": Noise(dof=30, tail_share=0),
    "silicon apart by 2 %": Noise(core=0.02),
}


def counts(seed: int, faults: tuple[str, ...], noise: Noise) -> tuple[int, int, int]:
    """Return how many devices were flagged, how many of them rightly, how many were flawed."""
    made = imagine(HOSTS, seed, faults, noise=noise)
    options = FleetOptions()
    flagged = set(flags_of(made.present, hold(made.present, options), options).devices.tolist())
    return len(flagged), len(flagged & made.flawed), len(made.flawed)


def planted(seeds: range) -> Iterator[str]:
    yield "| faults | noise | effect | precision | recall |\n|---|---|---:|---:|---:|"
    rows = [(kind, "as published") for kind in KINDS]
    rows += [(next(iter(KINDS)), noise) for noise in NOISES if noise != "as published"]
    for kind, noise in rows:
        for effect in EFFECTS:
            faults = tuple(text.format(effect) for text in KINDS[kind])
            each = [counts(seed, faults, NOISES[noise]) for seed in seeds]
            found, right, flawed = (sum(column) for column in zip(*each, strict=True))
            precision = f"{right / found:.4f}" if found else "-"
            yield f"| {kind} | {noise} | {effect} | {precision} | {right / flawed:.4f} |"


def healthy(seeds: range) -> Iterator[str]:
    yield f"\n| noise | flagged of {8 * HOSTS:,}, by seed | share |\n|---|---|---:|"
    for name, noise in NOISES.items():
        found = [counts(seed, (), noise)[0] for seed in seeds]
        share = sum(found) / (len(found) * 8 * HOSTS)
        yield f"| {name} | {', '.join(map(str, found))} | {share:.3%} |"


if __name__ == "__main__":
    wanted = range(FIRST_SEED, FIRST_SEED + int(sys.argv[1] if len(sys.argv) > 1 else 5))
    for line in chain(healthy(wanted), planted(wanted)):
        print(line, flush=True)
