"""Disks that are full or closed cost the run at most, never what was measured before.

The runs are real and so are the file systems: a small tmpfs in a mount namespace of its own where
the system permits one, and the kernel's limit on file sizes everywhere.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roofprobe.records.journal import NAME, read_journal
from roofprobe.records.runfolder import read_run

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[1]
# The command's flow with small shapes and short samples; after four measurements the disk is full.
DRIVER = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from roofprobe import run as flow
from roofprobe.asking import options_from
from roofprobe.probes import compute, plan
from roofprobe.probes.measure import Policy
from roofprobe.records.errors import RoofprobeError
from roofprobe.reporting.progress import Silent

fault, out = sys.argv[1], Path(sys.argv[2])
shapes = tuple((32, 64, 32 * step) for step in range(1, 9))
compute.anchors_for = lambda device, row: shapes
brief = Policy(0.0005, 0.0, 0.01, 0.02, min_samples=3)
depths = compute._DEPTHS[("cpu", "standard")]
compute._DEPTHS[("cpu", "standard")] = replace(depths, anchors=8, surface_ms=())
plan._BURST[("cpu", "standard")] = plan._SETTLED["standard"] = brief
plan._BRIEF["cpu"] = plan._PATTERN["cpu"] = brief
plan._SEARCH_S[("cpu", "standard")] = 0.1

class Filling(Silent):
    measured = 0
    def finished(self, device_id, measurement):
        self.measured += 1
        if self.measured != 4:
            return
        journal = next(out.glob("*/journal.jsonl"))
        if fault == "file limit half-way":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 100, hard))
        if fault == "full half-way":
            try:
                with open(out / "ballast", "wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
            except OSError:
                pass

try:
    options = options_from(("compute",), "cpu", "standard", "fp32", None, 0)
    resume = "--resume" in sys.argv
    done = flow.probe_all(options, out, progress=Silent() if resume else Filling(), resume=resume)
except RoofprobeError as error:
    print(error.code)
    sys.exit(error.exit_code)
print("done")
sys.exit(flow.exit_code(done))
"""
MOUNTING = ["unshare", "--mount", "--map-root-user"]


def can_mount() -> bool:
    command = [*MOUNTING, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_mount = pytest.mark.skipif(not can_mount(), reason="this system permits no mounts")


def on_tmpfs(
    options: str, out: Path, *commands: list[str]
) -> list[subprocess.CompletedProcess[Any]]:
    """Run commands one after another in a namespace where ``out`` is a tmpfs; return what came."""
    out.mkdir(exist_ok=True)
    code = (
        "import json, subprocess, sys\n"
        f"subprocess.run(['mount', '-t', 'tmpfs', '-o', {options!r}, 'tmpfs', {str(out)!r}],"
        " check=True)\n"
        f"for command in {list(commands)!r}:\n"
        "    done = subprocess.run(command, capture_output=True, text=True)\n"
        "    print(json.dumps([done.returncode, done.stdout, done.stderr]))\n"
    )
    done = subprocess.run(
        [*MOUNTING, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return [
        subprocess.CompletedProcess(command, *json.loads(line))
        for command, line in zip(commands, done.stdout.splitlines(), strict=True)
    ]


def driven(fault: str, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-c", DRIVER, fault, str(out), *options]


def probe(out: Path) -> list[str]:
    return [sys.executable, "-m", "roofprobe", "compute", "--out", str(out), "--json"]


@needs_mount
@pytest.mark.parametrize(
    ("fault", "options"), [("read-only", "ro"), ("full at the start", "size=4m")]
)
def test_a_disk_that_takes_nothing_is_told_before_anything_is_measured(
    faults: ModuleType, tmp_path: Path, fault: str, options: str
) -> None:
    expected = faults.named(fault)
    (done,) = on_tmpfs(options, tmp_path / "out", probe(tmp_path / "out"))
    assert done.returncode == expected.exit_code, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == expected.code
    assert "Traceback" not in done.stderr


def test_a_limit_on_file_sizes_half_way_loses_nothing(faults: ModuleType, tmp_path: Path) -> None:
    expected = faults.named("file limit half-way")
    done = subprocess.run(driven(expected.name, tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (expected.exit_code, expected.code), (
        done.stderr
    )
    before = (tmp_path / "latest" / NAME).read_bytes()
    kept = read_journal(tmp_path / "latest").measurements
    assert len(kept) == 4, "what was on disk is whole, and no part of a line follows it"
    assert read_run(tmp_path).status == "running"
    resumed = subprocess.run(driven("", tmp_path, "--resume"), capture_output=True, text=True)
    assert (resumed.returncode, resumed.stdout.strip()) == (0, "done"), resumed.stderr
    after = (tmp_path / "latest" / NAME).read_bytes()
    assert after.startswith(before)
    measured = [m.case.case_id for m in read_journal(tmp_path / "latest").measurements]
    assert len(measured) == len(set(measured)) > 4, "nothing is measured twice"


@needs_mount
def test_a_disk_that_fills_up_half_way_loses_nothing(faults: ModuleType, tmp_path: Path) -> None:
    expected = faults.named("full half-way")
    out = tmp_path / "out"
    journal = "import sys; from pathlib import Path; from roofprobe.records.journal import *\n"
    journal += f"print(len(read_journal(Path({str(out / 'latest')!r})).measurements))"
    done, kept, _, resumed, all_kept = on_tmpfs(
        "size=20m", out,
        driven(expected.name, out),
        [sys.executable, "-c", journal],
        ["rm", str(out / "ballast")],
        driven("", out, "--resume"),
        [sys.executable, "-c", journal],
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (expected.exit_code, expected.code), (
        done.stderr
    )
    assert int(kept.stdout) >= 4
    assert (resumed.returncode, resumed.stdout.strip()) == (0, "done"), resumed.stderr
    assert int(all_kept.stdout) > int(kept.stdout)


def test_every_registered_fault_is_planted_by_a_test(faults: ModuleType) -> None:
    files = [*ROOT.glob("tests/test_*faults.py")]
    said = {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    through = {"driver", "device"}  # places whose faults a test goes through, all of them
    assert through <= said
    lacking = [f.name for f in faults.FAULTS if f.name not in said and f.where not in through]
    assert lacking == []
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS)


def test_the_table_in_the_document_is_the_registry(faults: ModuleType) -> None:
    printed = subprocess.run(
        [sys.executable, str(ROOT / "tools/reliability_table.py"), "--print"],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    assert printed.stdout.strip() == faults.table()
    assert f"\n{faults.table()}\n" in (ROOT / "docs/reliability.md").read_text()
