import numpy as np

from roofprobe.records.schema import Run, Telemetry, TracePoint
from roofprobe.reporting.search_tables import searches_of
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.time_figures import (
    Trace,
    search_figure,
    trace_figure,
    trace_rows,
    traces_of,
)

GPU = "GPU-compute"


def test_a_trace_tells_where_clock_and_power_began_and_ended(compute_run: Run) -> None:
    bf16, fp8 = trace_rows(compute_run, GPU)
    assert (bf16.label, bf16.regime, bf16.seconds) == ("bf16", "settled", "5.90 s")
    assert (bf16.clock, bf16.power) == ("1850 → 1500 MHz", "275 → 500 W")
    assert (fp8.label, fp8.clock, fp8.throttle) == ("fp8-fast", "1840 → 1420 MHz", "sw-power-cap")


def test_the_sentence_names_the_clock_that_fell_most_and_the_limit(compute_run: Run) -> None:
    drawing = trace_figure(compute_run, GPU)
    assert drawing is not None
    assert drawing.sentence == (
        "The clock of fp8-fast goes from 1840 to 1420 MHz in 5.9 s. "
        "Power reaches the limit of 500 W (greatest reading 500 W). Bars above the first panel: a "
        "case was throttled then."
    )


def test_without_readings_there_is_no_figure(compute_run: Run, example_run: Run) -> None:
    assert trace_figure(compute_run, "cpu") is None
    assert trace_rows(example_run, "GPU-00000000-example") == ()


def test_a_clock_that_is_only_stated_is_no_trace(compute_run: Run) -> None:
    stated = tuple(TracePoint(at_s=float(n), sm_clock_mhz=2500) for n in range(9))
    measurements = tuple(
        m.model_copy(update={"telemetry": Telemetry(trace=stated)})
        for m in compute_run.measurements
    )
    run = compute_run.model_copy(update={"measurements": measurements})
    assert trace_figure(run, GPU) is None
    assert trace_rows(run, GPU) == ()


def test_power_that_nobody_told_is_not_drawn(compute_run: Run) -> None:
    points = tuple(TracePoint(at_s=0.5 * n, sm_clock_mhz=1500 + n) for n in range(5))
    measurements = tuple(
        m.model_copy(update={"telemetry": Telemetry(trace=points)})
        for m in compute_run.measurements
        if m.case.role == "settled"
    )
    run = compute_run.model_copy(update={"measurements": measurements})
    drawing = trace_figure(run, GPU)
    assert drawing is not None
    assert drawing.title == "Clock while it ran"
    assert drawing.sentence == "The clock stays where it began in every case."
    assert len(drawing.figure.axes) == 1


def test_long_traces_are_thinned_but_keep_their_end(compute_run: Run) -> None:
    points = tuple(TracePoint(at_s=0.1 * n, sm_clock_mhz=1500 - n % 7) for n in range(3000))
    settled = next(m for m in compute_run.measurements if m.case.role == "settled")
    long = settled.model_copy(update={"telemetry": Telemetry(trace=points)})
    drawing = trace_figure(compute_run.model_copy(update={"measurements": (long,)}), GPU)
    assert drawing is not None
    times = np.asarray(drawing.figure.axes[0].lines[0].get_xdata())
    assert len(times) <= 151
    assert times[-1] == points[-1].at_s


def test_a_settled_trace_outranks_a_longer_burst(compute_run: Run) -> None:
    settled = next(m for m in compute_run.measurements if m.case.role == "settled")
    points = tuple(TracePoint(at_s=float(n), sm_clock_mhz=1000 + n) for n in range(100))
    burst = settled.model_copy(
        update={
            "case": settled.case.model_copy(update={"regime": "burst"}),
            "telemetry": Telemetry(trace=points),
        }
    )
    run = compute_run.model_copy(update={"measurements": (burst, settled)})
    (trace,) = traces_of(run, GPU)
    assert trace.regime == "settled"


def test_a_sensor_with_too_few_readings_has_no_ends() -> None:
    points = (TracePoint(at_s=0, sm_clock_mhz=1), TracePoint(at_s=1), TracePoint(at_s=2))
    assert Trace("x", "burst", points).ends("sm_clock_mhz") is None


def test_a_search_is_drawn_with_its_anchor_its_candidates_and_its_best(compute_run: Run) -> None:
    ((label, measurement, search),) = searches_of(compute_run, GPU)
    with figure_style():
        drawing = search_figure(label, measurement, search)
        assert drawing is not None
        svg = inline_svg(drawing.figure, "k", "label", StyleSheet())
    for words in ("candidates", "anchor", "best, confirmed", "TFLOPS"):
        assert f">{words}<" in svg
    assert drawing.sentence == (
        "Half of the candidates went per rung. The best shape is 16384x8192x4096 with 820 TFLOPS, "
        "+8% against the anchor 8192x8192x8192, whose own rate moved by 3% meanwhile."
    )


def test_a_search_that_saw_nothing_is_not_drawn(compute_run: Run) -> None:
    ((label, measurement, search),) = searches_of(compute_run, GPU)
    nothing = search.model_copy(update={"steps": search.steps[-1:], "best": None})
    assert search_figure(label, measurement, nothing) is None
