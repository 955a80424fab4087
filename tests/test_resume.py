"""A run that is killed at any moment goes on where it was, and measures nothing twice.

The runs are real: the command's main flow, its worker process, torch on this CPU. Only the table of
shapes and the time per case are small, so that ten kills fit into a test.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from roofprobe.records.journal import NAME, read_journal
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Run

pytestmark = pytest.mark.faults

DRIVER = """
import sys
from dataclasses import replace
from pathlib import Path
from roofprobe import run as flow
from roofprobe.asking import options_from
from roofprobe.probes import compute, plan
from roofprobe.probes.measure import Policy
from roofprobe.reporting.progress import Silent

shapes = tuple((32, 64, 32 * step) for step in range(1, 21))
compute.anchors_for = lambda device, row: shapes
compute._DEPTHS[("cpu", "standard")] = replace(
    compute._DEPTHS[("cpu", "standard")], anchors=len(shapes), surface_ms=()
)
brief = Policy(0.0005, 0.0, 0.02, 0.03, min_samples=3)
plan._BURST[("cpu", "standard")] = plan._SETTLED["standard"] = brief
plan._BRIEF["cpu"] = plan._PATTERN["cpu"] = brief
plan._SEARCH_S[("cpu", "standard")] = 0.1
finished = flow.probe_all(
    options_from(("compute",), "cpu", "standard", "fp32", None, 0),
    Path(sys.argv[1]),
    progress=Silent(),
    resume="--resume" in sys.argv,
)
sys.exit(flow.exit_code(finished))
"""
# The first shape by five routes, of which a processor has torch's and numpy's; 19 by torch alone.
ANCHORS = 5 + 19
FOLLOWING = {"route": 5, "settled": 1, "pattern": 5}  # what the search calls for
CASES = ANCHORS + sum(FOLLOWING.values()) + 4  # two pipes, a search, the watch on bits


def start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(out), *options])


def finish(out: Path, *options: str) -> int:
    process = start(out, *options)
    return process.wait(timeout=300)


def assert_complete_and_measured_once(out: Path) -> None:
    journal = read_journal(out / "latest")
    counts = Counter(measurement.case.case_id for measurement in journal.measurements)
    assert len(counts) == CASES
    assert set(counts.values()) == {1}
    run = read_run(out)
    assert run.status == "complete"
    assert len(run.measurements) == CASES
    roles = Counter((m.case.role, m.status) for m in run.measurements if m.case.role != "pipe")
    assert roles == {
        ("anchor", "ok"): ANCHORS - 3,
        ("anchor", "skipped"): 3,
        ("search", "ok"): 1,
        ("stability", "ok"): 1,
        ("route", "ok"): 2,
        ("route", "skipped"): 3,
        ("settled", "ok"): 1,
        ("pattern", "ok"): 5,
    }
    (search,) = (m.search for m in run.measurements if m.search is not None)
    assert {shape for shape, _ in works(run, "route")} == {search.best}
    (fastest,) = {(tuple(m.case.shape.values()), m.case.route) for m in run.measurements
                  if m.case.case_id == run.headlines[0].case_id}  # fmt: skip
    assert works(run, "settled") == works(run, "pattern") == {fastest}


def works(run: Run, role: str) -> set[tuple[tuple[int, ...], str]]:
    """Return the shapes and routes of a role's cases."""
    return {
        (tuple(m.case.shape.values()), m.case.route)
        for m in run.measurements
        if m.case.role == role and (role != "route" or m.status == "ok")
    }


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n")


@pytest.mark.timeout(400)
def test_ten_kills_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    moments = random.Random(20261124)
    struck = 0
    for number in range(2):
        out = tmp_path / str(number)
        kept = b""
        for attempt in range(5):
            process = start(out, *(["--resume"] if attempt else []))
            journal = wait_for_journal(out, process)
            before = lines(journal)
            # Some strike while the worker is being started, the others once it measures.
            while attempt % 3 and lines(journal) < before + 2 and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            at_kill = journal.read_bytes()
            struck += before < at_kill.count(b"\n") < CASES
            # What was on disk at the last kill is still there, to the byte.
            assert at_kill.startswith(kept)
            kept = at_kill[: at_kill.rfind(b"\n") + 1]  # but for a torn last line
        assert finish(out, "--resume") == 0
        assert journal.read_bytes().startswith(kept)
        assert_complete_and_measured_once(out)
    assert struck >= 4, "no kill fell between two measurements: the moments miss the run"


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    assert finish(tmp_path) == 0
    lines = (tmp_path / "latest" / NAME).read_text().splitlines()
    kinds = Counter(json.loads(line)["kind"] for line in lines)
    assert kinds == {"header": 1, "measurement": CASES, "health": 1}
    before = read_run(tmp_path).measurements
    assert finish(tmp_path, "--resume") == 0
    assert read_run(tmp_path).measurements == before
    assert_complete_and_measured_once(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_its_files_and_can_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path)
    journal = wait_for_journal(tmp_path, process)
    while journal.read_bytes().count(b"\n") < 6:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=200) == 3
    run = read_run(tmp_path)
    assert run.status == "incomplete"
    assert 5 <= len(run.measurements) < CASES
    names = {path.name for path in (tmp_path / "latest").iterdir()}
    assert {"run.json", "journal.jsonl", "measurements.csv", "report.md", "report.html"} <= names
    assert finish(tmp_path, "--resume") == 0
    assert_complete_and_measured_once(tmp_path)


def test_a_killed_run_takes_its_worker_along(tmp_path: Path) -> None:
    import psutil

    process = start(tmp_path)
    journal = wait_for_journal(tmp_path, process)
    while journal.read_bytes().count(b"\n") < 3:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, gone


def wait_for_journal(out: Path, process: subprocess.Popen[bytes]) -> Path:
    """Wait until the run has its folder and the journal's header."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list(out.glob(f"*/{NAME}"))
        if found and b"\n" in found[0].read_bytes():
            return found[0].resolve()
        assert process.poll() is None, "the run ended before it began"
        time.sleep(0.01)
    raise AssertionError(f"no journal in {out}")


def test_what_time_ran_out_for_is_measured_by_the_next_run(tmp_path: Path) -> None:
    def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roofprobe", *arguments, "--out", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True)

    asked = ("compute", "--precision", "fp64-vector", "--tier", "quick")
    assert probe(*asked, "--time-budget", "0.001s").returncode == 0
    (late,) = read_run(tmp_path).measurements
    assert late.reason is not None
    assert late.reason.code == "time-budget"
    done = probe("compute", "--resume", "--tier", "soak", "--time-budget", "60s")
    assert done.returncode == 0, done.stderr
    assert "goes on with the options of the run" in done.stderr
    assert "tier quick, not soak" in done.stderr
    (measured,) = read_run(tmp_path).measurements
    assert measured.reason is None or measured.reason.code != "time-budget"
    assert len(read_journal(tmp_path / "latest").measurements) == 2
