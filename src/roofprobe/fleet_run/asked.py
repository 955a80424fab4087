"""What a fleet run was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from roofprobe.fleet_run.slots import CPU, Expected, Node

LIMITS_S: Final = {"quick": 600.0, "standard": 1800.0, "soak": 6 * 3600.0}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a fleet run was asked for. ``arguments`` are those of ``probe`` on each slot."""

    arguments: tuple[str, ...]
    device: str = "auto"
    address: str | None = None
    install: bool = True
    expected: tuple[Expected, ...] = ()
    per_node: int | None = None
    limit_s: float = LIMITS_S["standard"]

    def options(self) -> dict[str, Any]:
        """Return what has to stay the same when the run is resumed."""
        return {
            "arguments": list(self.arguments), "device": self.device, "per_node": self.per_node
        }  # fmt: skip

    def devices(self, nodes: Sequence[Node]) -> dict[str, list[str]]:
        """Return the slots of each living node that has some.

        They are its GPUs; where no node has one and processors are asked for, its processor.
        """
        found = {
            node.name: [str(number) for number in range(node.gpus)]
            for node in nodes
            if node.alive and node.gpus
        }
        if found or self.device != CPU:
            return found
        return {node.name: [CPU] for node in nodes if node.alive}
