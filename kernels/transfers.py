"""Transfers: bytes between host and device, between two devices, and within the host.

Counted is each byte once per direction (the one-way convention of nvbandwidth and of every link's
specification), seen from the device: what arrives is written, what leaves is read. A copy of N
bytes to the device counts N, a transfer both ways at once counts 2·N, N for each direction, and its
rate is the sum of both. A stream kernel's copy, which counts reads and writes of one memory, is
another convention and another quantity.

Pinned host memory is what the link can do: the device's copy engine moves it alone. Pageable memory
is what a program gets that does not ask for better: the driver copies it through a buffer of its
own, the calling thread waits, and two directions take turns, because one thread feeds both. Where
the memory lies matters too: on the NUMA node beside the device, or across the processors' own link.

What limits a transfer is the slower of link and host memory; packet headers, the copy engine's
start-up and the driver's staging take their part. None of these figures is a latency, but for
``p2p-latency``: the time of one small copy in its stream, start-up of the copy engine included,
which is not the time of a load across the link.

Data are pseudo-random, because links and memories may compress. The check poisons the destination
with the complement of what must arrive, so that each byte that did not shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from roofprobe.kernels.host_memory import ANYWHERE, HostBuffer, PagesOn, Place, on_cpus
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

Direction = Literal["h2d", "d2h"]
Launch = Callable[[], object]

MEASURE = "share of bytes that differ from the source"
CONVENTION = "one-way"
LATENCY_BYTES = 8
_CHUNK_BYTES = 1 << 20  # fits a core's cache: what is made in it costs little
_SEED_STRIDE = 1 << 40  # words between the sequences of two seeds: more than any buffer has


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A transfer between host and device as data.

    ``op`` names the link's load (``both``: two streams at once), ``host_memory`` how the driver
    may reach the host's side.
    """

    name: str
    op: Literal["h2d", "d2h", "both", "host-copy"]
    host_memory: Literal["pinned", "pageable"]
    directions: tuple[Direction, ...]
    meaning: str

    @property
    def blocking(self) -> bool:
        """Return whether the call waits for its copy, so that only the host's clock times it."""
        return self.host_memory == "pageable"


ROWS: tuple[TransferRow, ...] = (
    TransferRow("h2d-pinned", "h2d", "pinned", ("h2d",), "host to device"),
    TransferRow("d2h-pinned", "d2h", "pinned", ("d2h",), "device to host"),
    TransferRow("both-pinned", "both", "pinned", ("h2d", "d2h"), "both ways at once, summed"),
    TransferRow("h2d-pageable", "h2d", "pageable", ("h2d",), "host to device, staged"),
    TransferRow("d2h-pageable", "d2h", "pageable", ("d2h",), "device to host, staged"),
    TransferRow("both-pageable", "both", "pageable", ("h2d", "d2h"), "both ways, staged in turns"),
    TransferRow("host-copy", "host-copy", "pageable", (), "within the host, by one thread"),
)
BY_NAME = {row.name: row for row in ROWS}


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A transfer from one device to another; ``message_bytes`` fixes the size of a small one."""

    name: Literal["p2p", "p2p-both", "p2p-latency"]
    directions: int
    meaning: str
    message_bytes: int | None = None


PEER_ROWS: tuple[PeerRow, ...] = (
    PeerRow("p2p", 1, "from one device to another"),
    PeerRow("p2p-both", 2, "between two devices both ways at once, summed"),
    PeerRow("p2p-latency", 1, "one small copy to another device", LATENCY_BYTES),
)
PEER_BY_NAME: dict[str, PeerRow] = {row.name: row for row in PEER_ROWS}


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to enqueue, and the devices whose streams take part in it, its source last."""

    enqueue: Launch
    devices: tuple[str, ...]


class Runtime(Protocol):
    """What transfers need of a device's runtime besides tensors."""

    def pin(self, address: int, size_bytes: int) -> Launch:
        """Pin host memory and return what unpins it; raises ``Unsupported``."""
        ...

    def at_once(self, copies: Sequence[Copy]) -> Launch:
        """Return a launch that enqueues all copies, each in streams of its own, and joins them."""
        ...

    def wait(self) -> None:
        """Wait until all that was enqueued is done."""
        ...


class CudaRuntime:
    """CUDA and ROCm through torch: pinning by registration, streams joined by events."""

    def __init__(self, device: str, cuda: Any = None) -> None:
        """Use ``device``'s current stream as the one that all others join."""
        if cuda is None:
            import torch

            cuda = torch.cuda
        self._device, self._cuda = device, cuda

    def pin(self, address: int, size_bytes: int) -> Launch:
        """Register the pages with the driver; they must have been touched where they shall lie."""
        runtime = self._cuda.cudart()
        answer = int(runtime.cudaHostRegister(address, size_bytes, 0))
        if answer != 0:
            raise Unsupported(
                "pinning",
                f"the driver does not pin {size_bytes} bytes of host memory "
                f"(cudaHostRegister returned {answer})",
                "raise the limit of locked memory (ulimit -l), or give the container more",
            )
        return partial(runtime.cudaHostUnregister, address)

    def at_once(self, copies: Sequence[Copy]) -> Launch:
        """Fork from the current stream, one stream per copy and device, and join it again.

        torch lets a copy between devices wait for both devices' current streams, so two opposite
        copies must not share one on either side: they would take turns.
        """
        cuda, device = self._cuda, self._device
        lanes = [(copy, [cuda.Stream(device=each) for each in copy.devices]) for copy in copies]
        streams = [stream for _, own in lanes for stream in own]

        def launch() -> None:
            main = cuda.current_stream(device)
            for stream in streams:
                stream.wait_stream(main)
            for copy, own in lanes:
                with ExitStack() as inside:
                    for stream in own:
                        inside.enter_context(cuda.stream(stream))
                    copy.enqueue()
            for stream in streams:
                main.wait_stream(stream)

        return launch

    def wait(self) -> None:
        """Wait for the device; what other devices did for it was joined to its stream."""
        self._cuda.synchronize(self._device)


class PlainRuntime:
    """A device of which nothing but tensors is known: no pinning, no streams of our own."""

    def pin(self, address: int, size_bytes: int) -> Launch:
        """Refuse."""
        raise Unsupported("pinning", "host memory is pinned through torch's CUDA interface only")

    def at_once(self, copies: Sequence[Copy]) -> Launch:
        """Refuse."""
        raise Unsupported("no-streams", "two directions at once need torch's CUDA streams")

    def wait(self) -> None:
        """Do nothing: the blocking copy that reads the result waits."""


def unavailable(name: str, target: Target) -> Unsupported | None:
    """Say why a transfer does not exist on ``target``, or return None when it can be tried."""
    row = BY_NAME[name]
    if row.op == "host-copy":
        if target.kind == "cpu":
            return None
        return Unsupported("host-only", "a copy within the host is measured once, on the CPU")
    if target.kind == "cpu":
        return Unsupported("no-link", "a CPU's memory is the host's own: there is no link to cross")
    if not target.is_gpu and row.host_memory == "pinned":
        return Unsupported("pinning", "host memory is pinned through torch's CUDA interface only")
    if not target.is_gpu and row.op == "both":
        return Unsupported("no-streams", "two directions at once need torch's CUDA streams")
    return None


def bytes_per_launch(name: str, size_bytes: int) -> tuple[int, int]:
    """Return (bytes read, bytes written) on the device's side of the link; see the module."""
    row = BY_NAME[name]
    if row.op == "host-copy":
        return size_bytes, 0
    return size_bytes * ("d2h" in row.directions), size_bytes * ("h2d" in row.directions)


def prepare(
    name: str,
    target: Target,
    *,
    size_bytes: int,
    buffer_sets: int,
    seed: int,
    place: Place = ANYWHERE,
    runtime: Runtime | None = None,
    pages_on: PagesOn | None = None,
) -> Work:
    """Make and fill ``buffer_sets`` sets of buffers of ``size_bytes`` and return the work.

    Host buffers lie at ``place``, and the thread that launches stays on its CPUs meanwhile, like a
    process that is bound to that node. ``pages_on`` tells where pages came to lie, if it can.
    Raises ``Unsupported`` where the transfer or the place does not exist.
    """
    reason = unavailable(name, target)
    if reason is not None:
        raise reason
    row = BY_NAME[name]
    found = runtime or (CudaRuntime(target.torch_device) if target.is_gpu else PlainRuntime())
    pin = found.pin if row.host_memory == "pinned" else None

    def host() -> HostBuffer:
        return HostBuffer(size_bytes, place, pin, pages_on)

    sets = []
    with on_cpus(place.cpus):
        for index in range(buffer_sets):
            first = seed + 2 * index
            if row.op == "host-copy":
                sets.append(_host_copy(host(), host(), first))
            else:
                sets.append(_transfer(row, target, host, size_bytes, first, found))
    read, written = bytes_per_launch(name, size_bytes)
    return Work(
        launches=tuple(launch for launch, _ in sets),
        flops=0,
        bytes_read=read,
        bytes_written=written,
        array_bytes=size_bytes,
        check=partial(_check, *sets[0], found.wait),
        kernel="numpy.copyto (one thread)"
        if row.op == "host-copy"
        else f"copy_ ({row.host_memory})",
        config={
            "host_memory": row.host_memory,
            "place": place.name,
            "node": place.node,
            "directions": len(row.directions) or 1,
            "convention": CONVENTION,
            "blocking": row.blocking,
        },
        settings=partial(on_cpus, place.cpus),
    )


def unavailable_peer(
    source: Target,
    destination: Target,
    can_access: Callable[[int, int], bool] | None = None,
) -> Unsupported | None:
    """Say why two devices cannot copy to each other directly, or return None when they can.

    ``can_access`` stands in for ``torch.cuda.can_device_access_peer``. Without direct access a
    copy still arrives, through the host's memory: that is two transfers, and not measured here.
    """
    if not (source.is_gpu and destination.is_gpu) or source.kind != destination.kind:
        return Unsupported(
            "no-peer", f"a {source.kind} and a {destination.kind} have no direct way to each other"
        )
    ends = _index(source), _index(destination)
    if ends[0] == ends[1]:
        return Unsupported("no-peer", "a device is not its own peer")
    if can_access is None:
        import torch

        can_access = torch.cuda.can_device_access_peer
    if not (can_access(*ends) and can_access(*reversed(ends))):
        return Unsupported(
            "no-peer-access",
            f"{source.torch_device} and {destination.torch_device} cannot reach each other's "
            "memory: copies go through the host",
            "nvidia-smi topo -p2p r  # shows which pairs can; a virtual machine may forbid it",
        )
    return None


def prepare_peer(
    name: str,
    source: Target,
    destination: Target,
    *,
    size_bytes: int,
    buffer_sets: int,
    seed: int,
    runtime: Runtime | None = None,
    can_access: Callable[[int, int], bool] | None = None,
    tensor_devices: tuple[str, str] | None = None,
) -> Work:
    """Return the work of copies from ``source`` to ``destination`` (and back, where both ways).

    A latency's message has its own size, whatever ``size_bytes`` says. The work belongs to
    ``source``: its current stream is the one to time. ``tensor_devices`` puts the buffers
    elsewhere, for tests. Raises ``Unsupported`` where the two have no direct access.
    """
    import torch

    reason = unavailable_peer(source, destination, can_access)
    if reason is not None:
        raise reason
    row = PEER_BY_NAME[name]
    found = runtime or CudaRuntime(source.torch_device)
    size = row.message_bytes or size_bytes
    places = tensor_devices or (source.torch_device, destination.torch_device)
    names = (source.torch_device, destination.torch_device)
    sets = []
    for index in range(buffer_sets):
        legs, copies = [], []
        for way in range(row.directions):
            start, end = places[way], places[1 - way]
            leg = Leg(
                torch.empty(size, dtype=torch.uint8, device=start),
                torch.empty(size, dtype=torch.uint8, device=end),
                seed + 2 * index + way,
            )
            leg.fill()
            legs.append(leg)
            enqueue = partial(leg.destination.copy_, leg.source, non_blocking=True)
            copies.append(Copy(enqueue, (names[1 - way], names[way])))
        launch = copies[0].enqueue if len(copies) == 1 else found.at_once(copies)
        sets.append((launch, tuple(legs)))
    return Work(
        launches=tuple(launch for launch, _ in sets),
        flops=0,
        bytes_read=size,
        bytes_written=size * (row.directions - 1),
        array_bytes=size,
        check=partial(_check, *sets[0], found.wait),
        kernel="copy_ (peer)",
        config={
            "peer": destination.torch_device,
            "directions": row.directions,
            "convention": CONVENTION,
            "blocking": False,
        },
    )


@dataclass(frozen=True, slots=True)
class Leg:
    """One direction of a transfer: where its bytes come from and go to, and their seed."""

    source: torch.Tensor
    destination: torch.Tensor
    seed: int

    def fill(self) -> None:
        """Write the source's pseudo-random bytes."""
        for start, stop, data in _random_bytes(self.source, self.seed):
            self.source[start:stop].copy_(data)
        _settle(self.source)

    def poison(self) -> None:
        """Write into the destination the complement of every byte that must arrive."""
        for start, stop, data in _random_bytes(self.destination, self.seed):
            self.destination[start:stop].copy_(data.bitwise_not_())
        _settle(self.destination)

    def wrong_bytes(self) -> int:
        """Count the bytes of the destination that are not the source's, by the seed alone."""
        import torch

        return sum(
            int(torch.count_nonzero(self.destination[start:stop] != data))
            for start, stop, data in _random_bytes(self.destination, self.seed)
        )


def _random_bytes(like: torch.Tensor, seed: int) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (start, stop, bytes) of a reproducible sequence as long as ``like``, a chunk at a time.

    Each word is a hash of its place (the mixer of SplitMix64; Steele, Lea, Flood, OOPSLA 2014), so
    that each end makes the same bytes where its own memory is, and nothing else has to cross the
    link.
    """
    import torch

    size = like.numel()
    for start in range(0, size, _CHUNK_BYTES):
        stop = min(size, start + _CHUNK_BYTES)
        first = start // 8
        last = -(-stop // 8)
        words = torch.arange(first, last, dtype=torch.int64, device=like.device)
        words.add_(_signed((seed * _SEED_STRIDE + 1) % (1 << 64)))
        words.mul_(_signed(0x9E3779B97F4A7C15))
        words.bitwise_xor_(words >> 30).mul_(_signed(0xBF58476D1CE4E5B9))
        words.bitwise_xor_(words >> 27).mul_(_signed(0x94D049BB133111EB))
        words.bitwise_xor_(words >> 31)
        yield start, stop, words.view(torch.uint8)[: stop - start]


def _signed(word: int) -> int:
    """Return the signed number of the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


def _settle(tensor: torch.Tensor) -> None:
    """Return when what was enqueued for ``tensor`` is done: a transfer's streams don't wait."""
    tensor[-1:].cpu()


def _transfer(
    row: TransferRow,
    target: Target,
    host: Callable[[], HostBuffer],
    size_bytes: int,
    seed: int,
    runtime: Runtime,
) -> tuple[Launch, tuple[Leg, ...]]:
    """Return one set of buffers of a transfer between host and device, with its launch."""
    import torch

    # Both ways at once, the first copy must not keep the thread from enqueuing the second.
    asynchronous = row.host_memory == "pinned" or len(row.directions) > 1
    legs, copies = [], []
    for way, direction in enumerate(row.directions):
        buffer = host()
        device = torch.empty(size_bytes, dtype=torch.uint8, device=target.torch_device)
        ends = (buffer.tensor, device) if direction == "h2d" else (device, buffer.tensor)
        leg = Leg(*ends, seed + way)
        leg.fill()
        legs.append(leg)
        enqueue = partial(_copy, leg, asynchronous, buffer)
        copies.append(Copy(enqueue, (target.torch_device,)))
    launch = copies[0].enqueue if len(copies) == 1 else runtime.at_once(copies)
    return launch, tuple(legs)


def _copy(leg: Leg, asynchronous: bool, buffer: HostBuffer) -> None:
    """Enqueue one leg; ``buffer`` is held here, because its memory is unpinned when it goes."""
    leg.destination.copy_(leg.source, non_blocking=asynchronous)


def _host_copy(
    source: HostBuffer, destination: HostBuffer, seed: int
) -> tuple[Launch, tuple[Leg, ...]]:
    """Return a copy within the host: numpy's, which is one thread's memcpy."""
    import numpy as np

    leg = Leg(source.tensor, destination.tensor, seed)
    leg.fill()
    return partial(np.copyto, leg.destination.numpy(), leg.source.numpy()), (leg,)


def _check(launch: Launch, legs: Sequence[Leg], wait: Callable[[], None]) -> Check:
    """Poison every destination, launch once, wait, and count the bytes that are not right."""
    for leg in legs:
        leg.poison()
    launch()
    wait()
    wrong = sum(leg.wrong_bytes() for leg in legs)
    total = sum(leg.source.numel() for leg in legs)
    problem = f"{wrong} of {total} bytes did not arrive as they were sent" if wrong else None
    return Check(wrong / total, 0.0, MEASURE, total, problem)


def _index(target: Target) -> int:
    return int(target.torch_device.rpartition(":")[2])
