import os
import re
from pathlib import Path

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.markdown import to_markdown

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["example_run", "compute_run", "incomplete_run", "empty_run"])
def test_the_report_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    text = to_markdown(request.getfixturevalue(name))
    golden = GOLDEN / f"{name}.md"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["hostile_run", "hostile_compute_run"])
def test_hostile_text_breaks_no_table(name: str, request: pytest.FixtureRequest) -> None:
    text = to_markdown(request.getfixturevalue(name))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1


@pytest.mark.parametrize("name", ["hostile_run", "hostile_compute_run"])
def test_hostile_text_brings_no_html_outside_code(
    name: str, request: pytest.FixtureRequest
) -> None:
    shown = to_markdown(request.getfixturevalue(name))
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", shown)
    assert set(re.findall(r"<[a-z/][^>]*>", text)) - {"<br>"} == {
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
    }


def test_a_sweep_is_one_matrix_and_a_search_one_line(compute_run: Run) -> None:
    text = to_markdown(compute_run)
    assert text.count("4096x14336") == 3  # the heads of three maps, and no case by itself
    assert text.count("halving") == 3  # two searches, and what was asked for


def test_the_verdict_and_the_results_are_read_first_and_what_is_looked_up_is_folded(
    compute_run: Run,
) -> None:
    text = to_markdown(compute_run)
    opened = re.findall(r"^#+ .*", re.sub(r"(?s)<details>.*?</details>", "", text), flags=re.M)
    assert opened == [
        "# roofprobe: Example GPU, Example CPU", "## Example GPU (cuda:0)", "### Compute",
        "### Where the gap goes", "### Shapes", "## Example CPU (cpu)", "### Compute",
        "### Where the gap goes", "### Shapes",
    ]  # fmt: skip
    assert text.index("**Verdict: ") < text.index("### Compute") < text.index("<details>")
    for name in ("Routes, burst at one shape", "Support", "Conditions", "How to read this"):
        assert f"<details><summary>{name}</summary>" in text


def test_a_host_of_many_devices_still_fits_into_a_comment(compute_run: Run) -> None:
    gpu, *_ = compute_run.devices
    ids = [f"GPU-{number}" for number in range(12)]
    many = compute_run.model_copy(
        update={
            "devices": tuple(
                gpu.model_copy(update={"device_id": name, "torch_device": f"cuda:{number}"})
                for number, name in enumerate(ids)
            ),
            **{
                field: tuple(
                    each.model_copy(update={"device_id": name})
                    for name in ids
                    for each in getattr(compute_run, field)
                    if each.device_id == gpu.device_id
                )
                for field in ("measurements", "headlines", "support", "ceilings")
            },
        }
    )
    text = to_markdown(many)
    assert 20_000 < len(text) < 65_536
    assert text.count("### Compute") == 12
    assert "*Left out for length, and in report.html: " in text
