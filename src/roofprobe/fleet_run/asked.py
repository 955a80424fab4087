"""What a fleet run was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.fleet_run.slots import CPU, Expected, Node
from roofprobe.records.schema import METHOD_VERSION

LIMITS_S: Final = {"quick": 600.0, "standard": 1800.0, "soak": 6 * 3600.0}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a fleet run was asked for; ``precisions`` is empty for all of them."""

    family: str = "all"
    tier: str = "standard"
    precisions: tuple[str, ...] = ()
    seed: int = 0
    time_budget_s: float | None = None
    device: str = "auto"
    address: str | None = None
    install: bool = True
    expected: tuple[Expected, ...] = ()
    per_node: int | None = None
    limit_s: float = LIMITS_S["standard"]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the arguments of ``probe`` on each slot, but for its device."""
        found = [self.family, "--tier", self.tier, "--seed", str(self.seed)]
        found += ["--precision", ",".join(self.precisions)] if self.precisions else []
        budget_s = self.time_budget_s
        found += ["--time-budget", f"{budget_s:.12g}s"] if budget_s is not None else []
        return tuple(found)

    @property
    def on_slot(self) -> str:
        """Return ``--device`` on a slot: the GPU that Ray lets it see, of NVIDIA or of AMD."""
        return "cuda" if self.device == "auto" else self.device

    def figures(self) -> dict[str, str | None]:
        """Return what the figures depend on, by how it is asked for; None where it was not.

        It has to stay the same when a fleet run is resumed. What decides only when, where from and
        how many slots are measured may change: time-outs, the address, the expected nodes. A time
        budget leaves cases out and changes none, so that a resumed run may be given more, as
        ``probe all --resume`` may.
        """
        return {
            "family": self.family,
            "--tier": self.tier,
            "--precision": ",".join(sorted(self.precisions)) or None,
            "--seed": str(self.seed),
            "--device": self.on_slot,
            "--per-node": None if self.per_node is None else str(self.per_node),
            "method version": str(METHOD_VERSION),
        }

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
