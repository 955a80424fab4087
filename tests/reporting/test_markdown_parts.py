import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.reporting.markdown_parts import MOST_CHARACTERS, Part, joined, lookup, opened

TITLE = Part("# Title")


def test_what_fits_stays_whole_and_in_its_order() -> None:
    parts = [TITLE, opened("Compute", ["table"]), Part(""), lookup("Routes", ["rows"], 2)]
    assert joined(parts) == (
        "# Title\n\n### Compute\n\ntable\n\n"
        "<details><summary>Routes</summary>\n\nrows\n\n</details>\n"
    )


def test_what_is_looked_up_goes_first_on_all_devices_alike_and_the_report_says_so() -> None:
    rows = "x" * 400
    device = [opened("Compute", [rows]), lookup("Notes", ["note"], 1), lookup("Routes", [rows], 2)]
    text = joined([TITLE, *device, *device], 1200)
    assert len(text) <= 1200
    assert text.count("### Compute") == text.count("<summary>Notes</summary>") == 2
    assert "<summary>Routes" not in text
    assert text.endswith("*Left out for length, and in report.html: Routes.*\n")


def test_of_equals_the_one_that_takes_most_room_goes() -> None:
    parts = [TITLE, lookup("Small", ["y"], 2), lookup("Large", ["x" * 900], 2)]
    text = joined(parts, 500)
    assert "<summary>Small</summary>" in text
    assert "report.html: Large." in text


def test_what_must_stay_and_is_too_long_is_cut_between_two_lines() -> None:
    text = joined([Part("\n".join(f"- line {number}" for number in range(900)))], 1000)
    assert len(text) <= 1000
    *lines, last = text.rstrip("\n").split("\n\n")
    assert last.startswith("*The rest was cut")
    assert all(line.startswith("- line ") and line[7:].isdigit() for line in lines[0].split("\n"))


@given(
    st.lists(st.tuples(st.text(max_size=300), st.integers(0, 3)), max_size=12),
    st.integers(200, 1500),
)
def test_it_is_never_longer_than_what_is_accepted(texts: list[tuple[str, int]], most: int) -> None:
    parts = [Part(text, f"part {rank}", rank) for text, rank in texts]
    assert len(joined(parts, most)) <= most


@pytest.mark.parametrize("name", ["<b>", "a|b"])
def test_names_of_what_was_left_out_are_text(name: str) -> None:
    text = joined([TITLE, lookup(name, ["x" * 600], 1)], 300)
    assert "<b>" not in text
    assert "report.html" in text


def test_the_limit_leaves_room_below_what_github_takes() -> None:
    assert MOST_CHARACTERS < 65_536
