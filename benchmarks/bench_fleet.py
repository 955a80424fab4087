"""What a fleet costs: simulate, merge and judge 100, 1,000 and 10,000 devices, each in a process.

    .venv/bin/python benchmarks/bench_fleet.py [DEVICES …]

prints a Markdown table. Times are wall-clock seconds, and of the processors beside them, which
others on the host do not lengthen as much; ``verdict`` is without the start of Python, ``cold`` is
the whole process of it. Memory is the most that the process held, and for the merge what its
workers can have held on top, were all at their most at once. The lines below say how the
processors' time grows with devices: 1 is linear.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

GPUS = 8
SIZES = (100, 1000, 10_000)
FAULTS = ("slow-gpu:1%:5%", "slow-gpu:1%:5%:fp8", "throttling-rack:1%")
WORKERS = min(os.cpu_count() or 1, 8)


def simulated(folder: Path, devices: int) -> dict[str, Any]:
    from roofprobe.acceptance.fleet.simulate import simulate

    hosts = math.ceil(devices / GPUS)
    faults = FAULTS if hosts >= 100 else ()
    began = time.perf_counter()
    truth = simulate(folder / "sim", hosts=hosts, gpus=GPUS, seed=1, faults=faults)
    return {"seconds": time.perf_counter() - began, "files_mb": truth.bytes / 1e6}


def merged(folder: Path, devices: int) -> dict[str, Any]:
    from roofprobe.records.fleet.merge import merge

    began = time.perf_counter()
    done = merge([folder / "sim" / "runs"], folder / "FLEET")
    size = sum(path.stat().st_size for path in (folder / "FLEET").rglob("*") if path.is_file())
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "metrics": done.total_metrics, "fleet_mb": size / 1e6}


def judged(folder: Path, devices: int) -> dict[str, Any]:
    from roofprobe.acceptance.fleet.judge import judge_fleet
    from roofprobe.records.fleet.dataset import Fleet
    from roofprobe.records.fleet.store import open_store

    began = time.perf_counter()
    verdict = judge_fleet(Fleet(open_store(folder / "FLEET")))
    seconds = time.perf_counter() - began
    truth = json.loads((folder / "sim" / "truth.json").read_text())
    found, flawed = {d.device_id for d in verdict.devices}, set(truth["flawed"])
    return {"seconds": seconds, "found": len(found), "right": len(found & flawed),
            "planted": len(flawed)}  # fmt: skip


STEPS = {"simulated": simulated, "merged": merged, "judged": judged}


def step(name: str, folder: Path, devices: int) -> dict[str, Any]:
    """Run a step in a process of its own, so that its memory is its own."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--step", name, str(folder), str(devices)]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return found | {"cold": time.perf_counter() - began}


def run_step(name: str, folder: str, devices: str) -> None:
    found = STEPS[name](Path(folder), int(devices))
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = (own.ru_maxrss + WORKERS * children.ru_maxrss) / 1024
    cpu = sum(used.ru_utime + used.ru_stime for used in (own, children))
    print(json.dumps(found | {"memory_mib": memory, "cpu": cpu}))


HEADER = (
    "devices", "metrics", "files MB", "fleet MB", "simulate s", "merge s", "merge CPU s",
    "merge MiB", "verdict s", "cold s", "cold CPU s", "verdict MiB", "found", "right", "planted",
)  # fmt: skip


def main(sizes: tuple[int, ...]) -> None:
    print(f"{WORKERS} cores, load before: {os.getloadavg()[0]:.1f}\n")
    print(f"| {' | '.join(HEADER)} |\n|{'---:|' * len(HEADER)}")
    used: dict[str, list[float]] = {"merge": [], "verdict": []}
    for devices in sizes:
        folder = Path(tempfile.mkdtemp(prefix="bench-fleet-"))
        try:
            sim, mer, jud = (step(name, folder, devices) for name in STEPS)
        finally:
            shutil.rmtree(folder)
        used["merge"].append(mer["cpu"])
        used["verdict"].append(jud["cpu"])
        row = (
            f"{devices:,}", f"{mer['metrics']:,}", f"{sim['files_mb']:.1f}",
            f"{mer['fleet_mb']:.2f}", f"{sim['seconds']:.1f}", f"{mer['seconds']:.1f}",
            f"{mer['cpu']:.1f}", f"{mer['memory_mib']:.0f}", f"{jud['seconds']:.2f}",
            f"{jud['cold']:.2f}", f"{jud['cpu']:.2f}", f"{jud['memory_mib']:.0f}",
            str(jud["found"]), str(jud["right"]), str(jud["planted"]),
        )  # fmt: skip
        print(f"| {' | '.join(row)} |", flush=True)
    for name, seconds in used.items():
        for (a, b), (first, second) in zip(pairwise(sizes), pairwise(seconds), strict=True):
            power = math.log(second / first) / math.log(b / a)
            print(f"\n{name}: {a:,} to {b:,} devices: processor time grows with power {power:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        run_step(*sys.argv[2:5])
    else:
        main(tuple(int(each) for each in sys.argv[1:]) or SIZES)
