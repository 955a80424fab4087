"""The main flow of ``probe fleet run``: join, look, compare with what is expected, measure, tell.

Results are on this disk, and in the journal, before the next one is waited for; what is lost
otherwise (a node, a worker, this process) ends as ``unknown`` and is repeated by ``--resume``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from roofprobe.fleet_run import archive, journal, remote, versions
from roofprobe.fleet_run.asked import Asked
from roofprobe.fleet_run.cluster import Cluster, Lost, joined
from roofprobe.fleet_run.replies import judged, order, title, visible_devices
from roofprobe.fleet_run.slots import Node, Outcome, absent, exit_code, twice
from roofprobe.interrupting import deaf_to_interrupts, terminations_as_interrupts
from roofprobe.records import runfolder
from roofprobe.records.errors import RoofprobeError

MAX_ARCHIVE_BYTES: Final = 64 << 20
_SETUP_S: Final = 900.0  # Ray installs roofprobe on the nodes meanwhile
_GATHER_S: Final = 60.0
_GRACE_S: Final = 90.0  # to end a probe, pack its run and bring it here
_TIDY_S: Final = 15.0
_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class FleetRun:
    """What a fleet run came to: every slot's outcome, and what else is to be said."""

    out: Path
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    interrupted: bool
    concurrency: Mapping[str, int]
    repeated: int  # slots that had a result from before and were not measured again

    @property
    def exit_code(self) -> int:
        """Return 0 all finished, 1 a failed verdict, 3 something unknown."""
        return exit_code(self.outcomes)


@dataclass(slots=True)
class _Host:
    """A node that is measured: what is wanted of it, what came, what was lost."""

    node: Node
    devices: list[str]
    done: list[str]
    losses: list[Lost] = field(default_factory=list)
    idle: int = 0
    reported: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> list[str]:
        return [device for device in self.devices if device not in self.done]


Say = Callable[[str], None]


def fleet_run(asked: Asked, out: Path, *, resume: bool, say: Say) -> FleetRun:
    """Measure every slot of the cluster into ``out``; ``say`` is told how it goes.

    Raises ``RoofprobeError`` for what the user can mend before anything is measured.
    """
    made = runfolder.prepare_out(out)
    with runfolder.locked(out, made), terminations_as_interrupts():
        written, past = journal.begin(out, asked.figures(), resume)
        try:
            with joined(asked.address, out, asked.install) as cluster, terminations_as_interrupts():
                return _Flow(asked, out, written, past, cluster, say).run()
        finally:
            written.close()


class _Flow:
    """One fleet run on a cluster that was joined."""

    def __init__(
        self, asked: Asked, out: Path, written: journal.Journal, past: journal.Past,
        cluster: Cluster, say: Say,
    ) -> None:  # fmt: skip
        self._asked, self._out, self._journal, self._past = asked, out, written, past
        self._cluster, self._say = cluster, say
        self._outcomes = {
            slot: each for slot, each in past.outcomes.items() if each.state != "unknown"
        }
        self._kept = len(self._outcomes)
        self._notes = list(versions.since(self._outcomes.values()))
        self._hosts: dict[str, _Host] = {}
        self._pending: dict[Any, tuple[_Host, float]] = {}
        self._beside: dict[str, int] = {}

    def run(self) -> FleetRun:
        nodes = self._cluster.nodes()
        devices = self._asked.devices(nodes)
        present = [node for node in nodes if node.alive and node.name in devices]
        if not present and not self._asked.expected and not self._past.nodes:
            raise RoofprobeError(
                "no-gpu",
                f"no node of this cluster ({len(nodes)}) has a GPU that Ray hands out; with "
                "--device cpu the nodes' processors are measured",
            )
        remembered = {name: list(which) for name, which in self._past.nodes.items()}
        interrupted = False
        try:
            self._look(present, devices)
            self._send()
            self._collect()
        except KeyboardInterrupt:
            interrupted = True
        except RoofprobeError:  # such as a full disk here: nobody would take what probes bring
            self._stop()
            raise
        with deaf_to_interrupts():
            self._end(interrupted)
            for each in absent(nodes, devices, self._asked.expected, remembered):
                if each.slot not in self._outcomes:
                    self._settle(each)
            for each in twice(tuple(self._outcomes.values())):
                self._settle(each)
            found = FleetRun(
                out=self._out, outcomes=tuple(sorted(self._outcomes.values(), key=order)),
                notes=tuple(self._notes), interrupted=interrupted, concurrency=dict(self._beside),
                repeated=self._kept,
            )  # fmt: skip
            self._journal.write(
                "end", interrupted=interrupted, counts=journal.counted(found.outcomes),
                notes=self._notes,
            )  # fmt: skip
        return found

    def _look(self, present: Sequence[Node], devices: Mapping[str, list[str]]) -> None:
        """Install on every node and ask each for its versions; a difference ends the run here."""
        for node in present:
            known = self._past.nodes.get(node.name, [])
            which = known if len(known) == len(devices[node.name]) else devices[node.name]
            host = _Host(node, which, self._past.done(node.name))
            self._hosts[node.name] = host
        wanted = [host for host in self._hosts.values() if host.wanted]
        self._say(
            f"slots to measure: {sum(len(host.wanted) for host in wanted)}, nodes: {len(wanted)}"
            + (f", with a result already: {self._kept}" if self._kept else "")
        )
        looks = {
            self._cluster.send(remote.look, host.node, self._config(host), 0): host
            for host in wanted
        }
        told: dict[str, Mapping[str, Any]] = {}
        until = time.monotonic() + _SETUP_S
        while looks and time.monotonic() < until:
            for reference in self._cluster.ready(list(looks), _WAIT_S):
                host, found = looks.pop(reference), self._cluster.result(reference)
                if isinstance(found, Lost):
                    self._lose(host, found, len(host.wanted))
                    continue
                told[host.node.name] = found
                host.devices = visible_devices(host.devices, found["visible"])
                host.versions = {key: str(found[key]) for key in ("python", "ray", "roofprobe")}
        for reference, host in looks.items():
            late = Lost("setup-late", f"its node was not ready within {_SETUP_S / 60:.0f} minutes")
            self._lose(host, late, len(host.wanted))
            self._cluster.cancel([reference])
        self._notes += versions.compared(versions.mine(self._cluster.version), told)
        for name in told:
            host = self._hosts[name]
            self._journal.write(
                "node", node=name, node_id=host.node.node_id, devices=host.devices, **told[name]
            )

    def _config(self, host: _Host) -> dict[str, Any]:
        count = len(host.devices)
        return {
            "token": self._past.token, "node": host.node.name, "node_id": host.node.node_id,
            "gpus": host.node.gpus, "tasks": count, "done": host.done, "gather_s": _GATHER_S,
            "per_node": min(self._asked.per_node or count, count),
            "arguments": [*self._asked.arguments, "--device", self._asked.on_slot, "--quiet"],
            "timeout_s": self._asked.limit_s, "max_bytes": MAX_ARCHIVE_BYTES,
        }  # fmt: skip

    def _send(self) -> None:
        """Send a task per GPU of each node, so that together they hold all of its GPUs.

        A GPU that has a result is held too until the others are, since Ray chooses which GPU a task
        gets.
        """
        for host in self._hosts.values():
            if not host.wanted or host.losses:
                continue
            config = self._config(host)
            rounds = math.ceil(len(host.wanted) / config["per_node"])
            until = (
                time.monotonic() + _GATHER_S + _GRACE_S + rounds * (self._asked.limit_s + _GRACE_S)
            )
            self._beside[host.node.name] = min(config["per_node"], len(host.wanted))
            self._journal.write(
                "sent",
                node=host.node.name,
                devices=host.wanted,
                beside=self._beside[host.node.name],
            )
            for _ in range(config["tasks"]):
                reference = self._cluster.send(
                    remote.measure, host.node, config, 1 if host.node.gpus else 0
                )
                self._pending[reference] = host, until

    def _collect(self) -> None:
        """Take results as they come, each to the disk and the journal before the next."""
        while self._pending:
            for reference in self._cluster.ready(list(self._pending), _WAIT_S):
                host, _ = self._pending.pop(reference)
                reply = self._cluster.result(reference)
                del reference  # so that Ray lets go of the archive
                if isinstance(reply, Lost):
                    self._lose(host, reply)
                elif reply.get("idle"):
                    host.idle += 1
                else:
                    host.reported.add(reply["device"])
                    self._settle(self._outcome(host, reply))
            now = time.monotonic()
            for reference, (host, until) in list(self._pending.items()):
                if now > until:
                    self._cluster.cancel([reference])
                    del self._pending[reference]
                    self._lose(host, Lost(
                        "no-answer", "it gave no answer in time: it hangs, or other work of the "
                        "cluster holds its GPU",
                    ))  # fmt: skip

    def _outcome(self, host: _Host, reply: Mapping[str, Any]) -> Outcome:
        """Bring a slot's run to this disk and say what became of it."""
        folder, told = None, archive.Told()
        state, code, sentence = judged(reply, self._asked.limit_s)
        if reply["archive"] is not None:
            try:
                placed = archive.place(reply["archive"], self._out, host.node.name)
            except RoofprobeError as error:
                if error.code != "bad-archive":
                    raise
                state, code, sentence = "unknown", error.code, error.sentence
            else:
                folder = str(placed.relative_to(self._out))
                told = archive.told_by(placed)
        if state != "unknown" and told.status != "complete":
            state, code, sentence = "unknown", "no-record", "the node sent no complete record"
        if reply.get("left_out"):
            self._notes.append(f"too large to send, from {folder}: {', '.join(reply['left_out'])}")
        return Outcome(
            node=host.node.name, device=reply["device"], state=state, code=code, sentence=sentence,
            folder=folder, device_ids=told.device_ids, exit_code=reply["exit_code"],
            seconds=round(reply["seconds"], 2), beside=self._beside[host.node.name],
            versions=host.versions,
        )  # fmt: skip

    def _settle(self, outcome: Outcome) -> None:
        self._journal.outcome(outcome)
        self._outcomes[outcome.slot] = outcome
        took = f" ({outcome.seconds:.0f} s)" if outcome.seconds is not None else ""
        why = f": {outcome.sentence}" if outcome.sentence else ""
        self._say(f"{outcome.node} {title(outcome.device)}: {outcome.state}{took}{why}")

    def _lose(self, host: _Host, loss: Lost, count: int = 1) -> None:
        host.losses += [loss] * count
        self._journal.write("lost", node=host.node.name, code=loss.code, sentence=loss.sentence)

    def _end(self, interrupted: bool) -> None:
        """Stop what still runs, clear the nodes, and call unknown what has no result."""
        self._stop()
        stopped = Lost("interrupted", "the fleet run was interrupted before it had a result")
        ungranted = Lost(
            "not-granted", "Ray did not hand out this GPU: other work of the cluster holds it"
        )
        for host in self._hosts.values():
            left = [device for device in host.wanted if device not in host.reported]
            causes = [*host.losses, *([stopped if interrupted else ungranted] * len(left))]
            for device, cause in zip(left, causes, strict=False):
                self._settle(Outcome(
                    host.node.name, device, "unknown", cause.code, cause.sentence,
                    beside=self._beside.get(host.node.name, 0),
                ))  # fmt: skip

    def _stop(self) -> None:
        if self._pending:
            with suppress(Exception):  # a cluster that died took its tasks along
                self._cluster.cancel(list(self._pending))
        self._clear_nodes()

    def _clear_nodes(self) -> None:
        """Kill what probes left behind on living nodes, and remove the files of this run there."""
        try:
            alive = {node.node_id for node in self._cluster.nodes() if node.alive}
            references = {
                self._cluster.send(remote.tidy, host.node, self._config(host), 0): host
                for host in self._hosts.values()
                if host.node.node_id in alive and host.wanted
            }
        except Exception:  # the cluster is gone, and its probes with their workers
            return
        until = time.monotonic() + _TIDY_S
        while references and time.monotonic() < until:
            for reference in self._cluster.ready(list(references), _WAIT_S):
                host, killed = references.pop(reference), self._cluster.result(reference)
                if isinstance(killed, int) and killed:
                    self._notes.append(f"{killed} processes were left on {host.node.name}; killed")
        self._notes += [
            f"node {host.node.name} did not answer at the end; see that no probe runs there"
            for host in references.values()
        ]
