"""A fleet that does not exist: run folders of N hosts with M GPUs, with faults that are known.

It serves to try ``probe fleet`` out, to test the verdict (what it finds is held against what was
planted) and to time it at sizes that nobody has at hand. Every record says in `Run.simulated` that
nothing in it was measured, and every host's name begins with ``sim-``. The parts:
`simulate_nominal` (what a device would reach), `simulate_noise` (how far healthy devices lie
apart, with sources), `simulate_faults` (what can be wrong), `simulate_records` (JSON).

    OUT/runs/<time>-<host>/run.json     one per host and run
    OUT/truth.json                      the faults, and the devices that they concern
    OUT/hosts.txt                       the hosts that should be there: ``host gpus`` per line
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from roofprobe.acceptance.fleet.simulate_faults import PlantedFault, Truth, Wanted, fault_of
from roofprobe.acceptance.fleet.simulate_noise import Array, Boards, Noise
from roofprobe.acceptance.fleet.simulate_nominal import Nominal, nominals
from roofprobe.acceptance.fleet.simulate_records import Template, device_json, template_of
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import METHOD_VERSION, SCHEMA_VERSION

SKU: Final = "nvidia_h100_sxm5_80gb"
SENTENCE: Final = (
    "simulated by roofprobe: datasheet figures times a supposed share and random noise, with "
    "planted faults; no figure in this record was measured"
)
DRIVER, NEXT_DRIVER = "580.65.06", "585.10.01"
_OTHER_BOARD: Final = "10de:0001"  # where the catalogue knows one board only
_FIRST_RUN: Final = datetime(2026, 1, 5, tzinfo=UTC)
_BETWEEN_RUNS: Final = timedelta(days=30)
_RACK_HOTTER: Final = 0.15


@dataclass(slots=True)
class _Plan:
    """The drawn faults as arrays by host or by board (host × GPUs + position)."""

    factors: Array  # (boards, metrics): logarithms, better is positive
    per_run: Array  # the same, times the number of the run
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


def simulate(
    out: str | Path,
    *,
    hosts: int,
    gpus: int = 8,
    seed: int = 0,
    faults: Sequence[str] = (),
    runs: int = 1,
    sku: str = SKU,
    noise: Noise | None = None,
) -> Truth:
    """Write the runs of a fleet below ``out`` and return what is true of it.

    Runs of one host lie a month apart. Raises ``RoofprobeError`` (``bad-fault``, ``unknown-sku``).
    """
    kind = _row(sku)
    numbers = nominals(kind, linked=gpus > 1)
    plan = _draw([fault_of(text) for text in faults], hosts, gpus, numbers, seed)
    boards = Boards(hosts, gpus, numbers, noise or Noise(), seed)
    writer = _Writer(Path(out), kind, numbers, template_of(numbers), plan, hosts, gpus, runs, seed)
    for number in range(runs):
        writer.write_run(number, boards.run(number, seed))
    truth = Truth(
        sentence=SENTENCE, seed=seed, hosts=hosts, gpus=gpus, runs=runs, sku=sku, driver=DRIVER,
        faults=tuple(plan.faults),
        flawed=tuple(device_id(seed, *divmod(board, gpus)) for board in sorted(plan.flawed)),
        files=writer.files, bytes=writer.bytes, metrics_per_device=len(numbers),
    )  # fmt: skip
    (Path(out) / "truth.json").write_text(truth.model_dump_json(indent=1) + "\n")
    expected = "".join(f"{host_name(host)} {gpus}\n" for host in range(hosts))
    (Path(out) / "hosts.txt").write_text(expected)
    return truth


def host_name(host: int) -> str:
    """Return the name of a simulated host."""
    return f"sim-{host:05}"


def device_id(seed: int, host: int, position: int) -> str:
    """Return the UUID of a board, the same for the same seed."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"roofprobe-simulated/{seed}/{host}/{position}")
    return f"GPU-{made}"


def _row(key: str) -> Accelerator:
    try:
        return load()[key]
    except KeyError as error:
        raise RoofprobeError(
            "unknown-sku", f"the catalogue has no {key!r}; see probe peaks for its keys"
        ) from error


def _draw(
    wanted: Sequence[Wanted], hosts: int, gpus: int, numbers: tuple[Nominal, ...], seed: int
) -> _Plan:
    """Draw what each fault concerns; no host or device has two."""
    generator = np.random.default_rng([seed, 0])
    shape = hosts * gpus, len(numbers)
    plan = _Plan(np.zeros(shape), np.zeros(shape), np.zeros(shape))
    free = [int(host) for host in generator.permutation(hosts)]
    for each in wanted:
        _plant(plan, each, free, gpus, hosts, numbers, generator, seed)
    return plan


def _plant(
    plan: _Plan, fault: Wanted, free: list[int], gpus: int, hosts: int,
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
    plan: _Plan, fault: Wanted, hosts: list[int], boards: list[int], numbers: tuple[Nominal, ...],
    where: Any, gpus: int, generator: np.random.Generator, free: list[int],
) -> None:  # fmt: skip
    match fault.kind:
        case "slow-gpu":
            touched = where(fault.detail or "all")
            if not touched.any():
                raise RoofprobeError("bad-fault", f"no figure of a GPU is of {fault.detail!r}")
            plan.factors[boards] += touched
            plan.flawed |= set(boards)
        case "wrong-sku":
            other = _row(fault.detail or SKU)
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


class _Writer:
    """Writes hosts' files, run by run."""

    def __init__(
        self, out: Path, kind: Accelerator, numbers: tuple[Nominal, ...], template: Template,
        plan: _Plan, hosts: int, gpus: int, runs: int, seed: int,
    ) -> None:  # fmt: skip
        self._folder = out / "runs"
        self._kind, self._template, self._plan = kind, template, plan
        self._hosts, self._gpus, self._runs, self._seed = hosts, gpus, runs, seed
        self._nominal = np.array([number.value for number in numbers])
        self._signs = np.array([1.0 if n.better == "higher" else -1.0 for n in numbers])
        self._boards = kind.pci_subsystem_ids or ("10de:0000",)
        self.files = self.bytes = 0

    def write_run(self, number: int, logarithms: Array) -> None:
        plan = self._plan
        better = logarithms + plan.factors + plan.per_run * number
        updated = number >= (self._runs + 1) // 2
        if updated:
            better += plan.after_update
        figures = self._nominal * np.exp(self._signs * better)
        for host in range(self._hosts):
            if host in plan.missing:
                continue
            last = number == self._runs - 1
            new_driver = host in plan.updated and updated
            text = self._run(host, number, figures, last, NEXT_DRIVER if new_driver else DRIVER)
            if last and host in plan.truncated:
                text = text[: len(text) * 2 // 3]
            self._write(host, number, text)
            if last and host in plan.twice:
                self._write(host, number, text, "-again")

    def _write(self, host: int, number: int, text: str, suffix: str = "") -> None:
        folder = self._folder / f"{_stamp(host, number)}-{host_name(host)}{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        (folder / "run.json").write_bytes(data)
        self.files += 1
        self.bytes += len(data)

    def _run(self, host: int, number: int, figures: Array, last: bool, driver: str) -> str:
        plan = self._plan
        ids = [self._id(host, position) for position in range(self._gpus)]
        places = [at for at in range(self._gpus) if not (last and plan.one_gone.get(host) == at)]
        devices, headlines, measurements = [], [], []
        for at in places:
            board = host * self._gpus + at
            claimed = load()[plan.figures_of.get(board, self._kind.key)]
            devices.append(
                device_json(
                    self._kind, device_id=ids[at], index=at, driver=driver,
                    subsystem=self._subsystem(board), max_clock_mhz=claimed.boost_clock_mhz,
                )
            )  # fmt: skip
            filled = self._template.fill(figures[board], ids[at], ids[(at + 1) % self._gpus])
            headlines.append(filled[0])
            measurements.append(filled[1])
        bad = [ids[at] for at in places if host * self._gpus + at in plan.failed]
        head = self._head(host, number, last, [ids[at] for at in places], bad)
        return (
            f'{head[:-1]}, "devices": [{", ".join(devices)}], '
            f'"headlines": [{", ".join(headlines)}], '
            f'"measurements": [{", ".join(measurements)}]}}\n'
        )

    def _id(self, host: int, position: int) -> str:
        board = host * self._gpus + position
        board = self._plan.same_uuid.get(board, board)
        return device_id(self._seed, *divmod(board, self._gpus))

    def _subsystem(self, board: int) -> str:
        if board not in self._plan.other_board:
            return self._boards[0]
        return self._boards[1] if len(self._boards) > 1 else _OTHER_BOARD

    def _head(self, host: int, number: int, last: bool, ids: list[str], bad: list[str]) -> str:
        """Return what stands before the devices: who, when, and the run's own verdict."""
        started = _started(host, number)
        cut = last and host in self._plan.incomplete
        findings = [
            {
                "code": "RP-WRONG-RESULT", "judgement": "fail", "layer": "integrity",
                "device_id": each, "sentence": "simulated: a result differs from its reference",
            }
            for each in bad
        ]  # fmt: skip
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "method_version": METHOD_VERSION,
                "run_id": f"{_stamp(host, number)}-{host_name(host)}",
                "status": "incomplete" if cut else "complete",
                "started_at": started.isoformat(),
                "finished_at": (started + timedelta(minutes=8)).isoformat(),
                "command": ["probe", "fleet", "simulate"],
                "options": {"families": ["compute", "memory", "latency", "launch"]},
                "environment": {
                    "host": host_name(host), "os": "simulated", "kernel": "simulated",
                    "python": "3.12.0", "roofprobe": "0.1.0",
                },
                "simulated": SENTENCE,
                "verdict": {
                    "judgement": "fail" if bad else "pass",
                    "devices": {each: "fail" if each in bad else "pass" for each in ids},
                    "host": "pass",
                    "findings": findings,
                },
            }
        )  # fmt: skip


def _started(host: int, number: int) -> datetime:
    return _FIRST_RUN + _BETWEEN_RUNS * number + timedelta(seconds=37 * host % 36_000)


def _stamp(host: int, number: int) -> str:
    return _started(host, number).strftime("%Y%m%dT%H%M%SZ")
