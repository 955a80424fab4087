"""Whether all nodes have the versions that this host has: said before hours are spent.

Nodes that are measured together shall have one version of roofprobe, and Ray itself demands one Ray
and one Python. Another patch of Python is only told of, and so are results from before, of another
version that measures by the same method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from roofprobe.fleet_run.slots import Outcome
from roofprobe.records.errors import RoofprobeError

_NAMED: Final = 3


def mine(ray: str) -> dict[str, Any]:
    """Return this host's versions, as nodes tell theirs."""
    import platform

    from roofprobe import __version__
    from roofprobe.records.schema import METHOD_VERSION

    return {
        "python": platform.python_version(), "ray": ray, "roofprobe": __version__,
        "method": METHOD_VERSION,
    }  # fmt: skip


def compared(here: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a sentence for each difference that harms nothing.

    Raises ``RoofprobeError`` (``version-skew`` or ``not-installed``) for one that does.
    """
    lacking = {name: told for name, told in nodes.items() if told["roofprobe"] is None}
    if lacking:
        error = next(iter(lacking.values()))["error"]
        raise RoofprobeError(
            "not-installed",
            f"roofprobe {here['roofprobe']} cannot be loaded on {_names(list(lacking))} ({error}): "
            "install it and what it needs there, or leave --no-install away",
        )
    without = [name for name, told in nodes.items() if not told["torch"]]
    if without:
        raise RoofprobeError(
            "not-installed",
            f"there is no torch on {_names(without)}: install it there, or use a release of "
            "roofprobe, which brings it",
        )
    skews = [
        f"{title} {version} on {_names(names)}, {here[key]} here"
        for key, title in (
            ("roofprobe", "roofprobe"), ("method", "method version"), ("ray", "Ray"),
            ("python", "Python"),
        )
        for version, names in _others(key, here, nodes).items()
        if key != "python" or _minor(version) != _minor(here["python"])
    ]  # fmt: skip
    if skews:
        raise RoofprobeError(
            "version-skew",
            f"{'; '.join(skews)}: figures and clusters want one version, so install the same "
            "everywhere (without --no-install roofprobe is)",
        )
    return tuple(
        f"Python is {version} on {_names(names)} and {here['python']} here"
        for version, names in _others("python", here, nodes).items()
    )


def since(kept: Iterable[Outcome]) -> tuple[str, ...]:
    """Return a sentence about results that another version measured, by the same method."""
    from roofprobe import __version__

    counts = Counter(each.versions.get("roofprobe", __version__) for each in kept)
    counts.pop(__version__, None)
    if not counts:
        return ()
    others = ", ".join(f"{count} by roofprobe {version}" for version, count in counts.items())
    return (
        f"of the results from before, {others} and not {__version__}, which measures by the same "
        "method: their figures are comparable",
    )


def _others(
    key: str, here: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, told in nodes.items():
        if told[key] != here[key]:
            found.setdefault(str(told[key]), []).append(name)
    return found


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
