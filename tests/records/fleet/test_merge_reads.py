"""A merge reads what stands in a fleet once, and once more for each merge that came between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.merge import merge, standings_in
from roofprobe.records.fleet.store import open_store


@pytest.fixture
def where() -> str:
    return f"memory://bucket/{time.monotonic_ns()}/fleet"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any], set[str]], int]:
    """Give a function that counts how often ``work`` opens files of ``parts`` to read them."""
    names: list[str] = []
    real = MemoryFileSystem._open

    def counting(self: Any, path: str, mode: str = "rb", *more: Any, **others: Any) -> Any:
        if mode == "rb" and path.endswith(".parquet"):
            names.append(path.rsplit("/", 1)[-1].split(".")[0])
        return real(self, path, mode, *more, **others)

    monkeypatch.setattr(MemoryFileSystem, "_open", counting)

    def of(work: Callable[[], Any], parts: set[str]) -> int:
        names.clear()
        work()
        return sum(name in parts for name in names)

    return of


def parts_of(where: str) -> set[str]:
    return set(Fleet(open_store(where)).state().parts)


def test_a_merge_alone_reads_what_stands_as_often_as_one_that_adds_nothing(
    hosts: Any, where: str, opened: Any
) -> None:
    for host in hosts:
        host.write()
    merge([hosts[0].out], where)
    first = parts_of(where)
    nothing = opened(lambda: merge([hosts[0].out], where), first)
    assert nothing > 0
    assert opened(lambda: merge([hosts[1].out], where), first) == nothing
    refused = hosts[2].out / "broken/run.json"
    refused.parent.mkdir(parents=True)
    refused.write_text("{")
    assert opened(lambda: merge([refused], where), first) == nothing


def test_what_stands_is_read_again_where_another_merge_came_between(
    hosts: Any, where: str, opened: Any
) -> None:
    for host in hosts:
        host.write()
    merge([hosts[0].out], where)
    fleet, first = Fleet(open_store(where)), parts_of(where)
    once = opened(lambda: standings_in(fleet, fleet.state()), first)
    alone = opened(lambda: merge([hosts[0].out], where), first)
    came: list[Any] = []

    def between(done: int, of: int) -> None:
        if not came:
            came.append(merge([hosts[1].out], where))

    of_both = opened(lambda: merge([hosts[1].out, hosts[2].out], where, progress=between), first)
    assert of_both == 2 * alone + once  # its own, those of the merge between, and again
    with_digests = standings_in(fleet, fleet.state())
    assert len({each.run_key for each in with_digests}) == len(with_digests) == 3
