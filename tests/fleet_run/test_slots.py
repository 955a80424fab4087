"""Every slot that is known of ends in one outcome; what is missing is told of by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roofprobe.fleet_run.asked import Asked
from roofprobe.fleet_run.slots import (
    Expected,
    Node,
    Outcome,
    absent,
    exit_code,
    expected_in,
    nodes_of,
    twice,
)
from roofprobe.records.errors import RoofprobeError


def row(node_id: str, name: str = "", *, alive: bool = True, gpus: float = 0, host: str = "vm",
        address: str = "10.0.0.1", death: str = "") -> dict[str, Any]:  # fmt: skip
    """Return a row of Ray's table of nodes, which has no resources for a dead one."""
    return {
        "NodeID": node_id, "Alive": alive, "NodeName": name or address, "DeathReasonMessage": death,
        "NodeManagerAddress": address, "NodeManagerHostname": host,
        "Resources": {"CPU": 4.0, "GPU": gpus} if gpus and alive else {},
    }  # fmt: skip


def node(name: str, gpus: int = 8, *, alive: bool = True, address: str = "10.0.0.1") -> Node:
    return Node(
        f"id-{name}", name, address, f"{name}.example", gpus, alive, "" if alive else "gone."
    )


def test_a_node_is_called_by_its_own_name_or_else_by_its_host() -> None:
    found = nodes_of([row("a", "mine", host="h1"), row("b", host="h2", gpus=8)])
    assert [(each.name, each.gpus) for each in found] == [("mine", 0), ("h2", 8)]


def test_nodes_of_one_name_are_told_apart_by_address_or_id() -> None:
    other = row("2222222222", address="10.0.0.2")
    same = [row("3333333333", address="10.0.0.3"), row("4444444444", address="10.0.0.3")]
    names = [each.name for each in nodes_of([row("1111111111"), other, *same])]
    assert names == ["vm-10.0.0.1", "vm-10.0.0.2", "vm-33333333", "vm-44444444"]


def test_a_dead_node_that_was_replaced_is_not_told_of() -> None:
    found = nodes_of([row("old", alive=False), row("new", gpus=4)])
    assert [(each.node_id, each.alive) for each in found] == [("new", True)]


def test_expected_nodes_are_those_of_a_list_of_hosts(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("# rack 1\ngpu-1 8\n\n10.0.0.2   # by address\n")
    assert expected_in(tmp_path / "nodes") == (Expected("gpu-1", 8), Expected("10.0.0.2"))


@pytest.mark.parametrize(
    ("text", "code"),
    [("a eight", "bad-hosts"), ("a 0", "bad-hosts"), ("a 99999999999", "bad-hosts"),
     ("# nothing", "bad-hosts"), (None, "unreadable")],
)  # fmt: skip
def test_a_list_that_cannot_be_meant_is_refused(
    text: str | None, code: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "nodes").write_text(text)
    with pytest.raises(RoofprobeError) as caught:
        expected_in(tmp_path / "nodes")
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


def told(found: tuple[Outcome, ...]) -> list[tuple[str, str, str]]:
    assert {each.state for each in found} <= {"unknown"}
    return [(each.node, each.device, each.code) for each in found]


def test_what_is_expected_and_there_is_not_told_of() -> None:
    nodes = [node("a", 2), node("b", 1, address="10.0.0.2")]
    devices = {"a": ["0", "1"], "b": ["0"]}
    expected = [Expected("A.example", 2), Expected("10.0.0.2")]
    assert absent(nodes, devices, expected, {}) == ()


def test_a_missing_node_is_unknown_with_all_its_gpus() -> None:
    found = absent([], {}, [Expected("a", 2), Expected("b")], {})
    assert told(found) == [
        ("a", "0", "node-missing"), ("a", "1", "node-missing"), ("b", "all", "node-missing")
    ]  # fmt: skip


def test_missing_gpus_of_a_living_node_are_counted() -> None:
    found = absent([node("a", 6), node("head", 0)], {"a": list("012345")},
                   [Expected("a", 8), Expected("head")], {})  # fmt: skip
    assert told(found) == [
        ("a", "missing-1", "gpu-missing"), ("a", "missing-2", "gpu-missing"),
        ("head", "missing-1", "gpu-missing"),
    ]  # fmt: skip
    assert found[0].sentence == "Ray has 6 GPUs on node a and 8 are expected"


def test_dead_nodes_are_told_of_unless_a_list_says_which_matter() -> None:
    nodes = [node("a"), node("d", 0, alive=False)]
    devices = {"a": list("01234567")}
    (found,) = absent(nodes, devices, [], {})
    assert (found.slot, found.code, found.sentence) == (
        ("d", "all"), "node-dead", "node d is dead: gone"
    )  # fmt: skip
    assert absent(nodes, devices, [Expected("a")], {}) == ()
    assert told(absent(nodes, devices, [Expected("d", 1)], {})) == [("d", "0", "node-dead")]


def test_a_node_of_the_run_that_is_resumed_is_not_forgotten() -> None:
    found = absent([node("a", 1)], {"a": ["0"]}, [], {"a": ["0"], "b": ["4", "5"]})
    assert told(found) == [("b", "4", "node-missing"), ("b", "5", "node-missing")]
    assert "when this fleet run began" in found[0].sentence


def test_a_gpu_that_two_slots_had_counts_once() -> None:
    same = [Outcome("a", slot, "finished", device_ids=("GPU-1",)) for slot in "01"]
    other = Outcome("b", "0", "finished", device_ids=("GPU-1",))
    cpus = [Outcome("c", slot, "finished", device_ids=("cpu",)) for slot in "01"]
    (found,) = twice([*same, other, *cpus])
    assert (found.slot, found.state, found.code) == (("a", "1"), "unknown", "measured-twice")
    assert found.sentence == "it is the GPU of slot 0, GPU-1; another was missed"


@pytest.mark.parametrize(
    ("states", "code"),
    [("fff", 0), ("ffx", 1), ("ffu", 3), ("fux", 1), ("", 3)],
)
def test_the_exit_code_is_of_the_worst(states: str, code: int) -> None:
    names: Any = {"f": "finished", "x": "failed", "u": "unknown"}
    assert exit_code([Outcome("a", "0", names[state]) for state in states]) == code


def test_slots_are_gpus_and_processors_only_where_there_is_no_gpu() -> None:
    cpu, auto = Asked(device="cpu"), Asked()
    nodes = [node("head", 0), node("a", 2), node("dead", 0, alive=False)]
    assert cpu.devices(nodes) == auto.devices(nodes) == {"a": ["0", "1"]}
    assert cpu.devices([node("head", 0)]) == {"head": ["cpu"]}
    assert auto.devices([node("head", 0)]) == {}
