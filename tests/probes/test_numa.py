"""NUMA nodes from invented system files: lists, distances, and what is near and far."""

from __future__ import annotations

from pathlib import Path

import pytest

from roofprobe.kernels.host_memory import ANYWHERE, HostBuffer, Place
from roofprobe.probes import numa


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def host(root: Path, cpus: dict[int, str], distances: dict[int, str]) -> tuple[numa.Node, ...]:
    for number, text in cpus.items():
        write(root / f"node{number}/cpulist", f"{text}\n")
        write(root / f"node{number}/distance", f"{distances[number]}\n")
    write(root / "possible", "0-3\n")
    return numa.nodes(root)


def two_processors(root: Path) -> tuple[numa.Node, ...]:
    return host(root, {0: "0-3,8-11", 1: "4-7"}, {0: "10 21", 1: "21 10"})


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8,10-11\n", {0, 1, 2, 3, 8, 10, 11}),
        ("5", {5}),
        ("", set()),
        ("\n", set()),
    ],
)
def test_cpu_lists_are_read_as_the_kernel_writes_them(text: str, cpus: set[int]) -> None:
    assert numa.cpu_list(text) == cpus


def test_nodes_have_their_cpus_and_distances(tmp_path: Path) -> None:
    assert two_processors(tmp_path) == (
        numa.Node(0, frozenset({0, 1, 2, 3, 8, 9, 10, 11}), {0: 10, 1: 21}),
        numa.Node(1, frozenset({4, 5, 6, 7}), {0: 21, 1: 10}),
    )


def test_a_node_without_cpus_is_no_place_and_keeps_the_others_distances(tmp_path: Path) -> None:
    found = host(tmp_path, {0: "0-1", 1: "", 2: "2-3"}, {0: "10 40 21", 1: "", 2: "21 80 10"})
    assert [node.number for node in found] == [0, 2]
    assert found[1].distances == {0: 21, 1: 80, 2: 10}


def test_a_system_that_lists_no_nodes_has_none(tmp_path: Path) -> None:
    assert numa.nodes(tmp_path / "absent") == ()
    assert numa.places((), 0) == (ANYWHERE,)


@pytest.mark.parametrize(
    ("bus_id", "folder"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0000:1b:00.0", "0000:1b:00.0"),
        ("1b:00.0", "0000:1b:00.0"),
        ("00010000:C0:00.0", "10000:c0:00.0"),
    ],
)
@pytest.mark.parametrize(("written", "node"), [("1\n", 1), ("0\n", 0), ("-1\n", None)])
def test_a_gpu_s_node_is_found_by_its_bus_id(
    tmp_path: Path, bus_id: str, folder: str, written: str, node: int | None
) -> None:
    write(tmp_path / folder / "numa_node", written)
    assert numa.node_of(bus_id, tmp_path) == node


@pytest.mark.parametrize("bus_id", [None, "", "GPU-0", "../../etc", "00000000:FF:00.0"])
def test_an_unknown_device_has_no_node(tmp_path: Path, bus_id: str | None) -> None:
    assert numa.node_of(bus_id, tmp_path) is None


def test_near_and_far_are_named_by_the_gpu_s_node(tmp_path: Path) -> None:
    found = two_processors(tmp_path)
    first, second = found
    assert numa.places(found, 1) == (Place("near", 1, second.cpus), Place("far", 0, first.cpus))
    assert numa.places(found, 0) == (Place("near", 0, first.cpus), Place("far", 1, second.cpus))


def test_far_is_the_greatest_distance(tmp_path: Path) -> None:
    distances = {0: "10 12 32 32", 1: "12 10 32 32", 2: "32 32 10 12", 3: "32 40 12 10"}
    found = host(tmp_path, {0: "0", 1: "1", 2: "2", 3: "3"}, distances)
    assert [place.node for place in numa.places(found, 3)] == [3, 1]


def test_one_node_is_near_whatever_the_gpu_says(tmp_path: Path) -> None:
    found = host(tmp_path, {0: "0-1"}, {0: "10"})
    for node in (0, 7, None):
        assert numa.places(found, node) == (Place("near", 0, frozenset({0, 1})),)


@pytest.mark.parametrize("node", [None, 7])
def test_where_the_gpu_s_node_is_unknown_nothing_is_told_apart(
    tmp_path: Path, node: int | None
) -> None:
    assert numa.places(two_processors(tmp_path), node) == (ANYWHERE,)


MAPS = """\
55e8e0bd7000 default file=/usr/bin/cat mapped=2 N0=2 kernelpagesize_kB=4
7f0000000000 default anon=300 dirty=300 N0=100 N1=200 kernelpagesize_kB=4
7ffd00000000 default stack anon=3 dirty=3 N1=3 kernelpagesize_kB=4
"""


@pytest.mark.parametrize(
    ("address", "pages"),
    [
        (0x7F0000000000, {0: 100, 1: 200}),
        (0x7F0000001000, {0: 100, 1: 200}),
        (0x7FFD00000000, {1: 3}),
        (0x1000, {}),
    ],
)
def test_pages_are_counted_by_node(tmp_path: Path, address: int, pages: dict[int, int]) -> None:
    maps = tmp_path / "numa_maps"
    write(maps, MAPS)
    assert numa.pages_on(address, maps) == pages


def test_a_system_without_the_map_tells_nothing(tmp_path: Path) -> None:
    assert numa.pages_on(0x7F0000000000, tmp_path / "absent") == {}


@pytest.mark.skipif(not numa.NUMA_MAPS.exists(), reason="this kernel has no numa_maps")
def test_the_real_map_counts_the_pages_of_a_real_buffer() -> None:
    buffer = HostBuffer(1 << 20)
    assert sum(numa.pages_on(buffer.tensor.data_ptr()).values()) >= 1
