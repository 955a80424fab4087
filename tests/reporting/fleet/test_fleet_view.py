"""A fleet's verdict on a terminal."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict
from roofprobe.records.fleet.dataset import Refused
from roofprobe.reporting.fleet import fleet_rows, fleet_view

GOLDEN = Path(__file__).parents[1] / "golden"


def shown(
    verdict: FleetVerdict, refused: Sequence[Refused] = (), *, full: bool = False,
    encoding: str = "utf-8",
) -> str:  # fmt: skip
    data = io.BytesIO()
    out = io.TextIOWrapper(data, encoding=encoding)
    fleet_view.render(verdict, refused, Console(file=out, width=80, highlight=False), full=full)
    out.flush()
    return data.getvalue().decode(encoding)


def test_the_verdict_is_shown_as_it_was(
    verdict: FleetVerdict, refused: tuple[Refused, ...]
) -> None:
    golden = GOLDEN / "fleet.txt"
    text = shown(verdict, refused)
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_what_is_simulated_says_so_before_anything_else(verdict: FleetVerdict) -> None:
    assert shown(verdict).startswith("SIMULATED: made up for a test")


def test_the_verdict_comes_before_its_reasons_and_fits_eighty_columns(
    hostile_verdict: FleetVerdict, refused: tuple[Refused, ...]
) -> None:
    for full in (False, True):
        text = shown(hostile_verdict, refused, full=full)
        assert text.index("Fleet: FAIL") < text.index("Devices that do not pass")
        assert max(map(len, text.splitlines())) <= 80
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_of_many_devices_the_worst_are_told_and_the_rest_counted(
    large_verdict: FleetVerdict,
) -> None:
    text = shown(large_verdict)
    assert "4,952 more devices; --full and --json have all" in text
    assert "and 3 more devices of this host" in text
    assert len(text.splitlines()) < 120


def test_what_else_is_found_about_a_device_is_named_beside_the_worst(
    verdict: FleetVerdict,
) -> None:
    slow, drifting = verdict.devices
    both = slow.model_copy(update={"findings": (*slow.findings, *drifting.findings)})
    same_host = slow.model_copy(update={"position": 0})
    text = shown(verdict.model_copy(update={"devices": (both, same_host)}))
    assert "also drift" in text
    assert "more device" not in text  # the other one does not drift
    assert "also" not in shown(verdict)


def test_a_terminal_without_unicode_gets_plain_signs(verdict: FleetVerdict) -> None:
    assert "-20.0%" in shown(verdict, encoding="ascii")


@pytest.mark.parametrize(
    ("judgement", "strict", "code"),
    [("pass", True, 0), ("warn", False, 0), ("warn", True, 1), ("fail", False, 1),
     ("unknown", False, 3), ("unknown", True, 3)],
)  # fmt: skip
def test_exit_codes(verdict: FleetVerdict, judgement: str, strict: bool, code: int) -> None:
    judged = verdict.model_copy(update={"judgement": judgement})
    assert fleet_rows.exit_code(judged, strict=strict) == code


def test_the_json_document_keeps_to_the_schema_and_can_be_read_again(
    verdict: FleetVerdict,
) -> None:
    from jsonschema import Draft202012Validator

    from roofprobe.acceptance.fleet.fleet_verdict import fleet_verdict_json_schema

    document = fleet_view.to_json(verdict)
    Draft202012Validator(fleet_verdict_json_schema()).validate(document)
    assert FleetVerdict.model_validate(document) == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.0%"), (-0.0004, "0.0%"), (-0.048, "−4.8%"), (0.1, "+10.0%")],
)
def test_effects_are_written_with_their_sign(value: float | None, text: str) -> None:
    assert fleet_rows.effect(value) == text


def test_an_effect_that_is_not_that_of_the_figure_beside_it_says_of_what_it_is(
    verdict: FleetVerdict,
) -> None:
    slow = next(f for d in verdict.devices for f in d.findings if f.code == "slow")
    assert "over all of" not in fleet_rows.held(slow)
    assert "effect −15.0%" in fleet_rows.held(slow.model_copy(update={"effect": -0.15}))
    assert "over all of compute" in fleet_rows.held(slow.model_copy(update={"effect": -0.15}))
