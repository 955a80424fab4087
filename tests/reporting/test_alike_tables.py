"""Eight equal boards in one table, and the one that is not equal."""

import io

from rich.console import Console

from roofprobe.records.schema import Run
from roofprobe.reporting.alike_tables import alike_devices
from roofprobe.reporting.terminal import render_run


def slowed(run: Run, place: int, factor: float) -> Run:
    """Return the run with all best rates of one device multiplied."""
    wanted = run.devices[place].device_id
    headlines = tuple(
        h.model_copy(update={"rate": h.rate.model_copy(update={"median": h.rate.median * factor})})
        if h.device_id == wanted
        else h
        for h in run.headlines
    )
    return run.model_copy(update={"headlines": headlines})


def shown(run: Run, width: int = 80, *, full: bool = False) -> list[str]:
    stream = io.StringIO()
    render_run(run, Console(file=stream, width=width, _environ={}), full=full)
    return stream.getvalue().splitlines()


def test_the_slowest_of_equal_devices_is_named_with_how_far_they_are_apart(
    eight_h100s: Run,
) -> None:
    (kind,) = alike_devices(slowed(eight_h100s, 5, 0.9))
    assert kind.title == "8 × NVIDIA H100 80GB HBM3"
    bf16 = next(row for row in kind.tables[0].rows if row[0] == "bf16")
    assert bf16 == ("bf16", "794 TFLOPS", "715", "794", "10.0%", "cuda:5", "8", "80%")


def test_equal_devices_have_no_slowest(eight_h100s: Run) -> None:
    (kind,) = alike_devices(eight_h100s)
    assert {row[5] for table in kind.tables for row in table.rows} == {"–"}


def test_a_single_device_is_shown_by_itself(example_run: Run) -> None:
    assert alike_devices(example_run) == ()


def test_eight_gpus_fit_a_page_and_full_tells_each(eight_h100s: Run) -> None:
    brief, full = shown(eight_h100s), shown(eight_h100s, full=True)
    assert len(brief) < 90
    assert max(map(len, brief)) <= 80
    assert any("read fp32" in line and "3180 GB/s" in line and "95%" in line for line in brief)
    assert sum("NVIDIA H100 80GB HBM3 (cuda:" in line for line in full) == 8
