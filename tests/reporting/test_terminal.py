import io
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from roofprobe.records.schema import Run
from roofprobe.reporting.terminal import render_run

GOLDEN = Path(__file__).parent / "golden"
FOLDER = Path("reports/20000101T000000Z-example-host")


def shown(run: Run, width: int = 80, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(
        file=stream,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        _environ={},
    )
    render_run(run, console, folder=FOLDER, full=True)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("name", ["example_run", "compute_run", "incomplete_run", "empty_run"])
def test_the_summary_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    text = shown(request.getfixturevalue(name))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["example_run", "compute_run", "incomplete_run", "hostile_run", "hostile_compute_run"],
)
def test_no_line_is_wider_than_80_columns_or_ends_in_spaces(
    name: str, request: pytest.FixtureRequest
) -> None:
    lines = shown(request.getfixturevalue(name)).splitlines()
    assert [line for line in lines if cell_len(line) > 80 or line != line.rstrip()] == []


def test_ascii_stands_in_where_the_encoding_has_no_signs(example_run: Run) -> None:
    text = shown(example_run, encoding="ascii")
    assert "+-0.4%" in text
    assert "burst p10-p90 784-808" in text
    assert text.isascii()


def test_what_stands_under_support_is_not_told_again(compute_run: Run) -> None:
    text = " ".join(shown(compute_run).split())
    assert text.count("NVFP4 needs compute capability 10.0") == 1
    assert "M must be a multiple of 16. [shape]" in text


def test_a_sweep_is_a_line_per_row_and_never_a_line_per_case(compute_run: Run) -> None:
    text = shown(compute_run)
    assert "4096x4096x14336" not in text
    assert text.count("M 1024:") == 3
    assert len(text.splitlines()) < len(compute_run.measurements) + 25


def test_text_of_the_run_is_never_markup_nor_terminal_control(hostile_run: Run) -> None:
    text = shown(hostile_run)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/]" in text
    assert "\\x1b[31m\\x07" in text


def test_colour_comes_only_where_the_console_has_it(example_run: Run) -> None:
    assert "\x1b[" in shown(example_run, color=True)
    assert "\x1b[" not in shown(example_run)


def test_a_narrow_console_still_gets_every_word(example_run: Run) -> None:
    text = " ".join(shown(example_run, width=40).split())
    assert "Look at the power limit." in text
    assert "torch._scaled_mm" in text


def test_without_a_folder_no_file_is_named(example_run: Run) -> None:
    console = Console(file=io.StringIO(), width=80)
    render_run(example_run, console, full=True)
    assert isinstance(console.file, io.StringIO)
    assert "report.html" not in console.file.getvalue()


def test_columns_that_do_not_fit_are_told_below_by_their_names(compute_run: Run) -> None:
    narrow = shown(compute_run, width=60)
    assert "\nof pipe" not in narrow
    assert re.search(r"^  .*\bof pipe \d+%", narrow, re.MULTILINE)


def test_the_first_line_names_the_run(example_run: Run) -> None:
    told = shown(example_run, width=200).splitlines()[0]
    assert told.startswith(f"Run {example_run.run_id}, started ")
    assert told.endswith(f" on {example_run.environment.host}")
