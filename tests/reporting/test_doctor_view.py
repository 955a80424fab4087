"""The doctor's findings on a terminal and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
from rich.console import Console

from roofprobe.reporting.doctor_view import render, summary_sentence, to_json, worst


@dataclass(frozen=True)
class Found:
    code: str
    title: str
    status: str
    figure: str
    sentence: str
    remedy: str | None = None


OK = Found("python", "Python", "ok", "3.12.3", "This Python is recent enough.")
WARN = Found(
    "power",
    "cuda:0 power limit",
    "warn",
    "500 of 700 W",
    "The limit is below the board's default, so clocks under load will be lower.",
    "sudo nvidia-smi -i 00000000:1B:00.0 -pl 700  # changes the device: your choice, or your "
    "provider's",
)
FAIL = Found("gpus", "GPUs", "fail", "0 of 1 NVIDIA", "torch cannot use it.", "nvidia-smi")
UNKNOWN = Found("ecc", "cuda:0 ECC", "unknown", "?", "The driver does not tell it.")


def shown(*findings: Found, width: int = 80, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="\n") as file:
        console = Console(
            file=file, width=width, force_terminal=color, color_system="standard" if color else None
        )
        render(findings, console)
        file.flush()
        return raw.getvalue().decode(encoding)


def test_what_is_in_order_takes_one_line_and_the_rest_says_what_to_do() -> None:
    assert shown(OK, WARN, FAIL, UNKNOWN) == (
        "ok       Python                     3.12.3\n"
        "warn     cuda:0 power limit         500 of 700 W\n"
        "         The limit is below the board's default, so clocks under load will be\n"
        "         lower.\n"
        "         > sudo nvidia-smi -i 00000000:1B:00.0 -pl 700 # changes the device:\n"
        "           your choice, or your provider's\n"
        "fail     GPUs                       0 of 1 NVIDIA\n"
        "         torch cannot use it.\n"
        "         > nvidia-smi\n"
        "unknown  cuda:0 ECC                 ?\n"
        "         The driver does not tell it.\n"
        "\n"
        "fail: 1 thing to mend, 1 thing that could not be found out, 1 warning.\n"
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_console(width: int) -> None:
    long = Found("disk", "Disk " * 3, "fail", "/a/" + "very-long" * 20, "word " * 40, "x" * 200)
    lines = shown(OK, WARN, long, width=width).splitlines()
    assert max(len(line) for line in lines[:-1]) <= width


def test_markup_and_control_characters_are_shown_not_obeyed() -> None:
    odd = Found("p", "[red]t[/]", "warn", "\x1b[31mf", "[bold]\x07s[/bold] :smile:", "[link]")
    text = shown(odd)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]t[/]" in text
    assert "\\x1b[31mf" in text
    assert "[bold]\\x07s[/bold] :smile:" in text


def test_the_status_is_a_word_and_a_colour_only_on_a_terminal() -> None:
    assert "\x1b" not in shown(OK, FAIL)
    assert "\x1b[1;31mfail" in shown(OK, FAIL, color=True)


def test_a_console_that_writes_ascii_gets_ascii() -> None:
    accelerator = Found("gpus", "GPUs", "ok", "2 × npu", "torch can use this accelerator.")
    assert "2 x npu" in shown(accelerator, encoding="ascii")


def test_json_holds_everything_and_is_valid() -> None:
    document = json.loads(json.dumps(to_json([OK, WARN, FAIL])))
    assert document == {
        "status": "fail",
        "counts": {"fail": 1, "unknown": 0, "warn": 1, "ok": 1},
        "findings": [
            {
                "code": "python",
                "title": "Python",
                "status": "ok",
                "figure": "3.12.3",
                "sentence": "This Python is recent enough.",
                "remedy": None,
            },
            {
                "code": "power",
                "title": "cuda:0 power limit",
                "status": "warn",
                "figure": "500 of 700 W",
                "sentence": WARN.sentence,
                "remedy": "sudo nvidia-smi -i 00000000:1B:00.0 -pl 700 # changes the device: your "
                "choice, or your provider's",
            },
            {
                "code": "gpus",
                "title": "GPUs",
                "status": "fail",
                "figure": "0 of 1 NVIDIA",
                "sentence": "torch cannot use it.",
                "remedy": "nvidia-smi",
            },
        ],
    }


def test_json_survives_text_that_is_no_text() -> None:
    odd = Found("p", "t", "warn", "\udcff", "s.")
    assert json.dumps(to_json([odd]), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("findings", "status", "sentence"),
    [
        ((OK,), "ok", "This host is ready to be measured."),
        ((OK, WARN), "warn", "1 warning."),
        ((OK, WARN, UNKNOWN), "unknown", "1 thing that could not be found out, 1 warning."),
        ((FAIL, FAIL), "fail", "2 things to mend."),
        ((), "unknown", "Nothing was looked at."),
    ],
)
def test_the_worst_decides(findings: tuple[Found, ...], status: str, sentence: str) -> None:
    assert worst(findings) == status
    assert summary_sentence(findings) == sentence
