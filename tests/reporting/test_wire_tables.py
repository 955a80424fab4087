"""Small tables of latency, sizes and launches: a row per figure, nothing where there is none."""

from __future__ import annotations

from typing import Any

from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Population,
    Run,
    Span,
)
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.wire_tables import wire_tables

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def figure(unit: str, value: float) -> Distribution:
    return Distribution(unit=unit, median=value, ci_low=value, ci_high=value, p10=value * 0.9,
                        p90=value * 1.1, best=value, n=9)  # fmt: skip


def case(family: Any, op: str, route: str, shape: dict[str, int], **more: Any) -> Case:
    return Case(
        case_id=f"{family}/{op}/{route}/{shape}", family=family, op=op, precision="none",
        route=route, shape=shape, **more,
    )  # fmt: skip


def run_of(*measurements: Measurement) -> Run:
    return Run(
        run_id="20000101T000000Z-example", status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("memory", "latency", "launch")),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(CPU,), measurements=measurements,
    )  # fmt: skip


def ok(case_: Case, **fields: Any) -> Measurement:
    return Measurement(case=case_, device_id="cpu", status="ok", **fields)


CHASE = ok(
    case("latency", "chase", "chase", {"footprint_bytes": 16 << 10}, config="l1, default pages"),
    access_ns=figure("ns", 1.25), clock_mhz=Span(min=4000, median=4000, max=4000),
)  # fmt: skip
CURVE = [
    ok(
        case("memory", op, "machine-code", {"elements": size // 4}, role="curve"),
        array_bytes=size, rate=figure("GB/s", rate),
    )
    for op, size, rate in (("read", 1 << 20, 100.0), ("triad", 1 << 20, 90.0),
                           ("read", 4 << 20, 50.0))
]  # fmt: skip
LAUNCH = ok(case("launch", "launch", "op-enqueue", {}), latency=figure("us", 0.75))


def test_a_load_is_told_in_nanoseconds_and_in_cycles_of_the_counted_clock() -> None:
    (table,) = wire_tables(run_of(CHASE), "cpu")
    assert table.title == "Latency, one load after another"
    assert table.rows == (("16.0 KiB", "1.25 ns", "1.12–1.38", "5"),)
    past = CHASE.case.model_copy(update={"config": "l2, huge pages"})
    (table,) = wire_tables(run_of(CHASE.model_copy(update={"case": past})), "cpu")
    assert table.rows[0][0] == "16.0 KiB, first cache skipped, huge pages"
    silent = CHASE.model_copy(update={"clock_mhz": None})
    (table,) = wire_tables(run_of(silent), "cpu")
    assert table.rows[0][-1] == "–"


def test_single_loads_of_a_gpu_show_both_halves_of_its_cache() -> None:
    groups = [
        Population(share=share, cycles_p10=c - 5, cycles_median=c, cycles_p90=c + 5)
        for share, c in ((0.5, 262.0), (0.5, 448.0))
    ]
    singly = CHASE.model_copy(update={"access_populations": tuple(groups)})
    (table,) = wire_tables(run_of(CHASE, singly), "cpu")
    assert table.heads[-1] == "single loads"
    assert [row[-1] for row in table.rows] == ["", "262 (50%) / 448 (50%)"]
    assert "two groups" in table.sentence


def test_a_curve_is_sizes_by_kernels_with_holes_where_nothing_was_measured() -> None:
    (table,) = wire_tables(run_of(*CURVE), "cpu")
    assert table.heads == ("each array", "read", "triad")
    assert table.rows == (("1.00 MiB", "100 GB/s", "90.0 GB/s"), ("4.00 MiB", "50.0 GB/s", "–"))


def test_a_launch_is_told_with_its_spread() -> None:
    (table,) = wire_tables(run_of(LAUNCH), "cpu")
    assert table.rows == (("op-enqueue", "0.750 µs", "0.675–0.825 µs"),)


def test_what_has_nothing_to_show_is_not_there() -> None:
    assert wire_tables(run_of(), "cpu") == ()
    skipped = CHASE.model_copy(update={"status": "skipped", "access_ns": None})
    assert wire_tables(run_of(skipped), "cpu") == ()


def test_the_reports_show_them_all() -> None:
    run = run_of(CHASE, *CURVE, LAUNCH)
    for report in (to_markdown(run), to_html(run)):
        for words in ("Latency, one load after another", "1.25 ns", "Sizes through the caches",
                      "100 GB/s", "What a launch costs", "op-enqueue"):  # fmt: skip
            assert words in report, words
