"""Looking must be cheap: help, reports and peaks work at once and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "triton", "pandas", "pynvml", "matplotlib", "pydantic", "numpy", "scipy")

REPORT = """
import sys
loaded = [name for name in {names!r} if name in sys.modules]
sys.exit("loaded: " + ", ".join(loaded) if loaded else 0)
"""
HELP = """
from roofprobe.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
"""
BLOCK_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "triton", "pynvml"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
"""

# The least that is a run.
RUN = {
    "schema_version": 1,
    "run_id": "20000101T000000Z-example",
    "status": "complete",
    "started_at": "2000-01-01T00:00:00+00:00",
    "options": {"families": ["compute"]},
    "environment": {
        "host": "example",
        "os": "Linux",
        "kernel": "6.0",
        "python": "3.11",
        "roofprobe": "0.1.0",
    },
}
SHOW = """
from roofprobe.cli import app
try:
    app(["show", {path!r}])
except SystemExit as end:
    assert not end.code, end.code
"""
RENDER = """
from pathlib import Path
from roofprobe.records.runfolder import read_run
from roofprobe.records.tables import measurements_csv
from roofprobe.reporting.files import render_files
run = read_run(Path({path!r}))
assert measurements_csv(run)
print(*sorted(render_files(run)))
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(RUN))
    return file


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("module", ["roofprobe", "roofprobe.cli", "roofprobe.peaks.catalogue"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = python(f"import {module}" + REPORT.format(names=HEAVY))
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    done = python(HELP + REPORT.format(names=HEAVY))
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


def test_the_main_flow_is_imported_without_torch() -> None:
    done = python(BLOCK_TORCH + "import roofprobe.run, roofprobe.reporting.html\n")
    assert done.returncode == 0, done.stderr


PLAN = """
import sys
from roofprobe.kernels.rows import BY_NAME
from roofprobe.probes import compute, plan
from roofprobe.records.schema import Device, Measurement, Options, Search

gib = 1 << 30
for backend, architecture in (("cpu", "x86_64"), ("cuda", "sm_90"), ("rocm", "gfx942")):
    device = Device(
        device_id="d", torch_device="d", backend=backend, name="Example", unit_count=132,
        architecture=architecture, memory_bytes=80 * gib, memory_free_bytes=80 * gib,
    )
    options = Options(families=("compute", "memory"), compile_routes=True, sweeps=("layouts",))
    cases = list(plan.plan_cases(device, options))
    for case in list(cases):
        if case.role == "search":
            best = compute.anchors_for(device, BY_NAME[case.row])[0]
            found = Search(method="m", route=case.route, seed=0, sentence="", elapsed_s=1,
                           candidates=1, pruned=0, best=best)
            measured = Measurement(case=case, device_id="d", status="ok", search=found)
            more = plan.follow_ups(measured, (), device, options)
            assert more
            cases += more
    assert sum(plan.expected_s(case, device, options) for case in cases) > 10
    assert all(plan.policy_for(case, device, options).timeout_s > 0 for case in cases)
"""


def test_a_run_is_planned_with_all_that_follows_without_torch() -> None:
    done = python(BLOCK_TORCH + PLAN + REPORT.format(names=("torch", "triton", "pynvml")))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["peaks"], ["peaks", "T4"], ["schema"]])
def test_looking_up_works_without_torch(arguments: list[str]) -> None:
    done = python(BLOCK_TORCH + f"from roofprobe.cli import app\napp({arguments!r})\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_showing_a_run_works_without_torch(run_file: Path) -> None:
    done = python(BLOCK_TORCH + SHOW.format(path=str(run_file)))
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_showing_a_run_asks_for_no_torch(run_file: Path) -> None:
    names = ("torch", "triton", "pynvml", "matplotlib")
    done = python(SHOW.format(path=str(run_file)) + REPORT.format(names=names))
    assert done.returncode == 0, done.stderr


CHECK = """
from roofprobe.cli import app
try:
    app(["check", {path!r}, "--against", {earlier!r}])
except SystemExit as end:
    assert end.code == 3, end.code
"""


def test_judging_a_run_works_without_torch(run_file: Path) -> None:
    earlier = run_file.with_name("earlier.json")
    earlier.write_text(json.dumps({**json.loads(run_file.read_text()), "run_id": "earlier"}))
    done = python(BLOCK_TORCH + CHECK.format(path=str(run_file), earlier=str(earlier)))
    assert done.returncode == 0, done.stderr
    assert "RP-COMPLETE" in done.stdout


def test_reports_and_tables_are_written_without_torch(run_file: Path) -> None:
    done = python(BLOCK_TORCH + RENDER.format(path=str(run_file)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["junit.xml", "metrics.prom", "report.html", "report.md"]


PLANNING = """
import roofprobe
rows = [{{"model": "llama-3.1-8b", "concurrency": 8}}, {{"model": "mixtral-8x7b", "tp": 4}}]
assert all("error" not in found for found in roofprobe.plan_cases(rows, gpu="H100 SXM"))
from roofprobe.cli import app
try:
    app({arguments!r})
except SystemExit as end:
    assert not end.code, end.code
"""


def test_planning_loads_no_torch_and_no_tables() -> None:
    names = ("torch", "triton", "pynvml", "pandas", "scipy", "matplotlib")
    arguments = ["plan", "--model", "llama-3.1-8b", "--gpu", "H100 SXM"]
    done = python(BLOCK_TORCH + PLANNING.format(arguments=arguments) + REPORT.format(names=names))
    assert done.returncode == 0, done.stderr
    assert "TPOT" in done.stdout


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    code = "import roofprobe; assert all(hasattr(roofprobe, n) for n in roofprobe.__all__)\n"
    code += "assert not hasattr(roofprobe, 'plans')\n"
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.alone
@pytest.mark.parametrize(("many", "limit_s"), [(False, 1.0), (True, 2.0)], ids=["one", "10,000"])
def test_planning_answers_in_time(tmp_path: Path, many: bool, limit_s: float) -> None:
    row = "llama-3.1-8b,{tp},{c},{s},{o}\n"
    rows = (row.format(tp=1 << n % 4, c=1 + n % 256, s=64 + n % 7000, o=1 + n % 1999)
            for n in range(10_000))  # fmt: skip
    file = tmp_path / "cases.csv"
    file.write_text("model,tp,concurrency,input_len,output_len\n" + "".join(rows))
    command = [sys.executable, "-m", "roofprobe", "plan", "--model", "llama-3.1-8b"]
    command += ["--gpu", "H100 SXM", "--json", *(["--cases", str(file)] if many else [])]
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < limit_s, seconds


@pytest.mark.alone
def test_help_answers_within_0_4_seconds() -> None:
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "roofprobe", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.4, seconds
