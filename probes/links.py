"""The host link: what moves between host memory and device, one way and both ways at once.

Each byte counts once per direction. Pinned memory near the GPU is what the link can do; pageable
memory is what a program gets that does not ask for better; far memory crosses the processors' own
link first. On a host without a GPU the copy within the host runs through the same code.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels import transfers
from roofprobe.kernels.host_memory import ANYWHERE, Place
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes import numa
from roofprobe.probes.session import Session
from roofprobe.probes.timers import Timer, for_copies
from roofprobe.records.schema import Case, Device, Options

FAMILY = "interconnect"
OPERATIONS = tuple(dict.fromkeys(row.op for row in transfers.ROWS))
_SIZE_BYTES = {"quick": 64 << 20, "standard": 256 << 20, "soak": 1 << 30}
_PLACES = ("near", "far")


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield each transfer from near memory, and the pinned ones from far memory."""
    size = _SIZE_BYTES[options.tier]
    for row in transfers.ROWS:
        far = row.host_memory == "pinned" and device.backend != "cpu"
        for place in _PLACES if far else _PLACES[:1]:
            yield Case(
                case_id=f"link/{row.name}/{place}/{size}",
                family="interconnect",
                op=row.op,
                precision="none",
                route=row.name,
                shape={"bytes": size},
                config=place,
                convention="one-way",
            )


def prepare(case: Case, session: Session) -> tuple[Work, Timer]:
    """Make the transfer of ``case`` and choose what times it; raises ``Unsupported``."""
    device = session.device
    row = transfers.BY_NAME[case.route]
    work = transfers.prepare(
        row.name,
        session.target,
        size_bytes=case.shape["bytes"],
        buffer_sets=1,
        seed=session.seed,
        place=_place(case, device),
        pages_on=numa.pages_on,
    )
    return work, for_copies(session.timer, blocking=row.blocking)


def _place(case: Case, device: Device) -> Place:
    places = numa.places(numa.nodes(), numa.node_of(device.pci_bus_id))
    found = {place.name: place for place in places}
    if case.config == "far" and "far" not in found:
        raise Unsupported(
            "one-node", "this host has one memory node, or does not tell which is near the device"
        )
    return found.get(case.config or "near", ANYWHERE)
