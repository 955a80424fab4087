"""Repeats beside the figure that they stand in for; the verdict's own word on each."""

from __future__ import annotations

from typing import Any

from roofprobe.acceptance.verdict.retest import repeats_of
from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Finding,
    Measurement,
    Options,
    Reason,
    Run,
    Verdict,
)
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.retest_tables import retest_table


def copied(gbps: float, number: int = 0, **case: Any) -> Measurement:
    spread = {name: gbps for name in ("median", "ci_low", "ci_high", "p10", "p90", "best")}
    return Measurement(
        case=Case.model_validate(
            {
                "case_id": "copy", "family": "memory", "op": "copy", "precision": "fp32",
                "route": "torch", "shape": {"elements": 1}, **case,
            }
        ),
        device_id=f"GPU-{number}", status="ok",
        rate=Distribution(unit="GB/s", n=10, **spread),
    )  # fmt: skip


def repeated(first: Measurement, *gbps: float) -> tuple[Measurement, ...]:
    return tuple(
        copied(value).model_copy(update={"case": case, "device_id": first.device_id})
        for case, value in zip(repeats_of(first), gbps, strict=True)
    )


def run_of(*retests: Measurement, finding: Finding | None = None) -> Run:
    devices = tuple(
        Device(device_id=f"GPU-{n}", torch_device=f"cuda:{n}", backend="cuda", name="Example")
        for n in range(2)
    )
    return Run(
        run_id="r", status="complete", started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=devices, measurements=(copied(500.0), copied(1600.0, 1)), retests=retests,
        verdict=Verdict(judgement="fail", findings=(finding,) if finding else ()),
    )  # fmt: skip


LOW = Finding(layer="absolute", code="RP-BANDWIDTH", judgement="fail", device_id="GPU-0",
              case_id="copy", sentence="copy is low")  # fmt: skip


def test_first_figure_repeats_device_and_what_stands_are_one_row() -> None:
    run = run_of(
        *repeated(copied(500.0), 510.0, 490.0, 505.0),
        *repeated(copied(1600.0, 1), 1610.0, 1605.0, 1620.0),
        finding=LOW,
    )
    table = retest_table(run)
    assert table is not None
    assert table.rows == (
        ("copy fp32", "cuda:0", "500 GB/s", "510 GB/s, 490 GB/s, 505 GB/s", "fail RP-BANDWIDTH"),
        (
            "copy fp32", "cuda:1", "1600 GB/s", "1610 GB/s, 1605 GB/s, 1620 GB/s",
            "nothing against it",
        ),
    )  # fmt: skip
    assert table.sentence.startswith("1 figure fell short and was measured again")
    for report in (to_html(run), to_markdown(run)):
        assert "What fell short and was repeated" in report
        assert "510 GB/s, 490 GB/s, 505 GB/s" in report


def test_a_repeat_without_a_figure_says_how_it_ended() -> None:
    good = repeated(copied(500.0), 510.0, 490.0, 505.0)
    gone = good[2].model_copy(
        update={
            "status": "skipped", "rate": None,
            "reason": Reason(code="time-budget", sentence="The time budget ended first."),
        }
    )  # fmt: skip
    table = retest_table(run_of(*good[:2], gone))
    assert table is not None
    assert table.rows[0][3:] == ("510 GB/s, 490 GB/s, skipped", "nothing against it")


def test_a_run_that_repeated_nothing_has_no_table() -> None:
    assert retest_table(run_of()) is None
