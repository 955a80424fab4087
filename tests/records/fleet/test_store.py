from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.fleet.store import Store, open_store


@pytest.fixture(params=["folder", "file-url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    places = {
        "folder": str(tmp_path / "fleet"),
        "file-url": f"file://{tmp_path}/fleet",
        "memory": f"memory://store/{time.monotonic_ns()}",
    }
    return open_store(places[request.param])


def test_what_is_written_is_read_and_listed(store: Store, tmp_path: Path) -> None:
    assert store.names("log") == []
    assert store.create("log/1.json", b"one")
    store.replace("log/2.json", b"two")
    local = tmp_path / "local"
    local.write_bytes(b"three")
    store.add("log/3.json", local)
    assert not local.exists()
    assert store.names("log") == ["1.json", "2.json", "3.json"]
    assert [store.read(f"log/{n}.json") for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    store.remove("log/3.json")
    store.remove("log/3.json")
    assert store.names("log") == ["1.json", "2.json"]


def test_a_file_is_made_once(store: Store) -> None:
    assert store.create("log/1.json", b"mine")
    assert not store.create("log/1.json", b"theirs")
    assert store.read("log/1.json") == b"mine"


def test_what_does_not_exist_cannot_be_read(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("log/1.json")


def no_links(*_: Any) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("links", [True, False], ids=["with-links", "without-links"])
def test_of_many_that_make_one_file_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    store = open_store(tmp_path / "fleet")
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda n: store.create("log/1.json", b"%d" % n), range(64)))
    assert sum(made) == 1
    assert store.read("log/1.json") == b"%d" % made.index(True)
    assert store.names("log") == ["1.json"]
