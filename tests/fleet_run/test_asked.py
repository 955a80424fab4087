"""What a fleet run was asked for: what figures depend on, however it is written, and the rest."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.fleet_run.asked import Asked
from roofprobe.fleet_run.slots import Expected

ASKED: dict[str, Any] = {"family": "llm", "tier": "quick", "precisions": ("bf16", "fp8")}


@pytest.mark.parametrize(
    "changed",
    [
        {"limit_s": 60.0},
        {"time_budget_s": 300.0},
        {"address": "10.0.0.1:6379"},
        {"expected": (Expected("a", 8),)},
        {"install": False},
        {"precisions": ("fp8", "bf16")},
        {"device": "cuda"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_changes_no_figure_may_differ(changed: dict[str, Any]) -> None:
    assert Asked(**{**ASKED, **changed}).figures() == Asked(**ASKED).figures()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"family": "all"}, "family"),
        ({"tier": "soak"}, "--tier"),
        ({"precisions": ("bf16",)}, "--precision"),
        ({"precisions": ()}, "--precision"),
        ({"seed": 1}, "--seed"),
        ({"device": "cpu"}, "--device"),
        ({"per_node": 1}, "--per-node"),
    ],
    ids=str,
)
def test_what_changes_figures_differs_in_one_name(changed: dict[str, Any], name: str) -> None:
    before, now = Asked(**ASKED).figures(), Asked(**{**ASKED, **changed}).figures()
    assert [each for each in before if before[each] != now[each]] == [name]


def test_the_probe_of_a_slot_gets_the_options_in_its_own_words() -> None:
    assert Asked(**ASKED, seed=7, time_budget_s=5400.0).arguments == (
        "llm", "--tier", "quick", "--seed", "7", "--precision", "bf16,fp8",
        "--time-budget", "5400s",
    )  # fmt: skip
    assert Asked().arguments == ("all", "--tier", "standard", "--seed", "0")
