"""The rooms: linked, built and measured under the same names, and using only what they may."""

from __future__ import annotations

import ast
import os
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each room may import of ours, besides itself.
ALLOWED: dict[str, set[str]] = {
    "kernels": set(),
    "peaks": set(),
    "records": {"peaks"},
    "probes": {"kernels", "peaks", "records"},
    "costmodel": {"records", "peaks"},
    "acceptance": {"records", "peaks"},
    "reporting": {"records", "peaks", "costmodel", "acceptance"},
}
ROOMS = sorted(ALLOWED)
# Folders with Python in them that are no rooms: nothing imports them as ``roofprobe.<folder>``.
NO_ROOMS = {"src", "tests", "benchmarks", "tools", "docs"}

in_a_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="links live in a checkout")


@in_a_checkout
def test_every_folder_with_python_in_it_is_a_room_or_known_not_to_be_one() -> None:
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and any(path.glob("**/*.py"))
    }
    assert folders - {"build", "dist", "site"} == {*ROOMS, *NO_ROOMS}


@in_a_checkout
def test_every_room_is_linked_relatively() -> None:
    links = {
        path.name: os.readlink(path)
        for path in (ROOT / "src/roofprobe").iterdir()
        if path.is_symlink()
    }
    assert links == {room: f"../../{room}" for room in ROOMS}


def test_the_build_takes_every_room() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = settings["tool"]["hatch"]["build"]
    assert sorted(build["exclude"]) == [f"/src/roofprobe/{room}" for room in ROOMS]
    assert build["targets"]["wheel"]["force-include"] == {
        room: f"roofprobe/{room}" for room in ROOMS
    }
    assert sorted(settings["tool"]["coverage"]["run"]["source"]) == sorted([*ROOMS, "src"])


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_is_a_package_of_its_own(room: str) -> None:
    assert list((ROOT / room).rglob("*.py")), f"{room} is empty"
    assert not list((ROOT / room).rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room: str) -> None:
    wrong = []
    for file in (ROOT / room).rglob("*.py"):
        for used in rooms_used(file):
            if used not in ALLOWED[room] | {room, ""}:
                wrong.append(f"{file.relative_to(ROOT)} uses {used}")
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_imports_name_the_room_in_full(room: str) -> None:
    relative = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == [], "a relative import would slip past the test of arrows"
    own = {name.split(".")[0] for file in (ROOT / room).rglob("*.py") for name in imports(file)}
    assert own & set(ROOMS) == set(), "a room is imported as roofprobe.<room> only"


def test_arrows_form_no_circle() -> None:
    left = dict(ALLOWED)
    while left:
        free = [room for room, uses in left.items() if not uses & set(left)]
        assert free, f"{sorted(left)} use each other in a circle"
        for room in free:
            del left[room]


@pytest.mark.parametrize("room", ROOMS)
def test_folders_of_a_room_use_each_other_in_no_circle(room: str) -> None:
    folders = {path.name for path in (ROOT / room).iterdir() if any(path.glob("*.py"))}
    uses = {
        folder: {
            parts[2]
            for file in (ROOT / room / folder).glob("*.py")
            for name in imports(file)
            if (parts := name.split("."))[:2] == ["roofprobe", room] and parts[2] in folders
        }
        - {folder}
        for folder in folders
    }
    TopologicalSorter(uses).prepare()  # raises CycleError with the folders of the circle


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("kernels", "probes")])
def test_rooms_without_torch_do_not_name_it(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        names = {name.split(".")[0] for name in imports(file)}
        assert not names & {"torch", "triton", "pynvml"}, file


def rooms_used(file: Path) -> set[str]:
    found = set()
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "roofprobe":
            found.add(parts[1] if len(parts) > 1 else "")
    return found - {"__version__"}


def imports(file: Path) -> set[str]:
    """Return the dotted names that ``file`` imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names
