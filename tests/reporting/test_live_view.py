"""The live view: pictures from recorded events, and one drawn in a real pseudo-terminal."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from roofprobe.records.schema import Measurement, Run
from roofprobe.reporting.live_view import LiveProgress

GOLDEN = Path(__file__).parent / "golden"


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def view_of(
    run: Run,
    width: int = 80,
    height: int = 24,
    *,
    measured: Sequence[Measurement] | None = None,
    encoding: str = "utf-8",
) -> tuple[LiveProgress, FakeClock]:
    """Return a view in which the first cases of ``run`` have ended, a second each."""
    clock = FakeClock()
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=stream, force_terminal=True, width=width, height=height, _environ={})
    view = LiveProgress(console, clock)
    view.begin(run.devices, [(m.device_id, m.case, 1.0) for m in run.measurements])
    for measurement in run.measurements if measured is None else measured:
        view.started(measurement.device_id, measurement.case)
        clock.now += 1.0
        view.finished(measurement.device_id, measurement)
    return view, clock


def picture(view: LiveProgress) -> list[str]:
    lines = view.picture().plain.split("\n")
    view.end()
    assert not view.mute
    return lines


def golden(name: str, lines: list[str]) -> list[str]:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").splitlines()


def first_cases(run: Run, per_device: int) -> list[Measurement]:
    """Return the first measurements of every device, the devices in turn."""
    by_device = [
        [m for m in run.measurements if m.device_id == device.device_id][:per_device]
        for device in run.devices
    ]
    return [m for turn in zip(*by_device, strict=True) for m in turn]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 20)])
def test_eight_gpus_are_a_line_each_beside_the_best_so_far(
    width: int, height: int, eight_h100s: Run
) -> None:
    measured = first_cases(eight_h100s, 100)
    view, clock = view_of(eight_h100s, width, height, measured=measured)
    for device in eight_h100s.devices[:7]:
        case = next(
            m.case for m in eight_h100s.measurements[100:] if m.device_id == device.device_id
        )
        view.started(device.device_id, case)
    clock.now += 12.0
    lines = picture(view)
    assert lines == golden(f"live_{width}x{height}", lines)
    assert len(lines) < height
    assert max(map(cell_len, lines)) < width
    assert [line[:6] for line in lines[1:9]] == [f"cuda:{place}" for place in range(8)]
    for word in ("bf16", "80%", "fp8 ", "71%", "memory", "3200 GB/s", "96%"):
        assert any(word in line for line in lines), word


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [3, 8, 24, 60])
def test_the_picture_is_never_larger_than_the_terminal(
    width: int, height: int, eight_h100s: Run, hostile_run: Run
) -> None:
    for run in (eight_h100s, hostile_run):
        lines = picture(view_of(run, width, height, measured=run.measurements[:200])[0])
        assert len(lines) < height
        assert max(map(cell_len, lines)) < width


def test_one_device_tells_its_clock_power_and_temperature_below_its_case(
    example_run: Run,
) -> None:
    bf16, fp64 = example_run.measurements[1:3]
    gpu_only = example_run.model_copy(
        update={
            "devices": example_run.devices[:1],
            "measurements": [m for m in example_run.measurements if m.device_id != "cpu"],
        }
    )
    view, clock = view_of(gpu_only, measured=[bf16])
    view.started(fp64.device_id, fp64.case)
    clock.now += 5.0
    assert picture(view)[1:] == [
        "cuda:0  gemm fp64 torch.mm 4096x4096x4096  5 s",
        "        1500 MHz  400 W  60 °C  slowed: sw-power-cap",
        "cuda:0: best so far",
        "bf16  800 TFLOPS",
    ]


def test_where_signs_cannot_be_written_the_picture_is_ascii(eight_h100s: Run) -> None:
    view, _ = view_of(eight_h100s, measured=eight_h100s.measurements[:300], encoding="ascii")
    lines = picture(view)
    assert "\n".join(lines).isascii()
    assert re.fullmatch(r"#+\.+  300/968  05:00  about \d\d:\d\d left", lines[0])


def test_failures_are_told_above_and_the_cursor_is_visible_at_the_end(example_run: Run) -> None:
    stream, clock = Terminal(), FakeClock()
    view = LiveProgress(Console(file=stream, force_terminal=True, width=80, _environ={}), clock)
    view.begin(example_run.devices, [(m.device_id, m.case, 1.0) for m in example_run.measurements])
    for measurement in example_run.measurements:
        view.started(measurement.device_id, measurement.case)
        view.finished(measurement.device_id, measurement)
    view.message("A worker was started again.")
    view.end()
    text = stream.getvalue()
    assert "failed: The error 0.9 is above the" in text
    assert "A worker was started again." in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_hostile_text_never_reaches_the_terminal_as_control(hostile_run: Run) -> None:
    view, _ = view_of(hostile_run)
    assert not any("\x07" in line or "\x1b" in line for line in picture(view))


def test_a_clock_that_fails_silences_the_view_only(example_run: Run) -> None:
    ticks = iter([1.0, 2.0, 2.0])
    console = Console(file=Terminal(), force_terminal=True, _environ={})
    view = LiveProgress(console, lambda: next(ticks))
    view.begin(example_run.devices, [])
    for measurement in example_run.measurements:
        view.started(measurement.device_id, measurement.case)
        view.finished(measurement.device_id, measurement)
    view.end()
    assert view.mute


def test_threads_may_report_at_once(example_run: Run) -> None:
    view, _ = view_of(example_run, measured=[])

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


def test_in_a_narrowed_terminal_the_broken_lines_are_counted(eight_h100s: Run) -> None:
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=80, height=24, _environ={})
    view = LiveProgress(console, FakeClock())
    view.begin(eight_h100s.devices, [(m.device_id, m.case, 1.0) for m in eight_h100s.measurements])
    for device, case in {m.device_id: m.case for m in eight_h100s.measurements}.items():
        view.started(device, case)
    assert view._live is not None
    view._live.refresh()
    wide = view.pictured.split("\n")
    console.width = 30
    stream.seek(0)
    stream.truncate()
    view._live.refresh()
    drawn = stream.getvalue()
    view.end()
    rows = sum(-(-cell_len(line) // 30) for line in wide)
    assert rows > len(wide) == 9
    assert drawn.count("\x1b[1A") == rows - 1


PLAYER = """
import sys, time
from pathlib import Path
from roofprobe.records.runfolder import read_run
from roofprobe.reporting.progress import progress_for
run = read_run(Path(sys.argv[1]))
view = progress_for(sys.stderr)
view.begin(run.devices, [(m.device_id, m.case, 1.0) for m in run.measurements])
try:
    for number, measurement in enumerate(run.measurements):
        view.started(measurement.device_id, measurement.case)
        view.finished(measurement.device_id, measurement)
    if number:
        view.started(measurement.device_id, measurement.case)
        time.sleep(30)
finally:
    view.end()
"""


class Screen:
    """What a terminal shows: text, line feeds, and the few controls that the view sends."""

    def __init__(self) -> None:
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+|\x1b", text):
            self._one(part)

    def _one(self, part: str) -> None:
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif part in ("\x1b[?25l", "\x1b[?25h"):
            self.cursor = part.endswith("h")
        elif part == "\x1b[2K":
            self.lines[self.row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            self.row = max(0, self.row - int(up[1] or 1))
        elif part.startswith("\x1b"):
            assert part.endswith("m"), f"unknown control {part!r}"
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)


def in_terminal(
    run: Run, tmp_path: Path, *, seconds: float, **environ: str
) -> tuple[Screen, Screen, int]:
    """Play ``run`` in a pseudo-terminal; return the screen meanwhile, after Ctrl-C, the code."""
    from roofprobe.records.runfolder import write_run

    write_run(tmp_path, run)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYER, str(tmp_path)],
        stdin=child, stdout=child, stderr=child, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=kept | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | environ,
    )  # fmt: skip
    os.close(child)
    text = b""

    def read(until: float) -> None:
        nonlocal text
        while time.monotonic() < until:
            if select.select([parent], [], [], 0.05)[0]:
                try:
                    text += os.read(parent, 65536)
                except OSError:
                    return

    try:
        deadline = time.monotonic() + 30
        while b" left" not in text and process.poll() is None and time.monotonic() < deadline:
            read(time.monotonic() + 0.1)
        read(time.monotonic() + seconds)
        before, after = Screen(), Screen()
        before.feed(text.decode())
        os.write(parent, b"\x03")
        process.wait(timeout=20)
        read(time.monotonic() + 0.3)
        after.feed(text.decode())
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    return before, after, process.returncode


def test_in_a_real_terminal_one_picture_stands_and_ctrl_c_leaves_none_of_it(
    eight_h100s: Run, tmp_path: Path
) -> None:
    before, after, code = in_terminal(eight_h100s, tmp_path, seconds=2.5)
    assert sum("━" in line for line in before.lines) == 1
    assert any(line.startswith("cuda:7") for line in before.lines)
    assert not before.cursor
    assert code != 0
    assert after.cursor
    assert not any("━" in line or line.startswith("cuda:") for line in after.lines)
    assert any("KeyboardInterrupt" in line for line in after.lines)


def test_a_dumb_terminal_gets_plain_lines_without_a_control(
    eight_h100s: Run, tmp_path: Path
) -> None:
    before, _, _ = in_terminal(eight_h100s, tmp_path, seconds=1.0, TERM="dumb")
    assert before.cursor
    assert before.lines[0].startswith("968 cases on cuda:0 NVIDIA H100 80GB HBM3")
    assert sum(line.startswith("[") for line in before.lines) == 20
