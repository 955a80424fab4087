import re
from types import ModuleType

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.budget import PAGE, chosen, share_of
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown


@pytest.fixture(scope="module")
def host(large: ModuleType) -> Run:
    run: Run = large.large_run(8, 2_000)
    return run


def test_a_run_of_one_device_has_the_whole_budget_and_eight_an_even_share() -> None:
    assert share_of(1) == share_of(0) == PAGE
    assert share_of(8).measurements == PAGE.measurements // 8
    assert share_of(8).map_figures == 0  # one map of four would look like a result
    assert share_of(4).map_figures == 3
    assert PAGE.map_figures // 8 > 0


def test_a_host_of_eight_devices_with_all_its_measurements_opens_at_once(host: Run) -> None:
    assert len(host.measurements) == 16_000
    html, text = to_html(host), to_markdown(host)
    assert len(html.encode()) < 3_000_000
    assert len(text.encode()) < 500_000
    for device in host.devices:
        assert f"{device.name} ({device.torch_device})" in html
    assert html.count("all 2,000 are in measurements.csv") == 8
    assert html.count(f"<summary>{PAGE.measurements // 8} of the measurements (2,000 cases") == 8
    rows = html.split('<table class="cases">')[1].split("</table>")[0]
    assert rows.count("<tr>") == 1 + PAGE.measurements // 8


def test_one_device_with_a_long_run_stays_below_half_of_that(host: Run) -> None:
    device = host.devices[0]
    of_one = host.model_copy(
        update={
            "devices": (device,),
            **{
                name: tuple(m for m in getattr(host, name) if m.device_id == device.device_id)
                for name in ("measurements", "headlines", "ceilings", "support")
            },
        }
    )
    assert len(of_one.measurements) == 2_000
    assert len(to_html(of_one).encode()) < 1_500_000


def test_what_results_and_findings_stand_on_is_kept_then_the_fastest_of_each_kind(
    host: Run,
) -> None:
    device_id = host.devices[3].device_id
    own = [m for m in host.measurements if m.device_id == device_id]
    kept = chosen(host, device_id, own, 250)
    assert len(kept) == 250
    ids = {m.case.case_id for m in kept}
    headlines = [h for h in host.headlines if h.device_id == device_id]
    assert headlines
    assert {h.case_id for h in headlines} <= ids
    surface = [m for m in own if m.case.role == "surface" and m.case.row == "bf16" and m.rate]
    fastest = max(surface, key=lambda m: m.rate.median if m.rate else 0)
    assert fastest.case.case_id in ids
    assert all(m.status != "skipped" for m in kept)


def test_failures_come_before_fast_cases(example_run: Run) -> None:
    device_id = example_run.devices[0].device_id
    own = [m for m in example_run.measurements if m.device_id == device_id]
    kept = chosen(example_run, device_id, own, 8)
    assert {"failed", "invalid"} <= {m.status for m in kept}
    assert chosen(example_run, device_id, own, len(own)) == tuple(own)


def test_a_search_keeps_its_last_looks_and_says_so(host: Run) -> None:
    html = to_html(host)
    told = re.findall(r"The last (\d+) of 200 looks", html)
    assert len(told) == sum(m.search is not None for m in host.measurements) > 100
    assert set(told) == {str(PAGE.looks // 8 // 16)}
