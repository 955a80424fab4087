import re
from pathlib import Path

import pytest

from roofprobe.records.summaries import (
    Listed,
    RunSummary,
    newest_first,
    read_summary,
    run_folders,
    summaries,
)
from roofprobe.reporting.pages.run_index import to_index
from roofprobe.reporting.pages.trends import MOST_POINTS, trends_of

HOSTILE = "<script>alert(1)</script> \x1b[31m"


def summary(day: int, tflops: tuple[float, ...] = (700.0,), **more: object) -> RunSummary:
    return RunSummary.model_validate(
        {
            "schema_version": 1, "run_id": "r", "status": "complete",
            "started_at": f"2000-01-{day:02d}T10:00:00+00:00", "options": {"unknown": 1},
            "environment": {"host": "h", "roofprobe": "0.1", "torch": "2.9"},
            "devices": [
                {"device_id": f"G{n}", "torch_device": f"cuda:{n}", "backend": "cuda",
                 "name": "Example GPU"} for n in range(len(tflops))
            ],
            "headlines": [
                {"device_id": f"G{n}", "family": "compute", "label": "bf16",
                 "share_datasheet": rate / 1000, "rate": {"unit": "TFLOPS", "median": rate}}
                for n, rate in enumerate(tflops)
            ],
            "verdict": {"judgement": "pass"}, "more": "is passed over", **more,
        }
    )  # fmt: skip


def listed(name: str, run: RunSummary | None, problem: str | None = None) -> Listed:
    return Listed(Path("out") / name, run, problem, run is not None)


def test_a_row_links_to_its_report_and_tells_the_range_of_its_devices() -> None:
    page = to_index([listed("a b#1", summary(1, (700.0, 810.0)))], "out")
    assert 'href="a%20b%231/report.html">2000-01-01 10:00</a>' in page
    assert "2 × Example GPU" in page
    assert "bf16 700–810 TFLOPS, 70% of datasheet" in page
    assert "roofprobe 0.1, torch 2.9, method 1" in page


def test_a_broken_run_is_a_row_with_its_reason_and_no_link() -> None:
    page = to_index([listed("x", None, HOSTILE), listed(HOSTILE, summary(1))], HOSTILE)
    assert "1 of them cannot be read; its row says why." in page
    assert page.count("<script") == 2  # the page's own
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    for target in re.findall(r'href="([^"]*)"', page):
        assert not target.startswith(("/", "javascript:", "http"))


def test_a_trend_is_the_median_of_a_kind_over_runs_oldest_first() -> None:
    trends = trends_of([summary(1, (700.0, 710.0, 900.0)), summary(2, (781.0,) * 3)])
    (trend,) = trends
    assert (trend.kind, trend.label, trend.n) == ("3 × Example GPU on h, standard", "bf16", 2)
    assert (trend.latest, trend.change, trend.span) == ("781 TFLOPS", "+10%", "710–781 TFLOPS")
    assert "2000-01-02T10:00:00+00:00: 781 TFLOPS" in trend.svg
    assert trends_of([summary(1)]) == ()


def test_only_like_runs_are_joined_in_a_trend() -> None:
    quick = summary(2, (190.0,), options={"tier": "quick"})
    elsewhere = summary(3, (300.0,), environment={"host": "other", "roofprobe": "0.1"})
    more = summary(4, (300.0, 300.0))
    newer = summary(5, (300.0,), method_version=9)
    assert trends_of([summary(1), quick, elsewhere, more, newer]) == ()
    (trend,) = trends_of([summary(1), quick, elsewhere, more, newer, summary(6, (707.0,))])
    assert (trend.kind, trend.n, trend.change) == ("Example GPU on h, standard", 2, "+1%")


def test_a_run_beside_others_is_marked_and_sets_no_change() -> None:
    def beside(day: int, rate: float, judgement: str = "warn") -> RunSummary:
        told = {"code": "RP-NOT-ALONE", "judgement": judgement, "device_id": "G0"}
        verdict = {"judgement": judgement, "findings": [told]}
        return summary(day, (rate,), verdict=verdict)

    (trend,) = trends_of([beside(1, 350.0), summary(2), beside(3, 693.0, "pass")])
    assert trend.change == "−1%", "a few disturbed cases are no disturbed run"
    assert trend.svg.count('class="disturbed"') == 1
    assert "350 TFLOPS, others were at work" in trend.svg
    (last,) = trends_of([summary(1), beside(2, 190.0)])
    assert (last.latest, last.change) == ("190 TFLOPS (others at work)", "–")
    assert "since the first" not in last.svg
    assert "others were at work beside 1 of them" in last.svg


def test_a_thousand_runs_are_a_page_of_less_than_3_mb() -> None:
    runs = [summary(1 + n % 28, (700.0 + n,) * 8) for n in range(1000)]
    page = to_index([listed(f"20000101T{n:06d}Z-h", run) for n, run in enumerate(runs)], "out")
    assert len(page.encode()) < 3_000_000
    assert page.count("<tr data-host") == 1000
    assert page.count("<circle") == MOST_POINTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "was changed or damaged"),
        ('{"schema_version": 1}', "run_id: Field required"),
        ("[" * 100_000, "was changed or damaged"),
        ("\x00\xff", "was changed or damaged"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "20000101T000000Z-a"
    folder.mkdir()
    (folder / "run.json").write_text(text)
    (found,) = summaries(run_folders(tmp_path))
    assert found.run is None
    assert said in str(found.problem)


def test_a_newer_record_and_a_run_without_one_say_so(tmp_path: Path) -> None:
    later = summary(1).model_copy(update={"schema_version": 9}).model_dump_json()
    for name, file, text in (("b", "run.json", later), ("a", "journal.jsonl", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    newer, killed = summaries(run_folders(tmp_path))
    assert "has schema version 9" in str(newer.problem)
    assert killed.problem == "no record yet: it was killed or still runs"


def test_a_whole_record_reads_as_its_summary() -> None:
    root = Path(__file__).parents[3]
    run = read_summary(root / "reports/reference/cpu-amd-epyc-2-cores/run.json")
    assert run.environment.host == "host-1"
    assert len(run.headlines) > 20


def test_runs_are_listed_by_their_start_and_names_break_ties() -> None:
    found = [
        listed("z", summary(1)), listed("a", summary(3)), listed("b", summary(3)),
        listed("20000102T000000Z-h", None, "broken"), listed("m", None, "broken"),
    ]  # fmt: skip
    names = [each.folder.name for each in newest_first(found)]
    assert names == ["b", "a", "20000102T000000Z-h", "z", "m"]
    page = to_index(found, "out")
    assert page.index("<td>b</td>") < page.index("<td>a</td>") < page.index("<td>z</td>")


def test_a_simulated_run_says_so_beside_its_verdict() -> None:
    page = to_index([listed("a", summary(1, simulated="made up", status="incomplete"))], "out")
    assert "</span><br>simulated, incomplete</td>" in page
    assert "simulated" not in to_index([listed("a", summary(1))], "out")
