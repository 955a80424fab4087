import io
import threading
from collections.abc import Sequence
from typing import TextIO

import pytest
from rich.console import Console

from roofprobe.records.schema import Device, Measurement, Run
from roofprobe.reporting.progress import (
    LiveProgress,
    PlainProgress,
    Progress,
    Silent,
    Tally,
    progress_for,
)


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(
    view: Progress, devices: Sequence[Device], measurements: Sequence[Measurement], clock: FakeClock
) -> None:
    view.begin(devices, 20, 200.0)
    for measurement in measurements:
        view.started(measurement.device_id, measurement.case)
        clock.now += 20.0
        view.finished(measurement.device_id, measurement)
    view.message("A worker was started again.")
    view.end()


def test_plain_lines_are_exact(example_run: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    chosen = [example_run.measurements[i] for i in (1, 5, 8, 11, 12, 14)]
    play(PlainProgress(stream, clock), example_run.devices, chosen, clock)
    assert stream.getvalue().splitlines() == [
        "20 cases on cuda:0 Example GPU, cpu Example CPU, about 03:20",
        "[ 1/20 04:13 left] cuda:0 gemm bf16 torch.mm 8192x8192x8192  800 TFLOPS",
        "[ 2/20 04:30 left] cuda:0 gemm nvfp4 torch._scaled_mm 8192x8192x8192  "
        "skipped: nvfp4 needs an architecture that applies block scales.",
        "[ 3/20 04:32 left] cuda:0 gemm tf32 triton 8192x8192x8192  "
        "failed: The error 0.9 is above the tolerance 0.01.",
        "[ 4/20 04:27 left] cuda:0 write fp32 triton 268M elements  "
        "invalid: 9000 GB/s is more than the memory interface can carry.",
        "[ 5/20 04:17 left] cpu    gemm fp32 torch.mm 2048x2048x2048  100 GFLOPS",
        "[ 6/20 04:05 left] cpu    copy fp32 torch 268M elements  20.5 GB/s",
        "A worker was started again.",
        "6 cases done in 02:00",
    ]


def test_without_an_expected_time_what_happened_so_far_decides() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin(total=4, expected_s=0.0)
    assert tally.left_s() is None
    clock.now += 10
    tally.count()
    assert tally.left_s() == 30.0
    clock.now += 4
    assert tally.left_s() == 26.0


def test_when_all_goes_as_expected_the_estimate_is_the_expectation() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin(total=4, expected_s=40.0)
    assert tally.left_s() == 40.0
    clock.now += 10
    tally.count()
    assert tally.left_s() == 30.0
    clock.now += 100
    assert tally.left_s() == 0.0
    for _ in range(3):
        tally.count()
    assert tally.left_s() == 0.0


@pytest.mark.parametrize("total", [0, 1])
def test_more_cases_than_planned_are_no_error(total: int, example_run: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    view = PlainProgress(stream, clock)
    view.begin((), total, 0.0)
    view.finished("new-device", example_run.measurements[1])
    view.finished("new-device", example_run.measurements[1])
    assert f"[2/{total} 00:00 left] new-device gemm" in stream.getvalue()


@pytest.mark.parametrize("stream", [ClosedPipe(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_a_closed_pipe_or_a_poor_encoding_never_reaches_the_run(
    stream: TextIO, example_run: Run, hostile_run: Run
) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.detach()
    for run in (example_run, hostile_run):
        clock = FakeClock()
        play(PlainProgress(stream, clock), run.devices, run.measurements, clock)
        play(LiveProgress(terminal(stream), clock), run.devices, run.measurements, clock)


def test_plain_lines_are_written_in_the_streams_encoding(hostile_run: Run) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    view = PlainProgress(stream)
    view.message("±1 … 设备\x1b[31m")
    assert raw.getvalue() == b"+-1 ... ??\\x1b[31m\n"


def terminal(stream: TextIO) -> Console:
    return Console(file=stream, force_terminal=True, width=80, height=20, _environ={})


def picture(view: LiveProgress) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as capture:
        console.print(view.picture())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_live_view_shows_what_is_measured_how_far_it_is_and_the_best(
    example_run: Run,
) -> None:
    clock, stream = FakeClock(), Terminal()
    small, bf16, fp64 = example_run.measurements[:3]
    view = LiveProgress(terminal(stream), clock)
    view.begin(example_run.devices, 4, 40.0)
    for measurement in (bf16, small):
        view.started(measurement.device_id, measurement.case)
        clock.now += 10
        view.finished(measurement.device_id, measurement)
    view.started(fp64.device_id, fp64.case)
    head, current, best = picture(view)
    view.end()
    assert head.endswith("2/4  00:20  about 00:20 left")
    assert current == "cuda:0  gemm fp64 torch.mm 4096x4096x4096"
    assert best.split() == ["cuda:0", "bf16", "800", "TFLOPS"]


def test_the_live_view_tells_failures_and_leaves_the_cursor_visible(example_run: Run) -> None:
    clock, stream = FakeClock(), Terminal()
    play(
        LiveProgress(terminal(stream), clock), example_run.devices, example_run.measurements, clock
    )
    text = stream.getvalue()
    assert "failed: The error 0.9 is above the" in text
    assert "A worker was started again." in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_clock_that_fails_silences_the_view_only(example_run: Run) -> None:
    ticks = iter([1.0, 2.0, 2.0])
    view = LiveProgress(terminal(Terminal()), lambda: next(ticks))
    play(view, example_run.devices, example_run.measurements, FakeClock())
    assert view.mute


def test_threads_may_report_at_once(example_run: Run) -> None:
    stream = Terminal()
    view = LiveProgress(terminal(stream))
    view.begin(example_run.devices, 400, 1.0)

    def report() -> None:
        for _ in range(25):
            for measurement in example_run.measurements[:2]:
                view.started(measurement.device_id, measurement.case)
                view.finished(measurement.device_id, measurement)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    view.end()
    assert (view.tally.done, view.mute) == (200, False)


def test_the_view_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress_for(Terminal()), LiveProgress)
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(Terminal(), quiet=True), Silent)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(Terminal()), PlainProgress)


def test_silent_says_nothing(example_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    play(Silent(), example_run.devices, example_run.measurements, FakeClock())
    assert capsys.readouterr() == ("", "")
