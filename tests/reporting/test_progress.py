import io
from collections.abc import Sequence
from typing import TextIO

import pytest

from roofprobe.records.schema import Device, Measurement, Run
from roofprobe.reporting.live_view import LiveProgress
from roofprobe.reporting.progress import PlainProgress, Progress, Silent, progress_for


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
    view: Progress,
    devices: Sequence[Device],
    measurements: Sequence[Measurement],
    clock: FakeClock,
    expected_s: float = 20.0,
) -> None:
    view.begin(devices, [(m.device_id, m.case, expected_s) for m in measurements])
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
        "6 cases on cuda:0 Example GPU, cpu Example CPU, about 02:00",
        "[1/6, about 01:40 left] cuda:0: bf16 800 TFLOPS",
        "[2/6, about 01:20 left] cuda:0 gemm nvfp4 torch._scaled_mm 8192x8192x8192: "
        "skipped: nvfp4 needs an architecture that applies block scales.",
        "[3/6, about 01:00 left] cuda:0 gemm tf32 triton 8192x8192x8192: "
        "failed: The error 0.9 is above the tolerance 0.01.",
        "[4/6, about 00:40 left] cuda:0 write fp32 triton 268M elements: "
        "invalid: 9000 GB/s is more than the memory interface can carry.",
        "[5/6, about 00:20 left] cpu: fp32 100 GFLOPS",
        "[6/6, about 00:00 left] cpu: memory 20.5 GB/s",
        "A worker was started again.",
        "6 cases done in 02:00: 3 ok, 1 skipped, 1 failed, 1 invalid",
    ]


def test_a_long_run_gets_twenty_lines_and_not_one_per_case(eight_h100s: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    view = PlainProgress(stream, clock)
    view.begin(eight_h100s.devices, [(m.device_id, m.case, 0.1) for m in eight_h100s.measurements])
    for measurement in eight_h100s.measurements:
        view.started(measurement.device_id, measurement.case)
        clock.now += 0.1
        view.finished(measurement.device_id, measurement)
    view.end()
    _, *lines, last = stream.getvalue().splitlines()
    assert len(eight_h100s.measurements) > 900
    assert len(lines) == 20
    assert lines[-1].startswith("[968/968, about 00:00 left] ")
    text = "\n".join(lines)
    assert "8 x NVIDIA H100 80GB HBM3: " in text
    assert "bf16 794 TFLOPS (80%)" in text
    assert "memory 3200 GB/s (96%)" in text
    assert last.startswith("968 cases done in 01:37: ")
    assert "skipped" in last


def test_a_slow_run_says_something_every_half_minute(eight_h100s: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    chosen = eight_h100s.measurements[:90]
    play(PlainProgress(stream, clock), eight_h100s.devices, chosen, clock)
    lines = stream.getvalue().splitlines()
    assert 45 <= len(lines) <= 70  # one in two cases of 20 s


def test_one_reason_for_many_failures_is_told_once_per_device(example_run: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    failed = example_run.measurements[8]
    view = PlainProgress(stream, clock)
    view.begin(example_run.devices, [(failed.device_id, failed.case, 0.0)] * 100)
    for device_id in (failed.device_id, "cpu") * 50:
        view.finished(device_id, failed)
    view.end()
    told = [line for line in stream.getvalue().splitlines() if "failed: " in line]
    assert len([line for line in told if "cpu gemm" in line.partition("] ")[2]]) <= 11
    assert len(told) <= 22
    assert stream.getvalue().endswith("100 cases done in 00:00: 100 failed\n")


def test_more_cases_than_planned_are_no_error(example_run: Run) -> None:
    stream, clock = io.StringIO(), FakeClock()
    view = PlainProgress(stream, clock)
    view.begin((), [])
    view.finished("new-device", example_run.measurements[1])
    view.finished("new-device", example_run.measurements[1])
    assert "[2/0, about 00:00 left] new-device" in stream.getvalue()


@pytest.mark.parametrize("stream", [ClosedPipe(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_a_closed_pipe_or_a_poor_encoding_never_reaches_the_run(
    stream: TextIO, example_run: Run, hostile_run: Run
) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.detach()
    for run in (example_run, hostile_run):
        clock = FakeClock()
        play(PlainProgress(stream, clock), run.devices, run.measurements, clock)


def test_plain_lines_are_written_in_the_streams_encoding(hostile_run: Run) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    view = PlainProgress(stream)
    view.message("±1 … 设备\x1b[31m")
    assert raw.getvalue() == b"+-1 ... ??\\x1b[31m\n"


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
