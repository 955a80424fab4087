"""Curves over size: steps where a cache ends, marks from the device, words with the numbers."""

from __future__ import annotations

from typing import Any

from roofprobe.records.schema import (
    CacheLevel,
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Population,
    Run,
)
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.memory_ladder import (
    bandwidth_curves,
    latency_curves,
    latency_ladder,
    memory_curve,
    touched_bytes,
)
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.wire_tables import wire_tables

KIB, MIB = 1 << 10, 1 << 20
DEVICE = Device(
    device_id="gpu", torch_device="cuda:0", backend="cuda", name="Example",
    last_level_cache_bytes=32 * MIB,
)  # fmt: skip


def figure(unit: str, value: float) -> Distribution:
    return Distribution(unit=unit, median=value, ci_low=value, ci_high=value, p10=value, p90=value,
                        best=value, n=9)  # fmt: skip


def stream(op: str, arrays: int, size: int, rate: float, passes: int = 1) -> Measurement:
    return Measurement(
        case=Case(
            case_id=f"curve/{op}/{size}", family="memory", op=op, precision="fp32",
            route="triton", shape={"elements": size // 4}, role="curve",
        ),
        device_id="gpu", status="ok", rate=figure("GB/s", rate), array_bytes=size,
        bytes_read=arrays * size * passes, bytes_written=0,
        kernel_config={"passes": passes} if passes > 1 else None,
    )  # fmt: skip


def chase(size: int, ns: float, *groups: tuple[float, float], config: str = "l1, default pages"
) -> Measurement:  # fmt: skip
    return Measurement(
        case=Case(
            case_id=f"chase/{config}/{size}", family="latency", op="chase", precision="none",
            route="chase", shape={"footprint_bytes": size}, config=config,
        ),
        device_id="gpu", status="ok", access_ns=figure("ns", ns),
        access_populations=tuple(
            Population(share=share, cycles_p10=c - 5, cycles_median=c, cycles_p90=c + 5)
            for share, c in groups
        ),
    )  # fmt: skip


def run_of(*measurements: Measurement, **more: Any) -> Run:
    return Run(
        run_id="r", status="complete", started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(DEVICE,), measurements=measurements, **more,
    )  # fmt: skip


STREAMS = (
    stream("read", 1, MIB, 900.0), stream("read", 1, 16 * MIB, 800.0, passes=4),
    stream("read", 1, 64 * MIB, 100.0), stream("triad", 3, MIB, 700.0),
)  # fmt: skip


def test_what_is_gone_through_is_every_array_of_one_pass() -> None:
    assert touched_bytes(stream("triad", 3, MIB, 1.0)) == 3 * MIB
    assert touched_bytes(stream("read", 1, 16 * KIB, 1.0, passes=4096)) == 16 * KIB
    read, triad = bandwidth_curves(run_of(*STREAMS), "gpu")
    assert (read.sizes, read.values) == ((MIB, 16 * MIB, 64 * MIB), (900.0, 800.0, 100.0))
    assert triad.sizes == (3 * MIB,)
    assert read.steepest() == (1, 8.0)


def test_the_curve_tells_its_ends_its_step_and_marks_the_cache() -> None:
    sheet = Ceiling(device_id="gpu", kind="datasheet", family="memory", peak_key="dram_gbps",
                    value=150.0, unit="GB/s", basis="b")  # fmt: skip
    with figure_style():
        exhibit = memory_curve(run_of(*STREAMS, ceilings=(sheet,)), "gpu", NOTHING)
        assert exhibit is not None
        (drawing,) = exhibit.drawings
        svg = inline_svg(drawing.figure, "k", drawing.label, StyleSheet())
    assert drawing.sentence == (
        "read comes with 900 GB/s from 1.00 MiB and with 100 GB/s from 64.0 MiB, 11% of it; the "
        "greatest step is a factor of 8.0, between 16.0 MiB and 64.0 MiB. The device states "
        "32.0 MiB of last-level cache. What lies above the dashed line came from a cache: memory "
        "cannot be that fast."
    )
    assert "triad: 700 GB/s at 3.00 MiB" in drawing.label
    for words in ("last-level cache 32.0 MiB", "datasheet 150 GB/s", "64M"):
        assert f">{words}<" in svg
    assert "<title>read, 64.0 MiB: 100 GB/s</title>" in svg
    assert exhibit.tables[0].rows


def test_levels_are_marked_for_all_cores_and_for_one_and_told_in_one_table() -> None:
    caches = tuple(
        CacheLevel(level=number, kind="unified", instance_bytes=size, instance_count=count,
                   used_count=count, shared_by=1, source="system")
        for number, size, count in ((1, 32 * KIB, 2), (2, 2 * MIB, 2), (3, 32 * MIB, 1))
    )  # fmt: skip
    device = DEVICE.model_copy(
        update={"backend": "cpu", "unit": "core", "unit_count": 2, "caches": caches}
    )
    chases = (chase(16 * KIB, 1.0), chase(4 * MIB, 9.0), chase(64 * MIB, 90.0))
    run = run_of(*STREAMS, *chases).model_copy(update={"devices": (device,)})
    with figure_style():
        curve, ladder = memory_curve(run, "gpu", NOTHING), latency_ladder(run, "gpu", NOTHING)
        assert curve is not None
        assert ladder is not None
        svgs = [
            inline_svg(exhibit.drawings[0].figure, "k", "label", StyleSheet())
            for exhibit in (curve, ladder)
        ]
    assert ">L2 4.00 MiB<" in svgs[0]
    assert ">L1 64.0 KiB<" not in svgs[0]  # smaller than what was gone through
    assert all(f">{label}<" in svgs[1] for label in ("L1 32.0 KiB", "L2 2.00 MiB", "L3 32.0 MiB"))
    assert "last-level" not in "".join(svgs)
    assert curve.drawings[0].sentence.endswith(
        " Stated for 2 cores together: L1 64.0 KiB, L2 4.00 MiB, L3 32.0 MiB."
    )
    assert ladder.drawings[0].sentence.endswith(
        " Stated for one core: L1 32.0 KiB, L2 2.00 MiB, L3 32.0 MiB."
    )
    assert [len(exhibit.tables) for exhibit in (curve, ladder)] == [2, 1]
    assert curve.tables[1].rows[1] == ("L2", "2.00 MiB", "2 of 2", "4.00 MiB", "1 core", "system")
    assert curve.tables[1] in wire_tables(run, "gpu")
    with figure_style():
        alone = latency_ladder(run.model_copy(update={"measurements": chases}), "gpu", NOTHING)
    assert alone is not None
    assert alone.tables[1] == curve.tables[1]


def test_two_sizes_are_no_curve_and_two_footprints_no_ladder() -> None:
    assert memory_curve(run_of(*STREAMS[:2]), "gpu", NOTHING) is None
    assert latency_ladder(run_of(chase(KIB, 1.0), chase(MIB, 9.0)), "gpu", NOTHING) is None
    assert memory_curve(run_of(), "gpu", NOTHING) is None


def test_the_ladder_joins_ways_and_shows_groups_of_single_loads() -> None:
    run = run_of(
        chase(16 * KIB, 20.0, (1.0, 40.0)),
        chase(4 * MIB, 200.0, (0.6, 260.0), (0.4, 420.0), config="l2, default pages"),
        chase(64 * MIB, 500.0, (1.0, 800.0), config="l2, default pages"),
    )
    (curve,) = latency_curves(run, "gpu")
    assert (curve.name, curve.sizes) == ("default pages", (16 * KIB, 4 * MIB, 64 * MIB))
    with figure_style():
        exhibit = latency_ladder(run, "gpu", NOTHING)
        assert exhibit is not None
        ladder, groups = exhibit.drawings
        svg = inline_svg(groups.figure, "k", groups.label, StyleSheet())
    assert ladder.sentence.startswith(
        "A load waits 20 ns in 16.0 KiB and 500 ns in 64.0 MiB; the greatest step is a factor of "
        "10.0, between 16.0 KiB and 4.00 MiB."
    )
    assert groups.sentence.startswith(
        "In 4.00 MiB, 60% of single loads take 260 cycles and 40% take 420"
    )
    assert "<title>4.00 MiB: 420 cycles (40%)</title>" in svg


def test_one_group_each_needs_no_second_figure() -> None:
    run = run_of(*(chase(KIB << n, 1.0 + n, (1.0, 40.0)) for n in (4, 8, 12)))
    with figure_style():
        exhibit = latency_ladder(run, "gpu", NOTHING)
    assert exhibit is not None
    assert len(exhibit.drawings) == 1
