"""What ``probe history`` shows of series, lists and selections."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta

from rich.console import Console

from roofprobe.records.fleet.history import MetricLine, Point, Selected, Series
from roofprobe.reporting.fleet import history_data, history_view

BEGIN = datetime(2026, 1, 1)


def point(day: int, value: float, **changed: object) -> Point:
    fields = {
        "started_at": BEGIN + timedelta(days=day), "host": "a1", "value": value,
        "ci_low": value * 0.995, "ci_high": value * 1.005, "n": 20, "driver": "580.1",
        "power_limit_w": 700.0, "method_version": 1, "roofprobe": "0.1.0", "torch": "2.11.0",
        "simulated": None,
    }  # fmt: skip
    return Point(**(fields | changed))  # type: ignore[arg-type]


def series(*points: Point, device_id: str = "GPU-1", better: str = "higher") -> Series:
    return Series("compute bf16 burst", "TFLOPS", better, device_id, 0, "H100", "h100-sxm", points)


def shown(*found: Series, width: int = 100, encoding: str = "utf-8") -> str:
    data = io.BytesIO()
    out = io.TextIOWrapper(data, encoding=encoding)
    history_view.render_series(found, Console(file=out, width=width))
    out.flush()
    return data.getvalue().decode(encoding)


def test_a_device_gets_a_table_with_changes_and_what_changed() -> None:
    text = shown(series(point(0, 600), point(1, 570), point(2, 576, driver="581.0")))
    lines = [line.split() for line in text.splitlines()]
    assert ["2026-01-02", "00:00", "570", "±0.5%", "−5.0%", "−5.0%", "580.1"] in lines
    assert ["2026-01-03", "00:00", "576", "±0.5%", "−4.0%", "+1.1%", "581.0", "driver"] in lines
    assert "host a1, limit 700 W, torch 2.11.0, roofprobe 0.1.0, method m1" in text
    assert max(map(len, shown(series(point(0, 600), point(1, 570)), width=80).splitlines())) <= 80


def test_a_change_of_method_is_flagged_and_nothing_compared_across_it() -> None:
    text = shown(series(point(0, 600), point(1, 300, method_version=2)))
    row = next(line for line in text.splitlines() if "2026-01-02" in line)
    assert row.split()[-1] == "method"
    assert "%" not in row.replace("±0.5%", "")
    assert "measured another way from here on" in text


def test_many_devices_get_a_line_each_the_worst_first_and_a_table_by_day() -> None:
    many = [
        series(point(0, 600), point(1, 600 - 10 * number), device_id=f"GPU-{number}")
        for number in range(6)
    ]
    text = shown(*many)
    assert "6 devices" in text
    assert text.index("GPU-5") < text.index("2026-01-02") or "−8.3%" in text
    ranked = [line for line in text.splitlines() if line.startswith("a1:0 GPU-")]
    assert [line.split()[1] for line in ranked][:2] == ["GPU-5", "GPU-4"]
    day = next(line for line in text.splitlines() if line.startswith("2026-01-02"))
    assert day.split()[:5] == ["2026-01-02", "6", "575", "550", "600"]


def test_simulated_figures_say_so() -> None:
    lines = history_view.simulated_lines(("a test made this up\x1b",))
    assert lines == ("SIMULATED: a test made this up\\x1b",)


def test_names_from_files_stay_text() -> None:
    text = shown(series(point(0, 600, host="\x1b[2J[red]x", driver="\u202eevil")))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]" in text.replace("\n", "")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert shown(series(point(0, 600), point(1, 500)), encoding="ascii")


def test_csv_has_a_line_per_figure_and_json_the_same_values() -> None:
    found = [series(point(0, 600), point(1, 660), better="lower")]
    rows = list(csv.DictReader(io.StringIO(history_data.series_csv(found).decode())))
    assert [(row["value"], row["started_at"]) for row in rows] == [
        ("600", "2026-01-01T00:00:00Z"), ("660", "2026-01-02T00:00:00Z"),
    ]  # fmt: skip
    assert rows[0]["effect_to_first"] == ""
    document = history_data.series_json(found)
    assert (
        float(rows[1]["effect_to_first"]) == document["series"][0]["points"][1]["effect_to_first"]
    )
    assert document["series"][0]["points"][1]["effect_to_first"] < 0
    assert json.dumps(document, allow_nan=False)


def test_a_selection_is_shown_whatever_its_values_are() -> None:
    selected = Selected(
        ("a", "a", "b"), ((1, None, BEGIN), (float("nan"), "x\n\x1b", [1, "y"])), True
    )
    assert history_data.selected_json(selected) == {
        "columns": ["a", "a_2", "b"],
        "rows": [
            {"a": 1, "a_2": None, "b": "2026-01-01T00:00:00Z"},
            {"a": None, "a_2": "x\n\x1b", "b": [1, "y"]},
        ],
    }
    out = io.StringIO()
    history_view.render_selected(selected, Console(file=out, width=80))
    assert "\x1b" not in out.getvalue()
    assert "only the first 2 rows" in out.getvalue()
    assert history_data.selected_csv(selected).startswith(b"a,a_2,b\n1,,2026")


def test_metrics_are_listed() -> None:
    lines = [MetricLine("compute bf16 burst", "TFLOPS", 1200, 3, BEGIN, BEGIN)]
    out = io.StringIO()
    history_view.render_metrics(lines, Console(file=out, width=80))
    assert "compute bf16 burst" in out.getvalue()
    assert "1,200" in out.getvalue()
    assert history_data.metrics_csv(lines).count(b"\n") == 2
