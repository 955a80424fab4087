"""Slots: one GPU of one node each, what is expected of a cluster, and what of it is missing.

A slot is a GPU as Ray hands it out. Every slot that is known of (a living node's GPUs, the
expected-node list, an earlier run into the same folder) ends in exactly one outcome: ``finished``,
``failed`` (the probe's verdict) or ``unknown`` with a reason. Nothing is silently absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from roofprobe.records.errors import RoofprobeError

State = Literal["finished", "failed", "unknown"]
EVERY: Final = "all"  # the device of a node whose GPUs nobody counted
CPU: Final = "cpu"
_MOST_GPUS: Final = 1024


@dataclass(frozen=True, slots=True)
class Node:
    """A node as Ray tells of it; ``gpus`` are those that it hands out (0 for a dead node)."""

    node_id: str
    name: str
    address: str
    hostname: str
    gpus: int
    alive: bool
    death: str = ""

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is this node's name, host name (with or without domain) or address."""
        short = self.hostname.split(".")[0]
        return name.lower() in {
            each.lower() for each in (self.name, self.hostname, short, self.address)
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a slot. ``folder`` is where its run lies, below the output folder."""

    node: str
    device: str
    state: State
    code: str = ""
    sentence: str = ""
    folder: str | None = None
    device_ids: tuple[str, ...] = ()
    exit_code: int | None = None
    seconds: float | None = None
    beside: int = 0  # slots of this node that were measured at the same time, at most
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def slot(self) -> tuple[str, str]:
        """Return what identifies the slot."""
        return self.node, self.device


@dataclass(frozen=True, slots=True)
class Expected:
    """A line of the expected-node list."""

    name: str
    gpus: int | None = None


def expected_in(path: Path) -> tuple[Expected, ...]:
    """Read the list of hosts that a fleet's report is also judged by.

    Raises ``RoofprobeError`` (``unreadable`` or ``bad-hosts``).
    """
    from roofprobe.acceptance.fleet.expected import read_expected

    found = tuple(Expected(name, gpus) for name, gpus in read_expected(path).items())
    for each in found:
        if each.gpus is not None and not 0 < each.gpus <= _MOST_GPUS:
            raise RoofprobeError(
                "bad-hosts", f"{path} says that {each.name} has {each.gpus} GPUs; say 1 or more"
            )
    return found


def nodes_of(table: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the nodes of Ray's table, each with a name of its own, the living ones first.

    The name is the one that the node was started with, or else its host's; where two share it the
    address, and then the start of Ray's own id, tell them apart. A dead node whose name a living
    one has was replaced by it.
    """
    rows = sorted(table, key=lambda row: (not row["Alive"], str(row["NodeID"])))
    called = [_called(row) for row in rows]
    often = Counter(name for name, row in zip(called, rows, strict=True) if row["Alive"])
    both = Counter(
        (name, row["NodeManagerAddress"])
        for name, row in zip(called, rows, strict=True)
        if row["Alive"]
    )
    found: dict[str, Node] = {}
    for name, row in zip(called, rows, strict=True):
        address = str(row["NodeManagerAddress"])
        if row["Alive"] and often[name] > 1:
            alone = both[name, address] == 1
            name = f"{name}-{address}" if alone else f"{name}-{str(row['NodeID'])[:8]}"
        found.setdefault(name, Node(
            node_id=str(row["NodeID"]), name=name, address=address,
            hostname=str(row.get("NodeManagerHostname") or address),
            gpus=int(row.get("Resources", {}).get("GPU", 0)) if row["Alive"] else 0,
            alive=bool(row["Alive"]), death=str(row.get("DeathReasonMessage") or ""),
        ))  # fmt: skip
    return tuple(found.values())


def _called(row: Mapping[str, Any]) -> str:
    own = str(row.get("NodeName") or "")
    return own if own and own != row["NodeManagerAddress"] else str(row["NodeManagerHostname"])


def absent(
    nodes: Sequence[Node],
    devices: Mapping[str, Sequence[str]],
    expected: Sequence[Expected],
    remembered: Mapping[str, Sequence[str]],
) -> tuple[Outcome, ...]:
    """Return an ``unknown`` for each slot that should be there and is not.

    ``devices`` are those of the living nodes that will be measured, ``remembered`` those of an
    earlier run into this folder. Without an expected-node list every dead node is told of; with one
    only those that it names, since a cluster that grows and shrinks has many.
    """
    found: list[Outcome] = []
    told: set[str] = set()
    for each in expected:
        matching = [node for node in nodes if node.is_called(each.name)]
        living = [node for node in matching if node.alive]
        told |= {node.name for node in matching}
        if not living:
            name = matching[0].name if matching else each.name
            told.add(name)
            numbered = tuple(str(number) for number in range(each.gpus)) if each.gpus else ()
            which = tuple(remembered.get(name, numbered)) or (EVERY,)
            found += _gone(name, which, matching[0] if matching else None, "it is expected")
            continue
        for node in living:
            found += _short(node, len(devices.get(node.name, ())), each.gpus)
    alive = {node.name for node in nodes if node.alive}
    dead = {node.name: node for node in nodes if not node.alive}
    for name, known in remembered.items():
        if name not in alive | told:
            told.add(name)
            found += _gone(name, known, dead.get(name), "it was there when this fleet run began")
    for name, node in dead.items():
        if not expected and name not in told:
            found += _gone(name, (EVERY,), node, "")
    return tuple(found)


def _gone(name: str, which: Sequence[str], dead: Node | None, why: str) -> list[Outcome]:
    if dead is not None:
        told = f": {dead.death.rstrip('. ')}" if dead.death else ""
        code, sentence = "node-dead", f"node {name} is dead{told}"
    else:
        code, sentence = "node-missing", f"node {name} is not in the cluster, but {why}"
    return [Outcome(name, device, "unknown", code, sentence) for device in which]


def _short(node: Node, has: int, wanted: int | None) -> list[Outcome]:
    """Return what a living node has less of than is expected."""
    missing = max((wanted or 1) - has, 0)
    if not missing:
        return []
    sentence = f"Ray has {has} GPUs on node {node.name} and {wanted or 'at least 1'} are expected"
    return [
        Outcome(node.name, f"missing-{number}", "unknown", "gpu-missing", sentence)
        for number in range(1, missing + 1)
    ]


def twice(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Return as ``unknown`` each slot whose GPU another slot of the node had measured already."""
    seen: dict[tuple[str, str], str] = {}
    found = []
    for each in outcomes:
        for device_id in each.device_ids:
            first = seen.setdefault((each.node, device_id), each.device)
            if first != each.device and device_id != CPU:
                found.append(replace(
                    each, state="unknown", code="measured-twice",
                    sentence=f"it is the GPU of slot {first}, {device_id}; another was missed",
                ))  # fmt: skip
    return tuple(found)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return 0 where all finished, 1 where a verdict failed, 3 where something is unknown."""
    states = {each.state for each in outcomes}
    if "failed" in states:
        return 1
    return 3 if "unknown" in states or not states else 0
