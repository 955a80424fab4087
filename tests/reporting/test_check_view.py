import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from roofprobe.acceptance.checks import CHECKS
from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Finding, Judgement, Run, Verdict
from roofprobe.reporting import check_view

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = (
    "<script>alert(1)</script> [red]x[/] | `t` \"q\" 'p' \\ \\n *b* \x1b[31m\x07 \u202e\n# h\r\n- l"
)
RUNS = ["judged_run", "example_run", "incomplete_run", "empty_run"]


def shown(
    run: Run, *, width: int = 80, encoding: str = "utf-8", color: bool = False, full: bool = False
) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(
        file=stream, width=width, force_terminal=color,
        color_system="standard" if color else None, _environ={},
    )  # fmt: skip
    check_view.render_check(run, verdict_of(run), console, full=full)
    stream.flush()
    return raw.getvalue().decode(encoding)


def judged_as(run: Run, count: int, judgement: Judgement) -> Run:
    found = tuple(
        Finding(code="RP-COMPUTE", judgement=judgement, layer="absolute", sentence=f"No. {i}.")
        for i in range(count)
    )
    return run.model_copy(update={"verdict": Verdict(judgement=judgement, findings=found)})


def same_as_golden(text: str, name: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_the_screen_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    same_as_golden(shown(request.getfixturevalue(name)), f"{name}.check.txt")


def test_the_full_screen_is_the_golden_one(judged_run: Run) -> None:
    same_as_golden(shown(judged_run, full=True), "judged_run.check-full.txt")


@pytest.mark.parametrize("name", RUNS)
def test_the_markdown_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    same_as_golden(check_view.to_markdown_check(run, verdict_of(run)), f"{name}.check.md")


@pytest.mark.parametrize("text", [HOSTILE, "long " * 3000, "x" * 15000])
@pytest.mark.parametrize("full", [False, True])
def test_no_line_is_wider_than_80_columns_or_ends_in_spaces(
    text: str, full: bool, spoilt_run: Callable[[str], Run]
) -> None:
    lines = shown(spoilt_run(text), full=full).splitlines()
    assert [line for line in lines if cell_len(line) > 80 or line != line.rstrip()] == []
    assert full or len(lines) < 100


def test_the_verdict_is_one_line_and_the_last(judged_run: Run) -> None:
    assert shown(judged_run).splitlines()[-1].startswith("Verdict: FAIL – 1 fail, 1 unknown")


def test_every_device_is_named_by_index_uuid_and_bus(judged_run: Run) -> None:
    lines = shown(judged_run).splitlines()
    assert "unknown cuda:0 (GPU-00000000-example, 0000:00:00.0), Example GPU" in lines
    assert "fail    cuda:1 (GPU-11111111-example, 0000:01:00.0), Example GPU" in lines


def test_many_findings_stay_on_one_screen_and_full_shows_all(empty_run: Run) -> None:
    run = judged_as(empty_run, 200, "warn")
    assert "and 190 more findings that do not pass" in shown(run)
    assert len(shown(run).splitlines()) < 50
    assert "No. 199." in shown(run, full=True)


def test_a_run_without_its_end_is_not_passed(empty_run: Run) -> None:
    run = judged_as(empty_run, 1, "pass").model_copy(update={"status": "incomplete"})
    assert "Verdict: UNKNOWN" in shown(run)
    assert "did not come to its end" in shown(run)


def test_ascii_stands_in_where_the_encoding_has_no_signs(judged_run: Run) -> None:
    assert shown(judged_run, encoding="ascii").isascii()


def test_text_of_the_run_is_never_markup_nor_terminal_control(
    spoilt_run: Callable[[str], Run],
) -> None:
    text = shown(spoilt_run(HOSTILE), full=True)
    assert not set("\x1b\x07\r\u202e") & set(text)
    assert "[red]x[/]" in text


def test_colour_comes_only_where_the_console_has_it(judged_run: Run) -> None:
    assert "\x1b[" in shown(judged_run, color=True)
    assert "\x1b[" not in shown(judged_run)


def test_hostile_text_breaks_no_table_and_brings_no_html(
    spoilt_run: Callable[[str], Run],
) -> None:
    run = spoilt_run(HOSTILE)
    text = check_view.to_markdown_check(run, verdict_of(run))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert "<script" not in outside_code
    assert not re.search(r"^# h", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", RUNS)
def test_the_json_keeps_to_its_schema(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    document = json.loads(json.dumps(check_view.to_json(run, verdict_of(run))))
    schema = check_view.check_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "judgement": "fine"}, schema)


def test_the_json_has_all_that_is_needed_to_act(judged_run: Run) -> None:
    document = check_view.to_json(judged_run, verdict_of(judged_run))
    assert (document["judgement"], document["exit_code"]) == ("fail", 1)
    assert document["counts"] == {
        "fail": 1, "unknown": 1, "warn": 1, "passed": 3, "not_told": 1,
    }  # fmt: skip
    assert [(d["index"], d["uuid"], d["judgement"]) for d in document["devices"]] == [
        (0, "GPU-00000000-example", "unknown"),
        (1, "GPU-11111111-example", "fail"),
        (0, None, "pass"),
    ]
    assert document["host"] == {"name": "example-host", "judgement": "pass"}
    worst = document["findings"][0]
    assert (worst["code"], worst["figure"], worst["bound"]) == ("RP-COMPUTE", 0.30, 0.35)
    assert worst["bound_source"] == CHECKS[worst["code"]].bound
    assert document["findings"][-1]["code"] == "RP-EXAMPLE-LOG"


def test_strict_makes_a_warning_count(empty_run: Run) -> None:
    run = judged_as(empty_run, 1, "warn")
    assert check_view.to_json(run, verdict_of(run))["exit_code"] == 0
    assert check_view.to_json(run, verdict_of(run), strict=True)["exit_code"] == 1


@pytest.mark.parametrize(
    ("judgement", "word", "code"),
    [("pass", "OK", 0), ("warn", "WARNING", 1), ("fail", "CRITICAL", 2), ("unknown", "UNKNOWN", 3)],
)
def test_nagios_has_its_own_words_and_codes(
    judgement: Judgement, word: str, code: int, empty_run: Run
) -> None:
    run = judged_as(empty_run, 2, judgement)
    assert check_view.nagios_line(run, verdict_of(run)).startswith(f"ROOFPROBE {word}: ")
    assert check_view.nagios_exit_code(run, verdict_of(run)) == code


def test_the_nagios_line_says_the_worst_and_counts_all(judged_run: Run) -> None:
    assert check_view.nagios_line(judged_run, verdict_of(judged_run)) == (
        "ROOFPROBE CRITICAL: RP-COMPUTE cuda:1: bf16 reaches 30% of its derived peak, less than "
        "35% (1 fail, 1 unknown, 1 warn, 3 pass, 1 not told here) | 'fail'=1 'unknown'=1 'warn'=1 "
        "'pass'=3 'not told'=1"
    )


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_nagios_line_is_one_short_line_of_ascii_with_one_bar(text: str) -> None:
    found = Finding(code=text, judgement="fail", layer="health", sentence=text)
    run = Run.model_validate(
        {
            "run_id": text, "status": "complete", "started_at": "", "options": {"families": ()},
            "environment": dict.fromkeys(("host", "os", "kernel", "python", "roofprobe"), text),
        }
    )  # fmt: skip
    line = check_view.nagios_line(run, Verdict(judgement="fail", findings=(found,)))
    assert line.isascii()
    assert line.isprintable()
    assert line.count("|") == 1
    assert len(line) < 450
