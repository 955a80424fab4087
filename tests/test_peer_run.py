"""A whole run on a host of three GPUs: pairs come last, one at a time, and faults cost one case.

The GPUs are doubles inside the worker process (``support/peers_worker.py``); the run is real.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from roofprobe import jobs
from roofprobe import run as flow
from roofprobe.asking import options_from
from roofprobe.probes import peers
from roofprobe.probes.measure import Policy
from roofprobe.records.journal import NAME, read_journal
from roofprobe.records.schema import Measurement
from roofprobe.reporting.progress import Silent

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("peer run")]

WORKER = (sys.executable, str(Path(__file__).parent / "support" / "peers_worker.py"))
POLICY = Policy(0.0005, 0.0, 0.01, 0.03, min_samples=3, timeout_s=10.0)
LOST = 4  # lines that a kill takes from the end of the journal


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Make copies small and cases short, and leave out the exchange between real ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "policy_for", lambda case, device, options: POLICY)
        patch.setattr(jobs, "groups", lambda devices, options: ())
        patch.setitem(peers._SIZES_BYTES, "quick", (64 << 10,))
        yield


def probed(
    out: Path, *words: str, resume: bool = False, budget: str | None = None
) -> flow.Finished:
    options = options_from(("interconnect",), "auto", "quick", None, budget, 0)
    return flow.probe_all(
        options, out, progress=Silent(), resume=resume, worker_command=(*WORKER, *words)
    )


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> flow.Finished:
    return probed(tmp_path_factory.mktemp("faulty"), "faulty")


def pairs(finished: flow.Finished) -> dict[tuple[str, str, str], Measurement]:
    return {
        (m.case.op, m.device_id[-1], m.case.peer.device_id[-1]): m
        for m in finished.run.measurements
        if m.case.peer
    }


def test_every_pair_ends_somehow_and_only_the_faulty_ones_fail(faulty: flow.Finished) -> None:
    ends = {
        key: (m.status, m.reason.code if m.reason else None) for key, m in pairs(faulty).items()
    }
    apart, fine = ("skipped", "no-peer-access"), ("ok", None)
    assert ends == {
        ("p2p", "0", "1"): fine,
        ("p2p", "0", "2"): apart,
        ("p2p", "1", "0"): fine,
        ("p2p", "1", "2"): ("failed", "worker-crashed"),
        ("p2p", "2", "0"): apart,
        ("p2p", "2", "1"): fine,
        ("p2p-both", "0", "1"): fine,
        ("p2p-both", "0", "2"): apart,
        ("p2p-both", "1", "2"): fine,
        ("p2p-latency", "0", "1"): fine,
        ("p2p-latency", "0", "2"): apart,
        ("p2p-latency", "1", "0"): fine,
        ("p2p-latency", "1", "2"): fine,
        ("p2p-latency", "2", "0"): apart,
        ("p2p-latency", "2", "1"): ("failed", "timed-out"),
    }
    assert faulty.run.status == "complete"
    assert {event.code for event in faulty.run.events} == {"worker-crashed", "timed-out"}


def test_pairs_come_after_the_devices_own_cases_and_one_at_a_time(faulty: flow.Finished) -> None:
    done = [m for m in faulty.run.measurements if m.started_at]
    spans = [
        (datetime.fromisoformat(m.started_at), timedelta(seconds=m.wall_s or 0), bool(m.case.peer))
        for m in done
        if m.started_at
    ]
    assert [is_pair for *_, is_pair in spans] == sorted(is_pair for *_, is_pair in spans)
    assert {is_pair for *_, is_pair in spans} == {False, True}
    own_end = max(start + wall for start, wall, is_pair in spans if not is_pair)
    between = [(start, start + wall) for start, wall, is_pair in spans if is_pair]
    assert own_end <= between[0][0] + timedelta(milliseconds=2)  # times are kept in milliseconds
    for (_, end), (start, _) in pairwise(between):
        assert end <= start + timedelta(milliseconds=2)


def test_a_measured_pair_was_checked_and_says_what_it_is(faulty: flow.Finished) -> None:
    found = pairs(faulty)["p2p-both", "0", "1"]
    assert found.correctness is not None
    assert (found.correctness.error, found.correctness.checked_elements) == (0, 2 * (64 << 10))
    assert found.rate is not None
    assert found.rate.unit == "GB/s"
    assert found.link is not None
    assert found.link.kind is None
    assert pairs(faulty)["p2p-latency", "0", "1"].rate is None
    assert not [headline for headline in faulty.run.headlines if "p2p" in headline.label]


def test_a_killed_run_goes_on_with_the_pairs_that_are_left(faulty: flow.Finished) -> None:
    path = faulty.folder / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-LOST]))
    resumed = probed(faulty.folder.parent, resume=True)
    counts = Counter(
        (m.device_id, m.case.case_id) for m in read_journal(faulty.folder).measurements
    )
    assert set(counts.values()) == {1}
    assert len(counts) == len(faulty.run.measurements)
    ends = {key: m.status for key, m in pairs(resumed).items()}
    assert ends["p2p", "1", "2"] == "failed", "what has ended is not measured again"
    assert ends["p2p-latency", "2", "1"] == "ok", "what was lost is"


def test_pairs_that_time_ran_out_for_are_skipped_and_measured_on_resume(tmp_path: Path) -> None:
    first = probed(tmp_path, budget="0.001s")
    assert {m.reason.code for m in pairs(first).values() if m.reason} == {"time-budget"}
    assert len(pairs(first)) == 15
    second = probed(tmp_path, resume=True, budget="1h")
    assert Counter(m.status for m in pairs(second).values()) == {"ok": 10, "skipped": 5}
