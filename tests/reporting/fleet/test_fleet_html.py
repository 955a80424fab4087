"""A fleet's page: what is in it, that it stays small, that names are only text."""

from __future__ import annotations

import base64
import hashlib
import re

from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.history import Opened
from roofprobe.reporting.fleet.fleet_html import to_html


def test_the_page_tells_verdict_evidence_missing_hosts_and_refused_files(
    verdict: FleetVerdict, fleet: Opened, refused: tuple[Refused, ...]
) -> None:
    html = to_html(verdict, fleet.connection, refused)
    for text in (
        "SIMULATED: made up for a test",
        "2 of 48 devices fall short",
        "560 TFLOPS, median 700, bound 679, effect −20.0% (−20.1% to −19.9%), of 47 equal devices",
        "<code>probe all</code>",
        "1 expected and not there, which is unknown and not a pass: <code>node-99</code>",
        "damaged-run",
        "two kinds of devices: around 690 (40%) and 705 (60%)",
        "loses 2.0 % a month in compute (drift)",
        "dashed: the bound, 679",
        "compute bf16 burst: node-05:0, 2026-01-01 to 2026-03-01: node-05:0 from",
    ):
        assert text in html, text
    assert html.index("SIMULATED") < html.index("<header>") < html.index("Verdict: ")


def test_the_box_of_the_verdict_names_the_worst_failing_devices_before_all_else(
    verdict: FleetVerdict, large_verdict: FleetVerdict, fleet: Opened
) -> None:
    box = to_html(verdict, fleet.connection, ()).partition("Kinds of devices</h2>")[0]
    first, second = re.findall(r"<li>(.*?)</li>", box)[:2]
    assert "node-03:1" in first
    assert "20.0 % slower than 47 equal devices" in first
    assert "node-05:0" not in box  # it is a warning
    assert "missing-host" in second
    large = to_html(large_verdict, fleet.connection, ()).partition("Kinds of devices</h2>")[0]
    assert large.count("<code>slow</code>") == 5
    assert "and 3 more devices of this host" in large
    assert "4,980 more devices fail" in large


def test_the_map_has_the_worst_device_of_each_host_the_worst_host_first(
    verdict: FleetVerdict, fleet: Opened
) -> None:
    html = to_html(verdict, fleet.connection, ())
    rows = re.findall(r'<tr><th scope="row">(node-\d\d)</th>(<td.*?)</tr>', html)
    rows = [row for row in rows if "title=" in row[1]]
    assert len(rows) == 24
    assert [host for host, _ in rows[:2]] == ["node-03", "node-05"]
    cells = re.findall(r'<td(?: class="([^"]*)")?(?: title="([^"]*)")?>([^<]*)', rows[0][1])
    assert cells[0] == ("worse-4", "device 1: 558 TFLOPS", "−20.2%")
    assert cells[-1] == ("", "", "–")  # nobody knows what equal devices reach in it


def test_a_change_in_an_aspect_is_drawn_in_the_metric_that_stands_for_it(
    verdict: FleetVerdict, fleet: Opened
) -> None:
    change = verdict.findings[1].model_copy(
        update={"judgement": "warn", "metric": None, "aspect": "compute"}
    )
    html = to_html(verdict.model_copy(update={"findings": (change,)}), fleet.connection, ())
    assert "compute bf16 burst: the 48 devices, 2026-01-01 to 2026-03-01: the 48 devices" in html
    assert "driver 581.0</text>" in html


def test_only_the_pages_own_styles_and_script_are_allowed(
    verdict: FleetVerdict, fleet: Opened
) -> None:
    html = to_html(verdict, fleet.connection, ())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} &#39;sha256-{digest}&#39;" in policy[1].replace("'", "&#39;")
    assert " style=" not in html
    assert not re.search(r"https?://", html)


def test_names_from_files_are_text_everywhere(
    hostile_verdict: FleetVerdict, hostile_fleet: Opened, refused: tuple[Refused, ...]
) -> None:
    html = to_html(hostile_verdict, hostile_fleet.connection, refused)
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    assert not {"\x1b", "\x07", "\u202e"} & set(html)


def test_commands_in_sentences_are_code(verdict: FleetVerdict, fleet: Opened) -> None:
    sentence, shown = "See `dmesg <b>`", "See <code>dmesg &lt;b&gt;</code>"
    findings = tuple(f.model_copy(update={"sentence": sentence}) for f in verdict.findings)
    source = verdict.generated_from.model_copy(update={"simulated": (sentence,)})
    told = verdict.model_copy(update={"findings": findings, "generated_from": source})
    refused = Refused(source="x.json", code="damaged", sentence=sentence)
    html = to_html(told, fleet.connection, (refused,))
    assert "`" not in html
    assert f"<p>SIMULATED: {shown}</p>" in html
    assert f'<td class="said">{shown}</td>' in html
    assert html.count(shown) > 2


def test_the_page_of_ten_thousand_devices_stays_small_and_says_what_is_left_out(
    large_verdict: FleetVerdict, fleet: Opened
) -> None:
    html = to_html(large_verdict, fleet.connection, ())
    assert len(html.encode()) < 3_000_000
    assert "The worst 100 of 5000" in html
    assert "The worst 200 of 1250" in html
    assert "The 400 of 3000 that rest on most devices" in html


def test_the_same_fleet_gives_the_same_bytes(verdict: FleetVerdict, fleet: Opened) -> None:
    assert to_html(verdict, fleet.connection, ()) == to_html(verdict, fleet.connection, ())


def test_a_fleet_of_which_nothing_is_known_still_has_a_page(fleet: Opened) -> None:
    from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions, FleetSource

    source = FleetSource(where="x", log_version=1, n_runs=0, n_hosts=0, n_devices=0, n_metrics=0)
    empty = FleetVerdict(judgement="unknown", generated_from=source, options=FleetOptions())
    html = to_html(empty, fleet.connection, ())
    assert "SIMULATED" not in html
    assert "none of 0 devices" in html
