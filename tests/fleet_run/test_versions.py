"""A difference of versions is one sentence before anything is measured."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.fleet_run.versions import compared, mine
from roofprobe.records.errors import RoofprobeError

HERE = {"python": "3.11.7", "ray": "2.60.0", "roofprobe": "0.2.0", "method": 1}


def told(**other: Any) -> dict[str, Any]:
    return {**HERE, "torch": True, "error": "", **other}


def test_the_same_everywhere_is_nothing_to_say() -> None:
    assert compared(HERE, {"a": told(), "b": told()}) == ()
    assert compared(HERE, {}) == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"roofprobe": "0.1.0"}, "roofprobe 0.1.0 on b, c, d and 1 more, 0.2.0 here"),
        ({"ray": "2.59.0"}, "Ray 2.59.0 on b, c, d and 1 more, 2.60.0 here"),
        ({"python": "3.12.1"}, "Python 3.12.1 on b, c, d and 1 more, 3.11.7 here"),
        ({"method": 2}, "method version 2 on b, c, d and 1 more, 1 here"),
    ],
)
def test_a_skew_names_versions_and_nodes(other: dict[str, Any], said: str) -> None:
    nodes = {"a": told(), **{name: told(**other) for name in "bcde"}}
    with pytest.raises(RoofprobeError) as caught:
        compared(HERE, nodes)
    assert (caught.value.code, caught.value.exit_code) == ("version-skew", 2)
    assert caught.value.sentence.startswith(said)


def test_another_patch_of_python_is_only_told_of() -> None:
    (note,) = compared(HERE, {"a": told(), "b": told(python="3.11.9")})
    assert note == "Python is 3.11.9 on b and 3.11.7 here"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"roofprobe": None, "error": "ModuleNotFoundError: No module named 'roofprobe'"},
         "cannot be loaded on b (ModuleNotFoundError"),
        ({"torch": False}, "there is no torch on b"),
    ],
)  # fmt: skip
def test_what_is_not_installed_is_named(other: dict[str, Any], said: str) -> None:
    with pytest.raises(RoofprobeError) as caught:
        compared(HERE, {"a": told(), "b": told(**other)})
    assert caught.value.code == "not-installed"
    assert said in caught.value.sentence


def test_this_host_tells_what_nodes_tell() -> None:
    assert set(mine("2.60.0")) == set(HERE)
