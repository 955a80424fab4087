"""The matrix of pairs: rows send, columns receive, a dash where there is no figure and its reason.

The figures are round and of no real device.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from roofprobe.records.schema import (
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Peer,
    PeerLink,
    Reason,
    Run,
    Status,
)
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.pair_tables import Pairs, pair_tables
from roofprobe.reporting.terminal import render_run

MIB = 1 << 20
ALL = "All measured pairs"
SWITCHED = PeerLink(
    kind="nvlink", switched=True, nvlink_count=18, nvlink_active=18, nvlink_gbps=500.0
)


def gpu(index: int, backend: str = "cuda") -> Device:
    return Device(
        device_id=f"{backend}-{index}", torch_device=f"cuda:{index}", backend=backend,
        name="Example GPU",
    )  # fmt: skip


def nvlink(device: Device) -> list[Ceiling]:
    return [
        Ceiling(
            device_id=device.device_id, kind="datasheet", family="interconnect", peak_key=key,
            value=value, unit="GB/s", basis=f"Example, NVLink, {words}",
        )
        for key, value, words in (
            ("nvlink_gbps", 400.0, "one way"), ("nvlink_both_gbps", 800.0, "both ways"),
        )
    ]  # fmt: skip


def figure(value: float, unit: str) -> Distribution:
    return Distribution(unit=unit, median=value, ci_low=value, ci_high=value, p10=value, p90=value,
                        best=value, n=9)  # fmt: skip


def pair(
    op: str,
    source: Device,
    peer: Device,
    value: float | Reason,
    *,
    size: int = 256 * MIB,
    link: PeerLink | None = SWITCHED,
) -> Measurement:
    is_message = op == "p2p-latency"
    size = 8 if is_message else size
    case = Case(
        case_id=f"{op}/{peer.device_id}/{size}", family="interconnect", op=op, precision="none",
        route=op, shape={"bytes": size}, convention="one-way",
        peer=Peer(device_id=peer.device_id, torch_device=peer.torch_device),
    )  # fmt: skip
    if isinstance(value, Reason):
        status: Status = "skipped" if value.code == "no-peer-access" else "failed"
        return Measurement(case=case, device_id=source.device_id, status=status, reason=value)
    return Measurement(
        case=case, device_id=source.device_id, status="ok", array_bytes=size, link=link,
        latency=figure(value if is_message else 600.0, "us"),
        rate=None if is_message else figure(value, "GB/s"),
    )  # fmt: skip


def run_of(devices: Sequence[Device], measurements: Sequence[Measurement]) -> Run:
    return Run(
        run_id="20000101T000000Z-example", status="complete",
        started_at="2000-01-01T00:00:00+00:00", options=Options(families=("interconnect",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=tuple(devices), measurements=tuple(measurements),
        ceilings=tuple(ceiling for device in devices for ceiling in nvlink(device)),
    )  # fmt: skip


A, B, C = (gpu(index) for index in range(3))
APART = Reason(
    code="no-peer-access",
    sentence="cuda:0 and cuda:2 cannot reach each other's memory: copies go through the host",
)
DEAD = Reason(code="worker-crashed", sentence="its worker process was ended by SIGKILL")
THREE = run_of(
    [A, B, C],
    [
        pair("p2p", A, B, 360.0), pair("p2p", A, C, APART),
        pair("p2p", B, A, 352.0), pair("p2p", B, C, DEAD),
        pair("p2p", C, A, APART), pair("p2p", C, B, 180.0),
        pair("p2p-both", A, B, 700.0), pair("p2p-both", A, C, APART), pair("p2p-both", B, C, 640.0),
        pair("p2p-latency", A, B, 2.25), pair("p2p-latency", A, C, APART),
        pair("p2p-latency", B, A, 2.5), pair("p2p-latency", B, C, 3.0),
        pair("p2p-latency", C, A, APART), pair("p2p-latency", C, B, 12.5),
    ],
)  # fmt: skip


def only(run: Run) -> Pairs:
    (pairs,) = pair_tables(run)
    return pairs


def shown(run: Run, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, _environ={})
    render_run(run, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_ordered_pair_has_its_rate_and_the_share_of_its_links() -> None:
    one_way, both, latency = only(THREE).tables
    assert one_way.heads == ("from, to", "cuda:0", "cuda:1", "cuda:2")
    assert one_way.rows == (
        ("cuda:0", "", "360 90%", "–"),
        ("cuda:1", "352 88%", "", "–"),
        ("cuda:2", "–", "180 45%", ""),
    )
    assert both.rows == (
        ("cuda:0", "", "700 88%", "–"),
        ("cuda:1", "", "", "640 80%"),
        ("cuda:2", "", "", ""),
    )
    assert latency.rows == (
        ("cuda:0", "", "2.25", "–"),
        ("cuda:1", "2.50", "", "3.00"),
        ("cuda:2", "–", "12.5", ""),
    )


def test_a_matrix_says_what_its_sizes_and_its_shares_are() -> None:
    one_way, both, latency = only(THREE).tables
    assert one_way.sentence == (
        "Each row sends, each column receives, nothing else runs. Size: 256 MiB. "
        "Shares are of 400 GB/s (Example, NVLink, one way)."
    )
    assert both.sentence.endswith("Shares are of 800 GB/s (Example, NVLink, both ways).")
    assert "Shares" not in latency.sentence
    assert "Size: 8.00 B." in latency.sentence


def test_pairs_without_a_figure_are_listed_with_their_reason_and_links_told_once() -> None:
    assert only(THREE).notes == (
        "cuda:0 to cuda:2, cuda:2 to cuda:0: skipped, cuda:0 and cuda:2 cannot reach each other's "
        "memory: copies go through the host [no-peer-access]",
        "cuda:1 to cuda:2: failed, its worker process was ended by SIGKILL [worker-crashed]",
        f"{ALL}: 18 of 18 active NVLinks through a switch, 500 GB/s on the wire one way",
    )


@pytest.mark.parametrize(
    ("link", "cell", "note"),
    [
        (
            PeerLink(kind="nvlink", switched=False, nvlink_count=4, nvlink_active=16),
            "90.0 90%",
            f"{ALL}: 4 of 16 active NVLinks",
        ),
        (PeerLink(kind="nvlink"), "90.0 22%",
         f"{ALL}: joined by NVLink; how many links lead there is not told"),
        (PeerLink(kind="pcie"), "90.0",
         f"{ALL}: no NVLink joins them, so copies cross PCIe"),
        (PeerLink(missing={"kind": "There is no NVML."}), "90.0",
         f"{ALL}: what joins them is not told: There is no NVML."),
    ],
)  # fmt: skip
def test_a_share_needs_a_link_that_is_known(link: PeerLink, cell: str, note: str) -> None:
    pairs = only(run_of([A, B], [pair("p2p", A, B, 90.0, link=link)]))
    assert pairs.tables[0].rows[0] == ("cuda:0", "", cell)
    assert pairs.notes == (note,)


def test_of_several_sizes_the_best_counts() -> None:
    sizes = [(MIB, 100.0), (256 * MIB, 380.0), (1024 * MIB, 376.0)]
    one_way, *_ = only(
        run_of([A, B], [pair("p2p", A, B, rate, size=size) for size, rate in sizes])
    ).tables
    assert one_way.rows[0][2] == "380 95%"
    assert "Size: 256 MiB." in one_way.sentence


def test_kinds_of_accelerators_have_matrices_of_their_own() -> None:
    x, y = (gpu(index, "rocm") for index in range(2))
    run = run_of([A, B, x, y], [pair("p2p", A, B, 300.0), pair("p2p", x, y, 60.0, link=None)])
    assert [pairs.title for pairs in pair_tables(run)] == [
        "Between devices (cuda)", "Between devices (rocm)",
    ]  # fmt: skip
    assert pair_tables(run)[1].tables[0].rows[0] == ("cuda:0", "", "60.0")


def test_where_no_pair_was_looked_at_there_is_no_matrix() -> None:
    assert pair_tables(run_of([A, B], [])) == ()
    assert "Between devices" not in to_markdown(run_of([A, B], []))


def test_the_terminal_shows_the_matrices_and_the_reasons() -> None:
    text = shown(THREE)
    assert (
        "Between devices\n"
        "\n"
        "One way, GB/s\n"
        "  from, to   cuda:0   cuda:1  cuda:2\n"
        "  cuda:0             360 90%       –\n"
        "  cuda:1    352 88%                –\n"
        "  cuda:2          –  180 45%\n"
    ) in text
    assert "[no-peer-access]" in text
    assert "18 of 18 active NVLinks through a switch" in text


@pytest.mark.parametrize("count", [8, 16])
def test_many_devices_fit_into_80_columns(count: int) -> None:
    devices = [gpu(index) for index in range(count)]
    run = run_of(
        devices, [pair("p2p", a, b, 360.0) for a in devices for b in devices if a is not b]
    )
    lines = shown(run).splitlines()
    assert [line for line in lines if cell_len(line) > 80 or line != line.rstrip()] == []
    assert sum(line.count("360 90%") for line in lines) == count * (count - 1)


def test_markdown_has_a_table_per_matrix() -> None:
    text = to_markdown(THREE)
    assert (
        "| from, to | cuda:0 | cuda:1 | cuda:2 |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| cuda:0 |  | 360 90% | – |\n"
        "| cuda:1 | 352 88% |  | – |\n"
        "| cuda:2 | – | 180 45% |  |"
    ) in text
    assert "- cuda:1 to cuda:2: failed, its worker process was ended by SIGKILL" in text


def test_html_has_a_table_per_matrix() -> None:
    text = to_html(THREE)
    assert "<h2>Between devices</h2>" in text
    assert (
        '<tr><th scope="row">cuda:2</th><td class="n">–</td><td class="n">180 45%</td>'
        '<td class="n"></td></tr>'
    ) in text
    assert "<li>cuda:1 to cuda:2: failed, its worker process was ended by SIGKILL" in text


def test_a_hostile_name_or_reason_stays_text() -> None:
    evil = Device(device_id="e", torch_device="<b>|x\x1b[31m", backend="cuda", name="E")
    reason = Reason(code="<i>", sentence="<script>alert(1)</script> | `x`")
    run = run_of([A, evil], [pair("p2p", A, evil, reason), pair("p2p", evil, A, 1.0)])
    assert to_html(run).count("<script>") == 1  # the page's own
    assert "<b>" not in to_html(run).split("</style>")[1]
    assert "<script>" not in to_markdown(run)
    assert "\x1b" not in shown(run) + to_markdown(run) + to_html(run)


def test_the_same_figures_are_there_as_numbers_for_the_map() -> None:
    one_way, both, latency = only(THREE).grids
    assert (one_way.title, one_way.unit, one_way.names[2]) == ("One way", "GB/s", "cuda:2")
    assert one_way.values == {(0, 1): 360.0, (1, 0): 352.0, (2, 1): 180.0}
    assert both.values == {(0, 1): 700.0, (1, 2): 640.0}
    assert latency.values[2, 1] == 12.5
    assert (one_way.more_is_better, latency.more_is_better) == (True, False)
