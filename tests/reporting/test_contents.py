import pytest

from roofprobe.reporting.contents import Contents


def test_parts_are_listed_by_owner_in_their_order_with_ids_made_of_titles() -> None:
    contents = Contents()
    assert contents.add("", "Example GPU (cuda:0)", "d0") == "d0"
    assert contents.add("d0", "Latency, one load after another") == (
        "d0-latency-one-load-after-another"
    )
    assert contents.add("", "How to read this") == "how-to-read-this"
    assert contents.of() == (
        ("d0", "Example GPU (cuda:0)"),
        ("how-to-read-this", "How to read this"),
    )
    assert contents.of("d0") == (
        ("d0-latency-one-load-after-another", "Latency, one load after another"),
    )
    assert contents.of("d1") == ()


def test_equal_titles_get_ids_of_their_own() -> None:
    contents = Contents()
    assert [contents.add("d0", "Notes") for _ in range(3)] == [
        "d0-notes", "d0-notes-2", "d0-notes-3",
    ]  # fmt: skip


@pytest.mark.parametrize("title", ["", "设备", '"><script>', "x" * 500])
def test_an_id_is_plain_and_short_whatever_the_title(title: str) -> None:
    found = Contents().add("", title)
    assert found
    assert len(found) <= 40
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
