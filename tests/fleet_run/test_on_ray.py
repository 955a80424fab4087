"""A fleet run on a real cluster: real CPU probes, and what is killed in the middle of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import roofprobe

if TYPE_CHECKING:
    from tests.fleet_run.conftest import Driver, FakeFleet

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    # Ray's node process keeps its log files and children open until the interpreter ends.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
Launch = Callable[..., "Driver"]
ByState = Callable[[dict[str, Any]], dict[str, set[str]]]
Probes = Callable[[], Sequence[psutil.Process]]
# A second of measuring each; starting Python and torch takes longer.
CHEAP = ("memory", "--tier", "quick", "--time-budget", "2s", "--device", "cpu", "--no-install")
LONG = ("memory", "--tier", "quick", "--device", "cpu", "--no-install")


@pytest.fixture(scope="module", autouse=True)
def whole_host(every_core: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Let the nodes' probes, and Ray itself, have all cores: they are several at a time."""
    with every_core():
        yield


@pytest.fixture(scope="module")
def host(whole_host: None, cluster: FakeFleet) -> FakeFleet:
    """Give the cluster with one node of two GPUs."""
    cluster.add("gpu-a", 2)
    return cluster


def gone(probes: Probes) -> bool:
    """Whether all probes end within some seconds."""
    _, alive = psutil.wait_procs(list(probes()), timeout=10)
    return not alive


def test_a_killed_driver_leaves_no_probe_and_a_second_run_goes_on(
    host: FakeFleet, launch: Launch, tmp_path: Path, by_state: ByState, living_probes: Probes
) -> None:
    out = tmp_path / "out"
    asked = (*CHEAP, "--address", host.address, "--per-node", "1")
    first = launch(*asked, out=out)
    first.until(lambda: first.slots() and living_probes())
    first.process.send_signal(signal.SIGKILL)
    first.ended()
    assert gone(living_probes)
    (kept,) = first.slots()
    assert kept["state"] == "finished"
    assert (out / kept["folder"] / "run.json").stat().st_size > 1000

    refused = launch(*asked, out=out).document()["error"]
    assert (refused["code"], refused["exit_code"]) == ("has-a-fleet-run", 2)
    second = launch(*asked, "--resume", out=out).document()
    assert by_state(second) == {"finished": {"gpu-a/0", "gpu-a/1"}}
    assert second["measured_before"] == 1
    assert second["side_by_side"] == {"gpu-a": 1}
    assert len(list(out.glob("gpu-a/*/run.json"))) == 2
    third = launch(*asked, "--resume", out=out).document()
    assert by_state(third) == by_state(second)
    assert third["measured_before"] == 2
    assert len(list(out.glob("gpu-a/*/run.json"))) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_kills_the_probes_and_tells_what_is_unknown(
    number: signal.Signals, host: FakeFleet, launch: Launch, tmp_path: Path, by_state: ByState,
    living_probes: Probes,
) -> None:  # fmt: skip
    driver = launch(*LONG, "--address", host.address, out=tmp_path / "out")
    driver.until(living_probes)
    driver.process.send_signal(number)
    found = driver.document()
    assert driver.process.returncode == 3
    assert found["interrupted"]
    assert by_state(found) == {"unknown": {"gpu-a/0", "gpu-a/1"}}
    assert {slot["code"] for slot in found["slots"]} == {"interrupted"}
    assert gone(living_probes)
    assert list(Path("/tmp").glob(f"roofprobe-fleet-{driver.journal()[0]['token']}-*")) == []


def test_what_is_too_slow_or_missing_is_unknown(
    host: FakeFleet, launch: Launch, tmp_path: Path, by_state: ByState
) -> None:
    expect = tmp_path / "nodes"
    expect.write_text("gpu-a 3  # one more than it has\nghost 2\n\n")
    asked = (*LONG, "--address", host.address, "--timeout", "4s", "--expect", str(expect))
    driver = launch(*asked, out=tmp_path / "out")
    found = driver.document()
    assert driver.process.returncode == 3
    codes = {f"{slot['node']}/{slot['device']}": slot["code"] for slot in found["slots"]}
    assert codes == {
        "gpu-a/0": "timed-out", "gpu-a/1": "timed-out", "gpu-a/missing-1": "gpu-missing",
        "ghost/0": "node-missing", "ghost/1": "node-missing",
    }  # fmt: skip


def test_a_gpu_that_is_none_is_never_measured_as_a_cpu(
    host: FakeFleet, launch: Launch, tmp_path: Path
) -> None:
    asked = ("memory", "--tier", "quick", "--no-install", "--address", host.address)
    found = launch(*asked, out=tmp_path / "out").document()
    for slot in found["slots"]:
        assert (slot["state"], slot["code"]) == ("unknown", "probe-refused")
        assert "there is no device 'cuda'" in slot["sentence"]


def test_another_version_on_the_nodes_is_told_before_anything_is_measured(
    host: FakeFleet, launch: Launch, tmp_path: Path
) -> None:
    package = tmp_path / "newer/roofprobe"
    shutil.copytree(Path(roofprobe.__file__).parent, package)
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text(re.sub('__version__ = ".*"', '__version__ = "9.9"', text))
    newer = {"PYTHONPATH": str(package.parent)}
    asked = ("memory", "--tier", "quick", "--device", "cpu", "--address", host.address)
    told = launch(*asked, "--no-install", out=tmp_path / "out", env=newer).document()["error"]
    assert told["code"] == "version-skew"
    assert f"roofprobe {roofprobe.__version__} on gpu-a, 9.9 here" in told["sentence"]

    # Without --no-install the driver's own package is sent, and is what measures.
    cheap = (*asked, "--time-budget", "2s")
    driver = launch(*cheap, out=tmp_path / "out", env=newer)
    found = driver.document()
    assert [slot["state"] for slot in found["slots"]] == ["finished", "finished"]
    assert {slot["versions"]["roofprobe"] for slot in found["slots"]} == {"9.9"}
    for slot in found["slots"]:
        assert '"roofprobe": "9.9"' in (tmp_path / "out" / slot["folder"] / "run.json").read_text()


def test_the_documented_commands_run_as_printed(host: FakeFleet, tmp_path: Path) -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    (block,) = re.findall(r"^## Ray\n+```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "nodes.txt").write_text("gpu-a 2\n")
    cheap = f"--device cpu --time-budget 1s --no-install --address {host.address}"
    probe = tmp_path / "probe"
    probe.write_text(f'#!/bin/sh\nexec {sys.executable} -m roofprobe "$@" {cheap}\n')
    probe.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", block], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("slots: 2, 2 finished") == 2
    assert "probe fleet merge reports --out FLEET" in done.stdout
    assert len(list((tmp_path / "reports").glob("gpu-a/*/run.json"))) == 2


def test_a_cluster_that_wants_a_token_is_told_of(
    host: FakeFleet, launch: Launch, tmp_path: Path
) -> None:
    wrong = {"RAY_AUTH_TOKEN": "0" * 64}
    driver = launch(*CHEAP, "--address", host.address, out=tmp_path / "out", env=wrong)
    told = driver.document()["error"]
    assert (told["code"], told["exit_code"]) == ("no-cluster", 2)
    assert "does the cluster want a token" in told["sentence"]


def test_dead_nodes_and_workers_cost_only_their_slots_and_are_repeated(
    host: FakeFleet, launch: Launch, tmp_path: Path, by_state: ByState, living_probes: Probes
) -> None:
    from roofprobe.records.fleet.merge import merge

    host.kill("gpu-a")
    for name in ("node-0", "node-1", "node-2"):
        host.add(name, 4)
    out, expect = tmp_path / "out", tmp_path / "nodes"
    expect.write_text("node-0 4\nnode-1 4\nnode-2 4\n")  # and not the one that was there before
    asked = (*CHEAP, "--address", host.address, "--per-node", "2", "--expect", str(expect))
    driver = launch(*asked, out=out)
    driver.until(lambda: any(slot["node"] == "node-2" for slot in driver.slots()))
    host.kill("node-2")
    (victim, *_) = driver.until(
        lambda: [each for each in living_probes() if on(each, "node-1", driver)]
    )
    worker = psutil.Process(victim.pid).parent()
    while worker is not None and not worker.name().startswith("ray::"):
        worker = worker.parent()
    assert worker is not None
    worker.kill()
    found = driver.document()
    assert driver.process.returncode == 3
    lost = by_state(found)["unknown"]
    codes = {slot["node"]: slot["code"] for slot in found["slots"] if slot["state"] == "unknown"}
    assert codes["node-1"] == "worker-died"
    assert codes["node-2"] in ("node-died", "node-dead")
    assert len(found["slots"]) == 12
    assert len([slot for slot in lost if slot.startswith("node-1")]) == 1
    finished = by_state(found)["finished"]
    assert {slot for slot in finished if slot.startswith("node-0")} == {
        f"node-0/{n}" for n in range(4)
    }
    assert 1 <= len([slot for slot in finished if slot.startswith("node-2")]) < 4
    assert gone(living_probes)

    host.add("node-2", 4)
    again = launch(*asked, "--resume", out=out).document()
    assert by_state(again) == {"finished": {f"node-{n}/{g}" for n in range(3) for g in range(4)}}
    assert again["measured_before"] == len(finished)
    merged = merge([out], tmp_path / "fleet")
    assert (merged.total_runs, merged.refused) == (12, ())


def on(process: psutil.Process, node: str, driver: Driver) -> bool:
    """Whether a probe was started for a slot of ``node``."""
    (node_id,) = {line["node_id"] for line in driver.journal()
                  if line["what"] == "node" and line["node"] == node}  # fmt: skip
    try:
        return process.environ()["ROOFPROBE_FLEET_RUN"].endswith(f"-{node_id}")
    except psutil.Error:
        return False


def test_a_cluster_of_its_own_opens_no_dashboard(
    launch: Launch, tmp_path: Path, living_probes: Probes
) -> None:
    driver = launch(*LONG, "--address", "local", out=tmp_path / "out")
    (probe, *_) = driver.until(living_probes)
    family = {each.pid for each in psutil.Process(driver.process.pid).children(recursive=True)}
    assert probe.pid in family
    ports = {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.status == psutil.CONN_LISTEN and connection.pid in family
    }
    assert ports
    assert ports.isdisjoint({8265, 8076})
    driver.process.send_signal(signal.SIGINT)
    found = driver.document()
    assert {slot["state"] for slot in found["slots"]} == {"unknown"}
    assert gone(living_probes)
