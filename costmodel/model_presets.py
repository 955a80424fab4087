"""Presets: sizes of published models, each with the hub ids that have them and its source.

Rows live in ``data/models/*.toml``; the fields of ``config`` are those of the publisher's
config.json that decide sizes. A name matches exactly or not at all: "Llama-3.1-8B-Lite" is not
"llama-3.1-8b", however much of it is the same.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SEPARATORS: Final = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Preset:
    """A published model: its name here, its ids on the hub, where the sizes were read."""

    name: str
    hub_ids: tuple[str, ...]
    source: str
    config: Mapping[str, object]


def normalise(name: str) -> str:
    """A model's name for exact comparison: case, spaces and underscores do not count."""
    return _SEPARATORS.sub("-", name.casefold().strip())


def find_preset(name: str) -> Preset | None:
    """The preset of a name or hub id, with or without its owner; ``None`` if there is none."""
    return _by_name().get(normalise(name))


def near_presets(name: str) -> tuple[str, ...]:
    """Up to three names of presets that look like ``name``."""
    known = _by_name()
    wanted = normalise(name).rpartition("/")[2][:200]
    longer = [match for match in known if len(wanted) > 2 and match.startswith(wanted)]
    near = longer + difflib.get_close_matches(wanted, known, n=12, cutoff=0.6)
    return tuple(dict.fromkeys(known[match].name for match in near))[:3]


def preset_names() -> tuple[str, ...]:
    """The names of all presets, in the order of the files."""
    return tuple(preset.name for preset in load_presets())


@functools.cache
def load_presets() -> tuple[Preset, ...]:
    """All presets of the package, read once."""
    folder = importlib.resources.files("roofprobe.costmodel") / "data" / "models"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )
    return tuple(
        Preset(name, tuple(row["hub"]), row["source"], row["config"])
        for file in files
        for name, row in tomllib.loads(file.read_text(encoding="utf-8")).items()
    )


@functools.cache
def _by_name() -> dict[str, Preset]:
    found: dict[str, Preset] = {}
    for preset in load_presets():
        names = {preset.name, *preset.hub_ids, *(i.partition("/")[2] for i in preset.hub_ids)}
        for name in names - {""}:
            if found.setdefault(normalise(name), preset) is not preset:
                raise ValueError(f"models: {name} belongs to two presets")
    return found
