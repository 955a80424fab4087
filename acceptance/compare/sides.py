"""The two sides of a comparison: which runs, and which device is held against which.

A side is a run folder, a ``run.json``, or a folder of runs, of which all are taken. Devices pair by
their stable id (a GPU's UUID) where both sides have it; else by kind and index, and then all runs
of a side on devices of that kind and index are pooled; else, marked as different devices, in
the order of their index. A kind is the catalogue's row or, for what has none, the name. A
processor's id is ``cpu`` on every host and identifies nothing: it is the same device where host and
kind are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from roofprobe.acceptance.compare.comparison import DevicePair, Pairing, Remark
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import LATEST, is_run_folder, read_run
from roofprobe.records.schema import Device, Run

Place = tuple[Run, Device]


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of one side, in the order of their start, and what was left out."""

    path: Path
    runs: tuple[Run, ...]
    warnings: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Where one row may come from on both sides: places (run and device) of A and of B."""

    a: tuple[Place, ...]
    b: tuple[Place, ...]
    record: DevicePair
    peers_a: dict[str, str] = field(default_factory=dict)
    peers_b: dict[str, str] = field(default_factory=dict)


def read_side(path: Path, letter: str, read: Callable[[Path], Run] = read_run) -> Runs:
    """Read all runs at ``path``; raises ``RoofprobeError`` where there is none to read.

    In a folder of runs, one that cannot be read is left out with a warning.
    """
    try:
        return _read_side(path, letter, read)
    except OSError as error:
        raise RoofprobeError("unreadable", f"cannot read {path} ({error.strerror})") from error


def _read_side(path: Path, letter: str, read: Callable[[Path], Run]) -> Runs:
    if not path.is_dir() or is_run_folder(path):
        return Runs(path, (read(path),))
    runs: dict[str, Run] = {}
    warnings = []
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        if folder.name == LATEST or not is_run_folder(folder):
            continue
        try:
            run = read(folder)
        except RoofprobeError as error:
            warnings.append(
                Remark(code="left-out", sentence=f"a run of {letter} is left out: {error.sentence}")
            )
            continue
        runs.setdefault(run.run_id, run)
    if not runs:
        if warnings:
            raise RoofprobeError("not-a-run", f"no run in {path} can be read; name a run folder")
        return Runs(path, (read(path),))
    ordered = sorted(runs.values(), key=lambda run: (run.started_at, run.run_id))
    return Runs(path, tuple(ordered), tuple(warnings))


def kind_of(device: Device) -> str:
    """Return what makes devices alike: the catalogue's row, else the name."""
    return device.catalogue_key or device.name


def pair_devices(a: Sequence[Run], b: Sequence[Run]) -> tuple[Pair, ...]:
    """Return pairs of devices, those on both sides first; one without partner stands alone."""
    left, right = list(_places(a)), list(_places(b))
    pairs: list[Pair] = []
    for pairing, parts in _PAIRINGS:
        groups_a, groups_b = _grouped(left, parts), _grouped(right, parts)
        common = [name for name in groups_a if name in groups_b]
        if pairing == "different-devices":
            groups_a = {name: _newest_kind(groups_a[name]) for name in common}
            groups_b = {name: _newest_kind(groups_b[name]) for name in common}
        for name in common:
            pairs.append(_pair(groups_a[name], groups_b[name], pairing))
        taken = {id(place) for name in common for place in (*groups_a[name], *groups_b[name])}
        left = [place for place in left if id(place) not in taken]
        right = [place for place in right if id(place) not in taken]
    for places, is_left in ((left, True), (right, False)):
        for group in _grouped(places, _PAIRINGS[0][1]).values():
            pairs.append(_pair(group if is_left else (), () if is_left else group, "unpaired"))
    peers_a = {d: str(n) for n, pair in enumerate(pairs) for d in pair.record.a}
    peers_b = {d: str(n) for n, pair in enumerate(pairs) for d in pair.record.b}
    return tuple(Pair(pair.a, pair.b, pair.record, peers_a, peers_b) for pair in pairs)


def _places(runs: Sequence[Run]) -> Iterator[Place]:
    for run in runs:
        known = {device.device_id for device in run.devices}
        for device in run.devices:
            yield run, device
        # a measurement may name a device that the run does not list
        for device_id in dict.fromkeys(m.device_id for m in run.measurements):
            if device_id not in known:
                backend = "cpu" if device_id == "cpu" else "unknown"
                yield run, Device(device_id=device_id, torch_device=device_id, backend=backend,
                                  name=device_id)  # fmt: skip


# How devices are paired, the surest first, and by what.
_PAIRINGS: tuple[tuple[Pairing, tuple[str, ...]], ...] = (
    ("same-device", ("id", "kind")),
    ("same-kind-and-index", ("kind", "index")),
    ("different-devices", ("backend", "index")),
)


def _grouped(places: Sequence[Place], parts: tuple[str, ...]) -> dict[tuple[str, ...], list[Place]]:
    groups: dict[tuple[str, ...], list[Place]] = {}
    for place in places:
        run, device = place
        values = {
            "id": _identity(run, device),
            "kind": kind_of(device),
            "backend": "cpu" if device.backend == "cpu" else "gpu",
            "index": str(device.index),
        }
        groups.setdefault(tuple(values[part] for part in parts), []).append(place)
    return groups


def _identity(run: Run, device: Device) -> str:
    if device.backend == "cpu":
        return f"{device.device_id} of {run.environment.host}"
    return device.device_id


def _newest_kind(places: list[Place]) -> list[Place]:
    """Return the places of the kind that was seen last: different kinds are never pooled."""
    kind = kind_of(places[-1][1])
    return [place for place in places if kind_of(place[1]) == kind]


def _pair(a: Sequence[Place], b: Sequence[Place], pairing: Pairing) -> Pair:
    some = (a or b)[0][1]
    name_a = a[0][1].name if a else None
    name_b = b[0][1].name if b else None
    sentence = {
        "same-device": "the same processor by host and name"
        if some.backend == "cpu"
        else "the same device by its id",
        "same-kind-and-index": "processors of the same name of different hosts"
        if some.backend == "cpu"
        else f"devices of one kind with index {some.index}; other ids",
        "different-devices": f"different devices: {name_a} in A, {name_b} in B",
        "unpaired": f"only in {'A' if a else 'B'}",
    }[pairing]
    return Pair(
        tuple(a),
        tuple(b),
        DevicePair(
            a=tuple(dict.fromkeys(device.device_id for _, device in a)),
            b=tuple(dict.fromkeys(device.device_id for _, device in b)),
            name_a=name_a,
            name_b=name_b,
            backend=some.backend,
            pairing=pairing,
            sentence=sentence,
        ),
    )
