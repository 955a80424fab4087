"""The other ranks: how a rank finds its place among them, meets them, and agrees with them.

Ranks agree on what to do next through the group's store, not through the library they measure:
that a rank lacks the memory, or has a wrong result, is then known to all before anyone waits for
it in an operation.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from roofprobe.probes import host
from roofprobe.probes.collective_cases import RankJob
from roofprobe.records.schema import Reason

if TYPE_CHECKING:
    import torch

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands among all ranks, and among those of its host."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int


class Store(Protocol):
    """What is used of torch's stores, which its stubs do not name."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""
        ...

    def get(self, key: str) -> bytes:
        """Wait for a value and return it."""
        ...

    def add(self, key: str, amount: int) -> int:
        """Add to a counter and return it."""
        ...


class Unavailable(Exception):
    """This torch cannot make such a group at all."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason."""
        super().__init__(reason.sentence)
        self.reason = reason


class Group:
    """The other ranks: an agreement with them, and what is known of them."""

    def __init__(self, store: Store, place: Place, tell: Tell) -> None:
        """Agree through ``store``; tell the parent through ``tell``."""
        self._store = store
        self._round = 0
        self.place = place
        self.tell = tell
        self.devices: tuple[str, ...] = ()
        self.hosts = 1
        self.library = ""

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank gave as its ``value``, in the order of ranks."""
        self._round += 1
        self._store.set(f"{self._round}/{self.place.rank}", json.dumps(value))
        return [
            json.loads(self._store.get(f"{self._round}/{rank}"))
            for rank in range(self.place.world_size)
        ]

    def leave(self) -> None:
        """Return when no rank needs rank 0, which may be the one that serves the store."""
        left = self._store.add("left", 1)
        while self.place.rank == 0 and left < self.place.world_size:
            time.sleep(0.01)
            left = self._store.add("left", 0)


def place_of(environment: Mapping[str, str]) -> Place:
    """Return the rank's place as the environment tells it; a launcher sets these names."""
    rank, world_size = (int(environment[name]) for name in ("RANK", "WORLD_SIZE"))
    return Place(
        rank,
        world_size,
        local_rank=int(environment.get("LOCAL_RANK", rank)),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", world_size)),
    )


def device_of(job: RankJob, place: Place) -> torch.device:
    """Choose and open this rank's device."""
    import torch

    if job.devices:
        device = torch.device(job.devices[place.local_rank])
    elif job.backend == "gloo":
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", place.local_rank)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise Unavailable(Reason(code="no-devices", sentence="torch sees no CUDA or ROCm GPU"))
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, host.usable_cores() // place.local_size))
    return device


def join(job: RankJob, place: Place, device: torch.device, tell: Tell) -> Group:
    """Meet the other ranks and make the library's group."""
    import torch.distributed as dist

    _must_have(job.backend)
    limit = timedelta(seconds=job.timeout_s)
    stores: Any = dist  # torch's stubs do not name the stores
    if job.store is not None:
        store = stores.FileStore(job.store, place.world_size)
    else:
        store, _, _ = next(stores.rendezvous("env://", timeout=limit))
    store.set_timeout(limit)
    dist.init_process_group(
        job.backend,
        store=stores.PrefixStore("library", store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=limit,
        device_id=device if device.type == "cuda" else None,
    )
    group = Group(stores.PrefixStore("agreement", store), place, tell)
    known = group.gather([socket.gethostname(), str(device)])
    names = {name for name, _ in known}
    group.hosts = len(names)
    group.devices = tuple(
        where if len(names) == 1 else f"{name}/{where}" for name, where in known
    )  # fmt: skip
    group.library = _library(job.backend)
    return group


def _must_have(backend: str) -> None:
    import torch
    import torch.distributed as dist

    has = (
        dist.is_available()
        and {
            "gloo": dist.is_gloo_available,
            "nccl": dist.is_nccl_available,
        }.get(backend, lambda: True)()
    )
    if not has:
        raise Unavailable(
            Reason(
                code="no-backend",
                sentence=f"torch {torch.__version__} was built without {backend}",
                remedy="install a torch for this device",
            )
        )


def _library(backend: str) -> str:
    """Return the library's name and version, as far as it tells."""
    import torch

    if backend == "nccl":
        name = "RCCL" if torch.version.hip else "NCCL"
        version = torch.cuda.nccl.version()
        return f"{name} {'.'.join(map(str, version)) if isinstance(version, tuple) else version}"
    return f"{backend} of torch {torch.__version__}"


def leave_library() -> None:
    """End the library's group."""
    import torch.distributed as dist

    with suppress(RuntimeError):  # the results are out; an untidy end costs nothing
        dist.destroy_process_group()
