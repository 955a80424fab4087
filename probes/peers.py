"""Transfers between the accelerators of a host: each pair, one way, both ways, a small message.

    one way      each device to each other one: a link can be slower in one direction
    both ways    each pair once, both directions at once, rates summed
    latency      each device to each other one, a message of 8 bytes

A pair occupies two devices and the links between them, which other pairs may share, so one pair at
a time is measured, when nobody measures anything else. The worker is the ordinary one, opened on
the source. Each byte counts once per direction, and a copy is large, so that its start-up hardly
counts. Devices that cannot reach each other's memory are skipped: through the host's memory it
would be two transfers.

A device is known by its id. Torch's number of it may change between the parts of a resumed run
(``CUDA_VISIBLE_DEVICES``), so both ends are looked up again before they are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from roofprobe.kernels import transfers
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.backends import target_of
from roofprobe.probes.nvml import NvmlDevice, open_nvml
from roofprobe.probes.nvml_facts import NvmlUnavailable
from roofprobe.probes.session import Session
from roofprobe.probes.timers import Timer, for_copies
from roofprobe.records.schema import Case, Device, Options, Peer, PeerLink

FAMILY = "interconnect"
OPERATIONS = tuple(row.name for row in transfers.PEER_ROWS)
_MIB = 1 << 20
_SIZES_BYTES = {
    "quick": (64 * _MIB,),
    "standard": (256 * _MIB,),
    "soak": (_MIB, 16 * _MIB, 256 * _MIB, 1024 * _MIB),
}


def by_source(
    devices: Sequence[Device], options: Options
) -> Iterator[tuple[Device, tuple[Case, ...]]]:
    """Yield each accelerator that has others of its kind beside it, with its transfers to them.

    Of a pair, what goes both ways belongs to the device that comes first. All devices are met by
    one transfer before the next, so that one bad peer does not fail several cases in a row.
    """
    if FAMILY not in options.families:
        return
    for place, source in enumerate(devices):
        others = [
            (device, index > place)
            for index, device in enumerate(devices)
            if index != place and device.backend == source.backend != "cpu"
        ]
        cases = tuple(
            _case(row, peer, size)
            for row in transfers.PEER_ROWS
            for size in ((row.message_bytes,) if row.message_bytes else _SIZES_BYTES[options.tier])
            for peer, is_later in others
            if row.directions == 1 or is_later
        )
        if cases:
            yield source, cases


def prepare(case: Case, session: Session) -> tuple[Work, Timer]:
    """Make the transfer of ``case`` and choose what times it; raises ``Unsupported``."""
    assert case.peer is not None, case.case_id
    source, peer = _ends(case.peer, session)
    work = transfers.prepare_peer(
        case.op,
        target_of(source),
        target_of(peer),
        size_bytes=case.shape["bytes"],
        buffer_sets=1,
        seed=session.seed,
    )
    return work, for_copies(session.timer, blocking=False)


def link_of(case: Case, session: Session) -> PeerLink | None:
    """Return what NVML tells of the links between the two ends; None where there is no NVML."""
    assert case.peer is not None, case.case_id
    if session.device.backend != "cuda":
        return None
    nvml = open_nvml()
    if isinstance(nvml, NvmlUnavailable):
        return PeerLink(missing={"kind": nvml.sentence})
    ends = []
    for device in _ends(case.peer, session):
        found = nvml.device_by_uuid(device.uuid, device.pci_bus_id)
        if not isinstance(found, NvmlDevice):
            return PeerLink(missing={"kind": found.sentence})
        ends.append(found)
    source, peer = ends
    return PeerLink.model_validate(asdict(source.link_to(peer)))


def _case(row: transfers.PeerRow, peer: Device, size_bytes: int) -> Case:
    return Case(
        case_id=f"{row.name}/{peer.device_id}/{size_bytes}",
        family="interconnect",
        op=row.name,
        precision="none",
        route=row.name,
        shape={"bytes": size_bytes},
        convention="one-way",
        peer=Peer(device_id=peer.device_id, torch_device=peer.torch_device),
    )


def _ends(peer: Peer, session: Session) -> tuple[Device, Device]:
    """Return both devices as torch shows them now; raises ``Unsupported`` where one is another."""
    ends = []
    for wanted, where in (
        (session.device.device_id, session.device.torch_device),
        (peer.device_id, peer.torch_device),
    ):
        index = int(where.rpartition(":")[2]) if ":" in where else 0
        if index >= session.backend.count():
            raise Unsupported("device-moved", f"{where} is not there any more", _REMEDY)
        found = session.backend.describe(index)
        if found.device_id != wanted:
            raise Unsupported("device-moved", f"{where} was {wanted} and is another one", _REMEDY)
        ends.append(found)
    source, other = ends
    return source, other


_REMEDY = "resume with the devices (CUDA_VISIBLE_DEVICES) that the run began with"
