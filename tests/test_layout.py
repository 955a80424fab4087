"""The rooms: linked, built and measured under the same names, and using only what they may."""

from __future__ import annotations

import ast
import os
import tomllib
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
# Renderers of values that a probe makes; they need the probe's types, and nothing of torch.
TYPES_ONLY = {("reporting", "doctor_view.py", "probes")}

in_a_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="links live in a checkout")


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
            allowed = used in ALLOWED[room] | {room, ""}
            if not allowed and (room, file.name, used) not in TYPES_ONLY:
                wrong.append(f"{file.relative_to(ROOT)} uses {used}")
    assert wrong == []


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
