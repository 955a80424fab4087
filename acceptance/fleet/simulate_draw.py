"""Which device or host has which fault: drawn from the seed, told as arrays.

No device has two faults, and devices with faults of their own share no host with faults of a host.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from roofprobe.acceptance.fleet.simulate_faults import PlantedFault, Wanted
from roofprobe.acceptance.fleet.simulate_noise import Array
from roofprobe.acceptance.fleet.simulate_nominal import Nominal, nominals
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.records.errors import RoofprobeError

_RACK_HOTTER: Final = 0.15


@dataclass(slots=True)
class Plan:
    """The drawn faults by host or by board, which is host × GPUs + position.

    ``factors`` and the like are logarithms (boards, metrics), better is positive.
    """

    factors: Array
    per_run: Array  # times the number of the run
    after_update: Array
    figures_of: dict[int, str] = field(default_factory=dict)
    other_board: set[int] = field(default_factory=set)
    updated: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    one_gone: dict[int, int] = field(default_factory=dict)
    truncated: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    incomplete: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    same_uuid: dict[int, int] = field(default_factory=dict)
    faults: list[PlantedFault] = field(default_factory=list)
    flawed: set[int] = field(default_factory=set)


def host_name(host: int) -> str:
    """Return the name of a simulated host."""
    return f"sim-{host:05}"


def device_id(seed: int, host: int, position: int) -> str:
    """Return the UUID of a board, the same for the same seed."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"roofprobe-simulated/{seed}/{host}/{position}")
    return f"GPU-{made}"


def catalogue_row(key: str) -> Accelerator:
    """Return a row of the catalogue; raises ``RoofprobeError`` (``unknown-sku``)."""
    try:
        return load()[key]
    except KeyError as error:
        raise RoofprobeError(
            "unknown-sku", f"the catalogue has no {key!r}; see probe peaks for its keys"
        ) from error


def draw(
    wanted: Sequence[Wanted], hosts: int, gpus: int, numbers: tuple[Nominal, ...], seed: int
) -> Plan:
    """Draw what each fault concerns; no host or device has two."""
    generator = np.random.default_rng([seed, 0])
    shape = hosts * gpus, len(numbers)
    plan = Plan(np.zeros(shape), np.zeros(shape), np.zeros(shape))
    free = [int(host) for host in generator.permutation(hosts)]
    for each in wanted:
        _plant(plan, each, free, gpus, hosts, numbers, generator, seed)
    return plan


def _plant(
    plan: Plan, fault: Wanted, free: list[int], gpus: int, hosts: int,
    numbers: tuple[Nominal, ...], generator: np.random.Generator, seed: int,
) -> None:  # fmt: skip
    drop = float(np.log1p(-(fault.effect or 0.0)))

    def where(word: str) -> Array:
        return np.array([drop if n.touched_by(word) else 0.0 for n in numbers])

    chosen_hosts: list[int] = []
    boards: list[int] = []
    if fault.kind in ("slow-gpu", "wrong-sku", "drift", "own-fail"):
        # several may be on one host, but no host with another fault
        count = fault.of(hosts * gpus)
        per_host = max(1, min(2, gpus // 4)) if count > len(free) // 4 else 1
        while len(boards) < count:
            host = _next(free, fault)
            chosen_hosts.append(host)
            places = generator.permutation(gpus)[: min(per_host, count - len(boards))]
            boards += [host * gpus + int(place) for place in places]
    else:
        chosen_hosts = [_next(free, fault) for _ in range(fault.of(hosts))]
        boards = [host * gpus + at for host in chosen_hosts for at in range(gpus)]
    _apply(plan, fault, chosen_hosts, boards, numbers, where, gpus, generator, free)
    concerned = fault.kind in ("slow-gpu", "wrong-sku", "drift", "own-fail", "throttling-rack",
                               "variant", "driver-update")  # fmt: skip
    named = boards if concerned else []
    if fault.kind == "missing-gpu":
        named = [host * gpus + plan.one_gone[host] for host in chosen_hosts]
    plan.faults.append(
        PlantedFault(
            kind=fault.kind, effect=fault.effect, detail=fault.detail,
            hosts=tuple(host_name(host) for host in chosen_hosts),
            devices=tuple(device_id(seed, *divmod(board, gpus)) for board in named),
        )
    )  # fmt: skip


def _next(free: list[int], fault: Wanted) -> int:
    if not free:
        raise RoofprobeError(
            "bad-fault", f"the fleet is too small for so many faults ({fault.kind}); add hosts"
        )
    return free.pop()


def _apply(
    plan: Plan, fault: Wanted, hosts: list[int], boards: list[int], numbers: tuple[Nominal, ...],
    where: Callable[[str], Array], gpus: int, generator: np.random.Generator, free: list[int],
) -> None:  # fmt: skip
    match fault.kind:
        case "slow-gpu":
            touched = where(fault.detail or "all")
            if not touched.any():
                raise RoofprobeError("bad-fault", f"no figure of a GPU is of {fault.detail!r}")
            plan.factors[boards] += touched
            plan.flawed |= set(boards)
        case "wrong-sku":
            other = catalogue_row(fault.detail or "")
            ours = {(n.family, n.label, n.quantity): n.value for n in nominals(other, linked=True)}
            shift = [
                np.log(ours.get((n.family, n.label, n.quantity), n.value) / n.value)
                * (1 if n.better == "higher" else -1)
                for n in numbers
            ]
            plan.factors[boards] += np.array(shift)
            plan.figures_of |= dict.fromkeys(boards, other.key)
            plan.flawed |= set(boards)
        case "throttling-rack":
            heat = -np.log1p(_RACK_HOTTER)
            drop = where("all").min()
            plan.factors[boards] += np.array(
                [
                    drop if n.quantity in ("settled", "clock") and n.family == "compute"
                    else heat if n.quantity == "temperature" else 0.0
                    for n in numbers
                ]
            )  # fmt: skip
            plan.flawed |= set(boards)
        case "variant":
            plan.factors[boards] += where("compute")
            plan.other_board |= set(boards)
        case "drift":
            plan.per_run[boards] += where("compute")
            plan.flawed |= set(boards)
        case "driver-update":
            plan.after_update[boards] += where("compute")
            plan.updated |= set(hosts)
        case "missing-gpu":
            plan.one_gone |= {host: int(generator.integers(gpus)) for host in hosts}
        case "duplicate-uuid":
            plan.same_uuid |= {host * gpus: _next(free, fault) * gpus for host in hosts}
        case "own-fail":
            plan.failed |= set(boards)
        case "missing-host" | "truncated" | "duplicate" | "incomplete":
            places = {
                "missing-host": plan.missing, "truncated": plan.truncated,
                "duplicate": plan.twice, "incomplete": plan.incomplete,
            }  # fmt: skip
            places[fault.kind].update(hosts)
