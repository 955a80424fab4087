"""A Ray cluster on this host whose nodes have GPUs that do not exist, and ``probe fleet run``."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

MARK = "ROOFPROBE_FLEET_RUN"


@dataclass
class Driver:
    """A ``probe fleet run`` that goes on in a process of its own."""

    process: subprocess.Popen[str]
    out: Path

    def journal(self) -> list[dict[str, Any]]:
        path = self.out / "fleet-run.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def slots(self) -> list[dict[str, Any]]:
        return [line for line in self.journal() if line["what"] == "slot"]

    def until(self, happened: Callable[[], Any], seconds: float = 300) -> Any:
        """Wait for ``happened`` to return something true, and return that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = happened()
            if found:
                return found
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)
        raise AssertionError("it did not happen")

    def ended(self, seconds: float = 400) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, errors

    def document(self) -> dict[str, Any]:
        """Wait for the end, and return the document: the only thing on standard output."""
        code, out, errors = self.ended()
        assert out.startswith("{"), errors
        found: dict[str, Any] = json.loads(out)
        assert found.get("exit_code", code) == code
        return found


def probes() -> list[psutil.Process]:
    """Return what a fleet run started on the nodes and still lives."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def rays() -> list[psutil.Process]:
    """Return the processes of Ray on this host."""
    names = ("raylet", "gcs_server", "ray::", "/ray/dashboard/", "/ray/_private/")
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline()[:6]) or process.name()
        except psutil.Error:
            continue
        if any(name in command for name in names) and process.pid != os.getpid():
            found.append(process)
    return found


class FakeFleet:
    """A cluster with a head, and nodes that are added and killed; each named."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "node_name": "head", "include_dashboard": False},
        )
        self.nodes: dict[str, Any] = {}
        self.ids: list[str] = []

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, name: str, gpus: int) -> None:
        self.nodes[name] = self.cluster.add_node(num_cpus=1, num_gpus=gpus, node_name=name)
        self.ids.append(str(self.nodes[name].node_id))

    def end(self) -> None:
        """Stop it, and remove what killed nodes could not."""
        self.cluster.shutdown()
        for node_id in self.ids:
            for folder in Path("/tmp").glob(f"roofprobe-fleet-*-{node_id[:16]}"):
                shutil.rmtree(folder)

    def kill(self, name: str) -> None:
        """Kill a node, and wait until Ray knows."""
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)
        self.cluster.wait_for_nodes()


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    """Give a cluster without nodes that measure; nothing of Ray is left when it ends."""
    before = {process.pid for process in rays()}
    told = {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # fmt: skip
    kept = {name: os.environ.get(name) for name in told}
    os.environ.update(told)  # before Ray is imported, which reads it then
    pytest.importorskip("ray", reason="the extra ray is not installed")
    fleet = FakeFleet()
    try:
        yield fleet
    finally:
        fleet.end()
        left = [process for process in rays() if process.pid not in before]
        _, alive = psutil.wait_procs(left, timeout=20)
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        assert alive == []
        assert probes() == []


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Give a function that starts ``probe fleet run``; what still runs at the end is killed."""
    started: list[Driver] = []

    def start(*arguments: str, out: Path, env: Mapping[str, str] | None = None) -> Driver:
        command = [sys.executable, "-m", "roofprobe", "fleet", "run", *arguments]
        process = subprocess.Popen(
            [*command, "--out", str(out), "--json"], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, **(env or {})},
        )  # fmt: skip
        started.append(Driver(process, out))
        return started[-1]

    yield start
    for driver in started:
        if driver.process.poll() is None:
            driver.process.send_signal(signal.SIGKILL)
        driver.process.communicate()


@pytest.fixture
def living_probes() -> Callable[[], Sequence[psutil.Process]]:
    """Give the function that lists the probes which live on the nodes."""
    return probes


@pytest.fixture
def by_state() -> Callable[[dict[str, Any]], dict[str, set[str]]]:
    """Give a function that lists a document's slots, as ``node/device``, by state."""

    def sorted_out(document: dict[str, Any]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for slot in document["slots"]:
            found.setdefault(slot["state"], set()).add(f"{slot['node']}/{slot['device']}")
        return found

    return sorted_out
