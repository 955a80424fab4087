"""Marks lie where a level ends for who reads, and their labels never overlap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.records.schema import CacheLevel, Device
from roofprobe.reporting.cache_marks import (
    Mark,
    cache_table,
    chased,
    draw_marks,
    placed,
    stated,
    streamed,
    within,
)
from roofprobe.reporting.drawing import WIDTH, add_axes, empty_figure
from roofprobe.reporting.svg import figure_style

KIB, MIB = 1 << 10, 1 << 20


def level(
    number: int, size: int, count: int, used: int | None, shared: int | None = 1, kind: str = ""
) -> CacheLevel:
    return CacheLevel.model_validate(
        {"level": number, "kind": kind or ("data" if number == 1 else "unified"),
         "instance_bytes": size, "instance_count": count, "used_count": used, "shared_by": shared,
         "source": "system"}
    )  # fmt: skip


def device(*caches: CacheLevel, backend: str = "cpu", unit: str = "core") -> Device:
    return Device(
        device_id="d", torch_device="cpu", backend=backend, name="Example", unit=unit,
        unit_count=6, last_level_cache_bytes=64 * MIB, caches=caches,
    )  # fmt: skip


# Six of eight cores are used; four cores share an L3.
CPU = device(
    level(1, 48 * KIB, 8, 6), level(2, MIB, 8, 6), level(3, 32 * MIB, 2, 2, shared=4)
)  # fmt: skip


def test_a_stream_fills_the_caches_of_all_cores_and_a_chase_those_of_one() -> None:
    assert streamed(CPU) == (Mark("L1", 288 * KIB), Mark("L2", 6 * MIB), Mark("L3", 64 * MIB))
    assert chased(CPU) == (Mark("L1", 48 * KIB), Mark("L2", MIB), Mark("L3", 32 * MIB))


def test_where_cores_differ_a_stream_fills_all_and_a_chase_the_least() -> None:
    hybrid = device(
        level(1, 32 * KIB, 8, 8), level(1, 48 * KIB, 4, 4), level(2, 2 * MIB, 4, 4),
        level(2, 4 * MIB, 2, None, shared=4),
    )  # fmt: skip
    assert streamed(hybrid) == (Mark("L1", 448 * KIB),)  # how much of L2 is used is not told
    assert chased(hybrid) == (Mark("L1", 32 * KIB), Mark("L2", 2 * MIB))


def test_shared_memory_is_told_and_not_marked() -> None:
    gpu = device(
        level(1, 228 * KIB, 132, 132, kind="shared-memory"), level(2, 50 * MIB, 1, 1, shared=132),
        backend="cuda", unit="SM",
    )  # fmt: skip
    assert streamed(gpu) == chased(gpu) == (Mark("L2", 50 * MIB),)
    table = cache_table(gpu)
    assert table.rows == (
        ("L1 shared memory", "228 KiB", "132 of 132", "29.4 MiB", "1 SM", "system"),
        ("L2", "50.0 MiB", "1 of 1", "50.0 MiB", "132 SMs", "system"),
    )
    assert "has no mark" in table.sentence
    assert "has no mark" not in cache_table(CPU).sentence


def test_a_record_of_before_has_its_last_level_and_no_table() -> None:
    old = device()
    assert streamed(old) == chased(old) == (Mark("last-level cache", 64 * MIB),)
    assert stated(old, streamed(old), "one core") == (
        " The device states 64.0 MiB of last-level cache."
    )
    assert cache_table(old).rows == ()
    assert cache_table(None).rows == ()
    none = old.model_copy(update={"last_level_cache_bytes": None})
    assert streamed(none) == ()
    assert stated(none, (), "one core") == ""


def test_what_is_not_known_is_a_dash() -> None:
    (row,) = cache_table(device(level(2, MIB, 4, None, shared=None))).rows
    assert row == ("L2", "1.00 MiB", "– of 4", "–", "–", "system")


def test_marks_beyond_the_axis_are_left_out() -> None:
    marks = (Mark("L1", 1), Mark("L2", 10), Mark("L3", 100))
    assert within(marks, 1, 100) == (Mark("L2", 10),)


@pytest.mark.parametrize("margins", [(44.0, 12.0)])
@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(20_000, 2**30), min_size=1, max_size=6, unique=True),
    long=st.booleans(),
)
def test_labels_never_overlap_nor_leave_the_figure(
    margins: tuple[float, float], sizes: list[int], long: bool
) -> None:
    left, right = margins
    with figure_style():
        figure = empty_figure(400)
        axes = add_axes(figure, left=left, right=right, top=120, bottom=36)
        axes.set_xscale("log", base=2)
        axes.set_xlim(16 * KIB, 2 << 30)
        marks = [Mark("last-level cache" if long else f"L{n}", s) for n, s in enumerate(sizes)]
        places = placed(axes, marks, left=left, right=right)
        draw_marks(axes, places, left=left, right=right)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [p.mark.label for p in places]
    assert len(axes.lines) == len(marks)
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width == pytest.approx(WIDTH / 72 * figure.dpi)
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_labels_apart_share_the_row_next_to_the_axes() -> None:
    with figure_style():
        axes = add_axes(empty_figure(200), left=44, right=12, top=30, bottom=36)
        axes.set_xscale("log", base=2)
        axes.set_xlim(16 * KIB, 256 * MIB)
        apart = placed(axes, streamed(CPU), left=44, right=12)
        close = placed(axes, [Mark("L2", 8 * MIB), Mark("L3", 9 * MIB)], left=44, right=12)
    assert [place.row for place in apart] == [0, 0, 0]
    assert [place.row for place in close] == [0, 1]
