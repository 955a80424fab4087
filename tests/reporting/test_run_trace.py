"""The run as a diary: readings at their time, families and throttling as stretches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from roofprobe.records.schema import (
    Case,
    Device,
    Environment,
    Limits,
    Measurement,
    Options,
    Run,
    Span,
    Telemetry,
    TracePoint,
)
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.run_trace import Stretch, diary_of, run_trace
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
GPU = Device(device_id="gpu", torch_device="cuda:0", backend="cuda", name="Example",
             limits=Limits(power_limit_w=500))  # fmt: skip


def measured(
    at_s: float, family: Any, clocks: list[float], *, held: bool = False, **more: Any
) -> Measurement:
    points = tuple(
        TracePoint(
            at_s=float(n), sm_clock_mhz=clock, power_w=300 + 10 * n, temperature_c=40 + at_s / 60,
            throttle_reasons=("sw-power-cap",) if held else (),
        )
        for n, clock in enumerate(clocks)
    )  # fmt: skip
    return Measurement(
        case=Case(case_id=f"{family}{at_s}", family=family, op="o", precision="bf16", route="r",
                  shape={}),
        device_id="gpu", status="ok", started_at=(BEGIN + timedelta(seconds=at_s)).isoformat(),
        wall_s=float(len(clocks) - 1), telemetry=Telemetry(trace=points, **more),
    )  # fmt: skip


def run_of(*measurements: Measurement) -> Run:
    return Run(
        run_id="r", status="complete", started_at=BEGIN.isoformat(),
        options=Options(families=("compute",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(GPU,), measurements=measurements,
    )  # fmt: skip


TEN_MINUTES = (
    measured(0, "compute", [1900.0, 1880.0, 1860.0, 1850.0]),
    measured(5, "compute", [1850.0] * 4, held=True),
    measured(300, "memory", [1950.0] * 4),
    measured(590, "compute", [1700.0] * 11),
)


def test_readings_stand_at_their_time_and_equal_neighbours_are_one_stretch() -> None:
    diary = diary_of(run_of(*reversed(TEN_MINUTES)), "gpu")
    assert diary is not None
    assert diary.families == (
        Stretch(0, 8, "compute"), Stretch(300, 303, "memory"), Stretch(590, 600, "compute"),
    )  # fmt: skip
    assert diary.throttled == (Stretch(5, 8, "sw-power-cap"),)
    clocks = diary.readings["clock"]
    assert [(r.at_s, r.value) for r in clocks[:2]] == [(0.0, 1900.0), (1.0, 1880.0)]
    assert diary.end_s == 600


def test_ten_minutes_are_told_in_one_figure_with_its_marks_and_its_table() -> None:
    with figure_style():
        exhibit = run_trace(run_of(*TEN_MINUTES), "gpu", NOTHING)
        assert exhibit is not None
        (drawing,) = exhibit.drawings
        svg = inline_svg(drawing.figure, "k", drawing.label, StyleSheet())
    assert drawing.title == "Clock, power, temperature over the run"
    assert drawing.sentence == (
        "The clock stays between 1700 and 1950 MHz and is lowest at 09:50 min, in compute. "
        "Power reads at most 400 W of its limit of 500 W, in compute. "
        "It goes from 40 °C at the begin to 50 °C at the end, 50 °C at most. "
        "It was held back for 3.00 s (sw-power-cap)."
    )
    for words in ("throttled, sw-power-cap: 5.00 s to 8.00 s", "memory: 05:00 min to 05:03 min"):
        assert f"<title>{words}</title>" in svg
    assert "minutes since the run began" in svg
    (table,) = exhibit.tables
    assert table.rows[1] == (
        "memory", "3.00 s", "1950 (1950–1950) MHz", "315 (300–330) W", "45 (45–45) °C", "no",
    )  # fmt: skip


def test_a_clock_that_is_only_stated_gives_way_to_the_counted_one() -> None:
    missing = {"throttle_reasons": "not supported"}
    cases = [
        measured(10 * n, "compute", [2500.0] * 2, missing=missing).model_copy(
            update={"clock_mhz": Span(min=1, median=4000.0 + n, max=9999)} if n else {}
        )
        for n in range(12)
    ]
    diary = diary_of(run_of(*cases), "gpu")
    assert diary is not None
    assert [r.value for r in diary.readings["clock"]] == [4000.0 + n for n in range(1, 12)]
    assert not diary.throttling_told
    with figure_style():
        exhibit = run_trace(run_of(*cases), "gpu", NOTHING)
    assert exhibit is not None
    assert "throttled" not in exhibit.tables[0].heads
    assert "held back" not in exhibit.drawings[0].sentence


def test_where_nothing_moves_or_no_time_is_known_there_is_no_figure(
    example_run: Run, empty_run: Run
) -> None:
    assert run_trace(empty_run, "gpu", NOTHING) is None
    assert run_trace(example_run, "GPU-00000000-example", NOTHING) is None
    odd = TEN_MINUTES[0].model_copy(update={"started_at": "yesterday"})
    assert diary_of(run_of(odd), "gpu") is None
