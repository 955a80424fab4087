"""Which CPUs and memory lie beside a GPU: the host's NUMA nodes as the system lists them.

A server with two processors has two memories. A GPU hangs on one of the processors, and what it
copies from the other's memory crosses the link between them, which may be the narrower one (12
against 4 GB/s were published for the same card). ``places`` names what can be compared: memory near
the GPU and far from it; a host with one node has only near. Nodes without CPUs (memory expanders,
a superchip's GPU memory) are no place for a thread to touch memory from, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roofprobe.kernels.host_memory import ANYWHERE, Place

NODES: Final = Path("/sys/devices/system/node")
PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
NUMA_MAPS: Final = Path("/proc/self/numa_maps")


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node with CPUs; ``distances`` go to the other nodes by number, 10 being itself."""

    number: int
    cpus: frozenset[int]
    distances: Mapping[int, int]


def nodes(root: Path = NODES) -> tuple[Node, ...]:
    """Return the nodes that have CPUs, by number; empty where the system lists none."""
    paths = {int(path.name[4:]): path for path in root.glob("node[0-9]*")}
    found = []
    for number, path in sorted(paths.items()):
        cpus = cpu_list(_read(path / "cpulist"))
        if cpus:
            # The file has one distance per node that there is, in the order of their numbers.
            listed = [int(word) for word in _read(path / "distance").split() if word.isdigit()]
            distances = dict(zip(sorted(paths), listed, strict=False))
            found.append(Node(number, cpus, distances))
    return tuple(found)


def node_of(pci_bus_id: str | None, root: Path = PCI_DEVICES) -> int | None:
    """Return the node that a PCI device hangs on; None where it is unknown (a virtual machine)."""
    name = _sysfs_name(pci_bus_id or "")
    text = _read(root / name / "numa_node").strip() if name else ""
    return int(text) if text.isdigit() else None


def places(found: tuple[Node, ...], device_node: int | None) -> tuple[Place, ...]:
    """Return where host memory for a device can lie: near, and far where there is such a place.

    Far is the node at the greatest distance. Where the device's own node is unknown, nothing can
    be told apart, and the system chooses; a host with one node is near whatever it says.
    """
    if len(found) == 1:
        return (Place("near", found[0].number, found[0].cpus),)
    near = next((node for node in found if node.number == device_node), None)
    if near is None:
        return (ANYWHERE,)
    others = [node for node in found if node is not near]
    far = max(others, key=lambda node: near.distances.get(node.number, 0))
    return (Place("near", near.number, near.cpus), Place("far", far.number, far.cpus))


def pages_on(address: int, maps: Path = NUMA_MAPS) -> dict[int, int]:
    """Return how many pages of the mapping that has ``address`` lie on which node.

    Neighbours that were mapped alike are one mapping to the system, which counts them together.
    Empty where the system does not tell.
    """
    lines = [line.split() for line in _read(maps).splitlines() if line.strip()]
    mapping = max((line for line in lines if int(line[0], 16) <= address), key=_start, default=[])
    counts = (re.fullmatch(r"N(\d+)=(\d+)", word) for word in mapping[1:])
    return {int(count[1]): int(count[2]) for count in counts if count}


def _start(words: list[str]) -> int:
    return int(words[0], 16)


def cpu_list(text: str) -> frozenset[int]:
    """Return the CPUs of a list as the kernel writes it: ``0-3,8,10-11``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _sysfs_name(pci_bus_id: str) -> str | None:
    """Return a bus id as sysfs writes it: NVML has eight digits of domain, sysfs four or more."""
    parts = re.fullmatch(r"(?:([0-9a-f]+):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", pci_bus_id, re.I)
    if parts is None:
        return None
    domain = int(parts[1] or "0", 16)
    return f"{domain:04x}:{parts[2]}:{parts[3]}.{parts[4]}".lower()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
