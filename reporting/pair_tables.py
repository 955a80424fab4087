"""The matrix of pairs: what moves from each accelerator (row) to each other one (column).

One way in GB/s with the share of the links' peak, both ways at once (each pair once, above the
diagonal), and the time of a small message in microseconds. A pair without a figure is a dash, and
its reason is listed below. Of several sizes the best counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from roofprobe.records.pairs import pair_peak
from roofprobe.records.schema import Device, Measurement, PeerLink, Reason, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.merging import figureless, told_of_all
from roofprobe.reporting.naming import short_address
from roofprobe.reporting.plain_text import clean, listed, with_remedy
from roofprobe.reporting.small_table import SmallTable

_CORNER = "from, to"
_MOST_PAIRS = 6


@dataclass(frozen=True, slots=True)
class PairGrid:
    """One matrix as numbers: ``values`` by (row, column) of ``names``, each in ``unit``."""

    title: str
    names: tuple[str, ...]
    unit: str
    values: dict[tuple[int, int], float]
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class Pairs:
    """The matrices of one kind of accelerator, and what else is to be said about its pairs."""

    title: str
    tables: tuple[SmallTable, ...]
    grids: tuple[PairGrid, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Matrix:
    """One transfer's matrix: its title, what to see in it, and how a figure is written."""

    op: str
    title: str
    sentence: str
    figure: Callable[[Measurement, Run], str]
    value: Callable[[Measurement], float]  # the higher, the better
    both_ways: bool = False


def pair_tables(run: Run) -> tuple[Pairs, ...]:
    """Return the matrices of each kind of accelerator whose pairs were looked at."""
    made = []
    for backend in dict.fromkeys(device.backend for device in run.devices):
        devices = [device for device in run.devices if device.backend == backend]
        ids = {device.device_id for device in devices}
        found = [m for m in run.measurements if m.case.peer and m.device_id in ids]
        if found:
            made.append((backend, devices, found))
    return tuple(
        Pairs(
            f"Between devices ({clean(backend)})" if len(made) > 1 else "Between devices",
            tuple(_table(matrix, devices, found, run) for matrix in _MATRICES),
            tuple(_grid(matrix, devices, found) for matrix in _MATRICES),
            (*_absent(devices, found), *_links(devices, found)),
        )
        for backend, devices, found in made
    )


def _table(
    matrix: _Matrix, devices: Sequence[Device], found: Sequence[Measurement], run: Run
) -> SmallTable:
    best = _best(matrix, found)

    def cell(row: int, column: int) -> str:
        if row == column or (matrix.both_ways and column < row):
            return ""
        m = best.get((devices[row].device_id, devices[column].device_id))
        return matrix.figure(m, run) if m else numbers.UNKNOWN

    names = [short_address(device) for device in devices]
    sizes = sorted({m.array_bytes for m in best.values() if m.array_bytes})
    return SmallTable(
        matrix.title,
        " ".join(part for part in (matrix.sentence, _size_text(sizes), _peaks(best, run)) if part),
        (_CORNER, *names),
        tuple(
            (name, *(cell(row, column) for column in range(len(names))))
            for row, name in enumerate(names)
        ),
    )


def _best(matrix: _Matrix, found: Sequence[Measurement]) -> dict[tuple[str, str], Measurement]:
    """Return the best measurement of each ordered pair that has one."""
    best: dict[tuple[str, str], Measurement] = {}
    for m in found:
        if m.case.op == matrix.op and m.status == "ok" and m.case.peer:
            ends = (m.device_id, m.case.peer.device_id)
            if ends not in best or matrix.value(m) > matrix.value(best[ends]):
                best[ends] = m
    return best


def _grid(matrix: _Matrix, devices: Sequence[Device], found: Sequence[Measurement]) -> PairGrid:
    places = {device.device_id: number for number, device in enumerate(devices)}
    title, _, unit = matrix.title.rpartition(", ")
    return PairGrid(
        title,
        tuple(short_address(device) for device in devices),
        unit,
        {
            (places[source], places[target]): abs(matrix.value(m))
            for (source, target), m in _best(matrix, found).items()
            if target in places and matrix.value(m) not in (0.0, float("-inf"))
        },
        more_is_better=unit == "GB/s",
    )


def _size_text(sizes: Sequence[int]) -> str:
    if not sizes:
        return ""
    told = [numbers.capacity(size) for size in sizes]
    several = f"{told[0]} to {told[-1]}, the best of several" if len(told) > 1 else told[0]
    return f"Size: {several}."


def _peaks(best: dict[tuple[str, str], Measurement], run: Run) -> str:
    """Say what the shares are shares of."""
    peaks = dict.fromkeys(pair_peak(m, run.ceilings) for m in best.values())
    told = [
        f"{numbers.rate(peak.gbps, 'GB/s')} ({clean(peak.basis)})"
        for peak in peaks
        if peak is not None
    ]
    return f"Shares are of {'; '.join(told)}." if told else ""


def _rate_text(m: Measurement, run: Run) -> str:
    if m.rate is None:
        return numbers.UNKNOWN
    peak = pair_peak(m, run.ceilings)
    share = f" {numbers.share(m.rate.median / peak.gbps)}" if peak else ""
    return f"{numbers.digits(m.rate.median)}{share}"


def _latency_text(m: Measurement, run: Run) -> str:
    return numbers.digits(m.latency.median) if m.latency else numbers.UNKNOWN


def _absent(devices: Sequence[Device], found: Sequence[Measurement]) -> tuple[str, ...]:
    """Return why pairs have no figure: each reason once, with its pairs."""
    groups: dict[tuple[str, str, str], tuple[list[Reason], dict[str, None]]] = {}
    for m in found:
        if m.status != "ok":
            reason = m.reason or Reason(code="unknown", sentence="No reason was given.")
            key = (m.status, reason.code, figureless(reason.sentence))
            reasons, pairs = groups.setdefault(key, ([], {}))
            reasons.append(reason)
            pairs[_pair(devices, m)] = None
    return tuple(
        f"{listed(tuple(pairs), _MOST_PAIRS)}: {status}, "
        f"{clean(with_remedy(told_of_all([r.sentence for r in reasons]), reasons[0].remedy))} "
        f"[{clean(code)}]"
        for (status, code, _), (reasons, pairs) in groups.items()
    )


def _links(devices: Sequence[Device], found: Sequence[Measurement]) -> tuple[str, ...]:
    """Return what joins the devices, as the driver tells: each kind once, with its pairs."""
    groups: dict[str, dict[str, None]] = {}
    for m in found:
        if m.link is not None:
            groups.setdefault(_link_text(m.link), {})[_pair(devices, m)] = None
    every = {_pair(devices, m) for m in found if m.link is not None}

    def who(pairs: Iterable[str]) -> str:
        told = tuple(pairs)
        return "All measured pairs" if set(told) == every else listed(told, _MOST_PAIRS)

    return tuple(f"{who(pairs)}: {text}" for text, pairs in groups.items())


def _link_text(link: PeerLink) -> str:
    if link.kind is None:
        return clean(f"what joins them is not told: {link.missing.get('kind', 'no reason given')}")
    if link.kind == "pcie":
        return "no NVLink joins them, so copies cross PCIe"
    count = link.nvlink_count
    if count is None:
        return "joined by NVLink; how many links lead there is not told"
    way = " through a switch" if link.switched else ""
    speed = (
        f", {numbers.rate(link.nvlink_gbps, 'GB/s')} on the wire one way"
        if link.nvlink_gbps is not None
        else ""
    )
    return f"{count} of {link.nvlink_active} active NVLinks{way}{speed}"


def _pair(devices: Sequence[Device], m: Measurement) -> str:
    names = {device.device_id: short_address(device) for device in devices}
    assert m.case.peer is not None, m.case.case_id
    peer = names.get(m.case.peer.device_id, clean(m.case.peer.torch_device))
    return f"{names[m.device_id]} to {peer}"


_MATRICES = (
    _Matrix(
        "p2p",
        "One way, GB/s",
        "Each row sends, each column receives, nothing else runs.",
        _rate_text,
        lambda m: m.rate.median if m.rate else 0.0,
    ),
    _Matrix(
        "p2p-both",
        "Both ways at once, GB/s",
        "The sum of both directions; each pair once.",
        _rate_text,
        lambda m: m.rate.median if m.rate else 0.0,
        both_ways=True,
    ),
    _Matrix(
        "p2p-latency",
        "A small message, µs",
        "One copy in its stream, the start of the copy engine included.",
        _latency_text,
        lambda m: -m.latency.median if m.latency else float("-inf"),
    ),
)
