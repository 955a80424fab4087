"""The main flow on a cluster that answers as it is told: every slot ends in one outcome."""

from __future__ import annotations

import ast
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from roofprobe import __version__
from roofprobe.fleet_run import archive, drive, remote
from roofprobe.fleet_run.asked import Asked
from roofprobe.fleet_run.cluster import Lost
from roofprobe.fleet_run.slots import Expected, Node
from roofprobe.fleet_run.versions import mine
from roofprobe.fleet_run.view import render, to_json
from roofprobe.records.errors import RoofprobeError

Answer = Callable[[str, int], Any]  # of a node's name and the how-manieth task it is there


def packed(status: str = "complete", device_id: str = "GPU-1") -> bytes:
    record = json.dumps({"status": status, "devices": [{"device_id": device_id}]}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        member = tarfile.TarInfo("20260101T000000Z-x/run.json")
        member.size = len(record)
        made.addfile(member, io.BytesIO(record))
    return buffer.getvalue()


def measured(device: int | str, code: int = 0, **other: Any) -> dict[str, Any]:
    """Return the reply of a slot whose probe ended with ``code``."""
    return {
        "device": str(device), "exit_code": code, "timed_out": False, "said": "", "seconds": 1.0,
        "archive": packed(device_id=f"GPU-{device}"), "left_out": [], **other,
    }  # fmt: skip


class FakeCluster:
    """Nodes by name with their GPUs; ``answers`` says what each measuring task comes to."""

    version = "2.60.0"

    def __init__(self, nodes: Mapping[str, int], answers: Answer, **told: Any) -> None:
        self._nodes = [Node(f"id-{n}", n, "10.0.0.1", n, gpus, True) for n, gpus in nodes.items()]
        self._answers, self._told = answers, told
        self.sent: list[tuple[str, str, dict[str, Any], int]] = []
        self.cancelled: list[Any] = []

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes)

    def send(self, work: Any, node: Node, config: dict[str, Any], gpus: int) -> int:
        self.sent.append((work.__name__, node.name, config, gpus))
        return len(self.sent) - 1

    def ready(self, references: Sequence[int], seconds: float) -> list[int]:
        return [each for each in references if self.result(each) is not None]

    def result(self, reference: int) -> Any:
        work, name, *_ = self.sent[reference]
        if work == "look":
            return {**mine(self.version), "torch": True, "visible": None, "error": "", **self._told}
        if work == "tidy":
            return 0
        before = [each for each in self.sent[:reference] if each[:2] == (work, name)]
        found = self._answers(name, len(before))
        if isinstance(found, BaseException):
            raise found
        return found

    def cancel(self, references: Sequence[int]) -> None:
        self.cancelled += references

    def works(self) -> list[tuple[str, str]]:
        return [(work, name) for work, name, *_ in self.sent]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., drive.FleetRun]:
    """Give a function that makes a fleet run on a ``FakeCluster``."""

    def go(
        cluster: FakeCluster, *, resume: bool = False, out: Path | None = None, **asked: Any
    ) -> drive.FleetRun:
        @contextmanager
        def joined(address: str | None, out: Path, install: bool) -> Iterator[FakeCluster]:
            yield cluster

        monkeypatch.setattr(drive, "joined", joined)
        given = Asked(**{"family": "memory", "tier": "quick", **asked})
        out = out or tmp_path / "out"
        return drive.fleet_run(given, out, resume=resume, say=lambda sentence: None)

    return go


Run = Callable[..., drive.FleetRun]


def codes(found: drive.FleetRun) -> dict[tuple[str, str], str]:
    return {each.slot: each.code or each.state for each in found.outcomes}


def test_each_gpu_is_a_task_bound_to_its_node(run: Run, tmp_path: Path) -> None:
    cluster = FakeCluster({"head": 0, "a": 2, "b": 1}, lambda name, n: measured(n))
    found = run(cluster)
    assert codes(found) == dict.fromkeys([("a", "0"), ("a", "1"), ("b", "0")], "finished")
    assert found.exit_code == 0
    assert sorted(cluster.works()) == [
        ("look", "a"), ("look", "b"), ("measure", "a"), ("measure", "a"), ("measure", "b"),
        ("tidy", "a"), ("tidy", "b"),
    ]  # fmt: skip
    tasks = [(config, gpus) for work, _, config, gpus in cluster.sent if work == "measure"]
    assert {gpus for _, gpus in tasks} == {1}
    config = tasks[0][0]
    assert config["arguments"] == [
        "memory", "--tier", "quick", "--seed", "0", "--device", "cuda", "--quiet"
    ]  # fmt: skip
    assert (config["tasks"], config["per_node"], config["done"]) == (2, 2, [])
    assert found.concurrency == {"a": 2, "b": 1}
    assert {each.folder for each in found.outcomes} == {
        "a/20260101T000000Z-x", "a/20260101T000000Z-x-2", "b/20260101T000000Z-x"
    }  # fmt: skip


def test_results_that_came_are_kept_and_losses_fill_the_rest(run: Run) -> None:
    answers = [measured(2), Lost("node-died", "its node died"), measured(0, 1), Lost("x", "y")]
    found = run(FakeCluster({"a": 4}, lambda name, n: answers[n]))
    assert codes(found) == {
        ("a", "0"): "verdict-fail", ("a", "1"): "node-died", ("a", "2"): "finished", ("a", "3"): "x"
    }  # fmt: skip
    assert found.exit_code == 1


def test_a_second_run_holds_every_gpu_and_measures_what_is_left(run: Run) -> None:
    first = [measured(1), Lost("worker-died", "killed"), measured(2)]
    run(FakeCluster({"a": 3, "b": 1}, lambda name, n: first[n] if name == "a" else measured(0)))
    again = [{"device": "1", "idle": "done"}, measured(0), {"device": "2", "idle": "done"}]
    cluster = FakeCluster({"a": 3, "b": 1}, lambda name, n: again[n])
    found = run(cluster, resume=True)
    assert set(codes(found).values()) == {"finished"}
    assert (len(found.outcomes), found.repeated) == (4, 3)
    assert cluster.works().count(("measure", "a")) == 3
    assert ("look", "b") not in cluster.works()
    assert cluster.sent[1][2]["done"] == ["1", "2"]
    assert found.concurrency == {"a": 1}


def test_a_slot_that_was_too_slow_is_given_more_time(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = measured(0, 3, timed_out=True, archive=None)
    first = run(FakeCluster({"a": 1, "b": 1}, lambda name, n: late if name == "a" else measured(0)))
    assert codes(first) == {("a", "0"): "timed-out", ("b", "0"): "finished"}
    monkeypatch.chdir(tmp_path)
    cluster = FakeCluster({"a": 1, "b": 1, "c": 0}, lambda name, n: measured(0))
    found = run(
        cluster, resume=True, out=Path("out"), limit_s=7200.0, time_budget_s=900.0,
        address="ray://10.0.0.2:10001", expected=(Expected("a", 1), Expected("d", 1)),
        install=False,
    )  # fmt: skip
    assert codes(found) == {
        ("a", "0"): "finished", ("b", "0"): "finished", ("d", "0"): "node-missing"
    }  # fmt: skip
    (config,) = [config for work, _, config, _ in cluster.sent if work == "measure"]
    assert (config["node"], config["timeout_s"]) == ("a", 7200.0)
    assert config["arguments"][-5:-3] == ["--time-budget", "900s"]


def test_another_tier_measures_nothing(run: Run) -> None:
    run(FakeCluster({"a": 1}, lambda name, n: Lost("node-died", "its node died")))
    cluster = FakeCluster({"a": 1}, lambda name, n: measured(0))
    with pytest.raises(RoofprobeError, match="begun with --tier quick and would go on with --tier"):
        run(cluster, resume=True, tier="soak")
    assert cluster.sent == []


def test_results_of_an_earlier_version_are_kept_and_told_of(run: Run, tmp_path: Path) -> None:
    run(FakeCluster({"a": 2}, lambda name, n: measured(0) if n == 0 else Lost("node-died", "x")))
    path = tmp_path / "out/fleet-run.jsonl"
    path.write_text(path.read_text().replace(f'"{__version__}"', '"0.0.1"'))
    again = [{"device": "0", "idle": "done"}, measured(1)]
    found = run(FakeCluster({"a": 2}, lambda name, n: again[n]), resume=True)
    assert found.exit_code == 0
    assert [note for note in found.notes if "1 by roofprobe 0.0.1 and not" in note]


def test_a_gpu_that_ray_does_not_hand_out_is_unknown(run: Run) -> None:
    answers = [measured(0), {"device": "0", "idle": "again"}]
    found = run(FakeCluster({"a": 2}, lambda name, n: answers[n]))
    assert codes(found) == {("a", "0"): "finished", ("a", "1"): "not-granted"}
    assert found.exit_code == 3


def test_a_task_that_never_answers_is_cancelled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_GATHER_S", "_GRACE_S"):
        monkeypatch.setattr(drive, name, 0.0)
    cluster = FakeCluster({"a": 2}, lambda name, n: measured(0) if n == 0 else None)
    found = run(cluster, limit_s=0.05)
    assert codes(found) == {("a", "0"): "finished", ("a", "1"): "no-answer"}
    assert [cluster.works()[each] for each in cluster.cancelled] == [("measure", "a")]


def test_an_interrupt_keeps_what_came_and_cancels_the_rest(run: Run, tmp_path: Path) -> None:
    answers = [measured(0), KeyboardInterrupt()]
    cluster = FakeCluster({"a": 2}, lambda name, n: answers[n] if n else answers[0])
    ready = cluster.ready
    cluster.ready = lambda references, seconds: ready(sorted(references)[:1], seconds)  # type: ignore[method-assign]
    found = run(cluster)
    assert codes(found) == {("a", "0"): "finished", ("a", "1"): "interrupted"}
    assert (found.interrupted, found.exit_code) == (True, 3)
    assert ("tidy", "a") in cluster.works()
    last = (tmp_path / "out/fleet-run.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["interrupted"] is True


def test_a_full_disk_here_stops_the_probes_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Path:
        raise RoofprobeError("disk-full", "the disk is full", exit_code=3)

    monkeypatch.setattr(archive, "place", full)
    cluster = FakeCluster({"a": 2}, lambda name, n: measured(0) if n == 0 else None)
    with pytest.raises(RoofprobeError, match="disk is full"):
        run(cluster)
    assert [cluster.works()[each] for each in cluster.cancelled] == [("measure", "a")]
    assert cluster.works()[-1] == ("tidy", "a")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (measured(0, archive=b"no archive"), "bad-archive"),
        (measured(0, archive=packed("incomplete")), "no-record"),
        (measured(0, archive=None), "no-record"),
        (measured(0, 3, timed_out=True), "timed-out"),
    ],
)
def test_what_is_no_result_is_unknown(reply: dict[str, Any], code: str, run: Run) -> None:
    found = run(FakeCluster({"a": 1}, lambda name, n: reply))
    assert codes(found) == {("a", "0"): code}


def test_a_version_skew_ends_the_run_before_a_gpu_is_asked_for(run: Run, tmp_path: Path) -> None:
    cluster = FakeCluster({"a": 2}, lambda name, n: measured(n), roofprobe="0.0.1")
    with pytest.raises(RoofprobeError, match=r"roofprobe 0\.0\.1 on a"):
        run(cluster)
    assert ("measure", "a") not in cluster.works()
    # and is in nobody's way afterwards
    assert run(FakeCluster({"a": 1}, lambda name, n: measured(n))).exit_code == 0


def test_without_a_gpu_the_remedy_is_told_and_expected_nodes_are_unknown(run: Run) -> None:
    with pytest.raises(RoofprobeError, match="--device cpu"):
        run(FakeCluster({"head": 0}, lambda name, n: None))
    found = run(FakeCluster({"head": 0}, lambda name, n: None), expected=(Expected("a", 2),))
    assert codes(found) == {("a", "0"): "node-missing", ("a", "1"): "node-missing"}


def test_processors_are_measured_without_asking_ray_for_a_gpu(run: Run) -> None:
    cluster = FakeCluster({"head": 0}, lambda name, n: measured("cpu"))
    assert codes(run(cluster, device="cpu")) == {("head", "cpu"): "finished"}
    assert [gpus for work, _, _, gpus in cluster.sent if work == "measure"] == [0]


def test_gpus_are_named_as_the_node_names_them(run: Run) -> None:
    answers = [measured(5), Lost("worker-died", "killed")]
    found = run(FakeCluster({"a": 2}, lambda name, n: answers[n], visible="4,5"))
    assert codes(found) == {("a", "5"): "finished", ("a", "4"): "worker-died"}


def test_what_is_told_names_slots_reasons_and_the_next_step(run: Run) -> None:
    from rich.console import Console

    answers = [measured(0), Lost("node-died", "its node died")]
    found = run(FakeCluster({"a": 2}, lambda name, n: answers[n]))
    console = Console(file=io.StringIO(), width=100)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "a     GPU 1  unknown   –  its node died" in text
    assert "slots: 2, 1 finished, 1 unknown" in text
    assert "Up to 2 slots of a node ran side by side" in text
    assert "with --resume" in text
    document = to_json(found)
    assert document["counts"] == {"finished": 1, "failed": 0, "unknown": 1}
    assert document["next"][1] == f"probe fleet merge {found.out} --out FLEET"
    json.dumps(document)


def test_what_runs_on_nodes_needs_nothing_of_ours() -> None:
    tree = ast.parse(Path(remote.__file__).read_text())
    named = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name for name in named if name.split(".")[0] not in sys.stdlib_module_names}
    # to tell its version, and where Ray runs; all else would be the node's, or missing there
    assert others == {"ray", "roofprobe", "roofprobe.records.schema"}
