"""What the fleet's verdict finds of planted faults, and what it finds in healthy fleets.

    .venv/bin/python benchmarks/bench_fleet_accuracy.py [SEEDS]

prints two Markdown tables for fleets of 10,000 devices with 100 metrics each, over seeds from 2001
on, which no threshold was ever looked at with, and one of small healthy fleets, of 120 seeds, from
files to the whole verdict. Every figure is simulated, so that these are
properties of the statistics under the noise model of `acceptance/fleet/simulate_noise.py`, not of
any real fleet.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from roofprobe.acceptance.fleet.criteria import hold
from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions, FleetVerdict
from roofprobe.acceptance.fleet.judge import judge_fleet
from roofprobe.acceptance.fleet.shortfall import flags_of
from roofprobe.acceptance.fleet.simulate import simulate
from roofprobe.acceptance.fleet.simulate_noise import Noise
from roofprobe.acceptance.fleet.simulate_present import imagine
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.merge import merge
from roofprobe.records.fleet.store import open_store

HOSTS = 1250
FIRST_SEED = 2001
SMALL_HOSTS = 12
SMALL_SEEDS = 120
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
    "throttling racks, 60 %": ("throttling-rack:60%:{}",),
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


def judged(seed: int, noise: Noise, runs: int) -> FleetVerdict:
    """Return the verdict of a small healthy fleet, from its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "sim", hosts=SMALL_HOSTS, seed=seed, runs=runs, noise=noise)
        merge([folder / "sim/runs"], folder / "fleet", workers=1)
        return judge_fleet(Fleet(open_store(folder / "fleet")))


def small() -> Iterator[str]:
    """Yield how many small fleets do not pass, for how many devices, and what a repeat makes."""
    yield (
        f"\n| noise | of {SMALL_SEEDS} fleets of {SMALL_HOSTS} × 8: warn | fail | devices | "
        "that a second run calls again |\n|---|---:|---:|---:|---:|"
    )
    for name, noise in NOISES.items():
        found: Counter[str] = Counter()
        for seed in range(FIRST_SEED, FIRST_SEED + SMALL_SEEDS):
            verdict = judged(seed, noise, runs=1)
            found[verdict.judgement] += 1
            if not verdict.devices:
                continue
            called = {device.device_id for device in verdict.devices}
            again = {device.device_id for device in judged(seed, noise, runs=2).devices}
            found["devices"] += len(called)
            found["again"] += len(called & again)
        cells = (str(found[key]) for key in ("warn", "fail", "devices", "again"))
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    wanted = range(FIRST_SEED, FIRST_SEED + int(sys.argv[1] if len(sys.argv) > 1 else 5))
    for line in chain(healthy(wanted), small(), planted(wanted)):
        print(line, flush=True)
