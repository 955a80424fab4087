"""A fleet that does not exist: run folders of N hosts with M GPUs, with faults that are known.

It serves to try ``probe fleet`` out, to test the verdict (what it finds is held against what was
planted) and to time it at sizes that nobody has at hand. Every record says in `Run.simulated` that
nothing in it was measured, and every host's name begins with ``sim-``. The parts: `simulate_draw`
(who has which fault), `simulate_nominal` (what a device would reach), `simulate_noise` (how far
healthy devices lie apart, with sources), `simulate_faults` (what can be wrong) and
`simulate_records` (JSON).

    OUT/runs/<time>-<host>/run.json     one per host and run
    OUT/truth.json                      the faults, and the devices that they concern
    OUT/hosts.txt                       the hosts that should be there: ``host gpus`` per line
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from roofprobe.acceptance.fleet.simulate_draw import Plan, catalogue_row, device_id, draw, host_name
from roofprobe.acceptance.fleet.simulate_faults import Truth, fault_of
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

    Runs of one host lie a month apart. Raises ``RoofprobeError`` (``bad-fault``, ``unknown-sku``,
    ``used-folder`` where runs or a truth lie in ``out`` already).
    """
    _require_new(Path(out))
    kind = catalogue_row(sku)
    numbers = nominals(kind, linked=gpus > 1)
    plan = draw([fault_of(text) for text in faults], hosts, gpus, numbers, seed)
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


def _require_new(out: Path) -> None:
    """Raise where runs of another fleet would mix with these, or its truth would be lost."""
    runs = out / "runs"
    if (out / "truth.json").exists() or (runs.is_dir() and any(runs.iterdir())):
        raise RoofprobeError(
            "used-folder",
            f"{out} has the runs of a simulated fleet already, and two would be one; name another "
            "folder with --out, or remove this one",
        )


class _Writer:
    """Writes hosts' files, run by run."""

    def __init__(
        self, out: Path, kind: Accelerator, numbers: tuple[Nominal, ...], template: Template,
        plan: Plan, hosts: int, gpus: int, runs: int, seed: int,
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
