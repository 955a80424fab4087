"""Colours of the page against what they lie on, by WCAG 2.2, in light and dark.

Formulas: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio and #dfn-relative-luminance. Text needs
4.5 to 1 (1.4.3), marks and lines that carry data 3 to 1 (1.4.11). Axe does not look into figures.
How colours look without one kind of cones: Machado, Oliveira, Fernandes, "A Physiologically-based
Model for Simulation of Color Vision Deficiency", IEEE TVCG 15 (2009), severity 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from roofprobe.reporting.svg import HEAT_LEVELS, SERIES_COUNT

CSS = (resources.files("roofprobe.reporting") / "templates" / "report.css").read_text("utf-8")
Color = npt.NDArray[np.float64]
LOOKS = ("light", "dark")
GROUNDS = ("page", "card")
TEXTS = ("ink", "muted", "pass", "warn", "fail", "unknown", "accent")
SERIES = tuple(f"series-{number}" for number in range(SERIES_COUNT))
# linear RGB seen without long, middle or short cones
CONES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def variables(look: str) -> dict[str, str]:
    """Return the colours of a look: the dark ones replace the light ones."""
    light, dark = CSS.split("prefers-color-scheme: dark", 1)
    found = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", light))
    if look == "dark":
        found |= re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", dark.split("\n}\n")[0])
    return found


def linear(color: str) -> Color:
    parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(color)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_the_standards_own_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("look", LOOKS)
def test_both_looks_name_every_colour(look: str) -> None:
    assert len(variables("dark")) == len(variables("light")) >= 2 * HEAT_LEVELS + SERIES_COUNT
    assert {*GROUNDS, *TEXTS, *SERIES} <= variables(look).keys()


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("text", [*TEXTS, *SERIES])  # roofs are named in their series' colour
@pytest.mark.parametrize("look", LOOKS)
def test_text_can_be_read(look: str, text: str, ground: str) -> None:
    colors = variables(look)
    assert contrast(colors[text], colors[ground]) >= 4.5


@pytest.mark.parametrize("level", range(HEAT_LEVELS))
@pytest.mark.parametrize("look", LOOKS)
def test_the_number_in_a_cell_can_be_read(look: str, level: int) -> None:
    colors = variables(look)
    assert contrast(colors[f"heat-ink-{level}"], colors[f"heat-{level}"]) >= 4.5


@pytest.mark.parametrize("look", LOOKS)
def test_levels_of_a_map_go_one_way(look: str) -> None:
    colors = variables(look)
    away = [contrast(colors[f"heat-{level}"], colors["card"]) for level in range(HEAT_LEVELS)]
    assert away == sorted(away)


@pytest.mark.parametrize(
    "least", [(14, (0, 1, 2, 3)), (14, (0, 1, 4, 6)), (6, range(SERIES_COUNT))]
)
@pytest.mark.parametrize("kind", CONES)
@pytest.mark.parametrize("look", LOOKS)
def test_series_stay_apart_without_one_kind_of_cones(
    look: str, kind: str, least: tuple[float, Sequence[int]]
) -> None:
    """The first four, and the four of the stacked bars, by colour alone; all have own markers."""
    colors = variables(look)
    distance, members = least
    seen = [
        lab(np.clip(np.array(CONES[kind]) @ linear(colors[SERIES[member]]), 0, 1))
        for member in members
    ]
    for one, other in combinations(seen, 2):
        assert float(np.linalg.norm(one - other)) >= distance


def lab(rgb: Color) -> Color:
    """Return CIE L*a*b* (D65) of linear sRGB; a distance of 2.3 is just noticeable."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    part = to_xyz @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(part > 216 / 24389, np.cbrt(part), (24389 / 27 * part + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
