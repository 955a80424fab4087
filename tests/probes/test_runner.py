"""Workers that die, hang or talk nonsense cost their case and nothing else.

The workers here are real processes that speak the protocol; what they measure is made up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from roofprobe.probes.measure import Policy
from roofprobe.probes.runner import Job, Planned, Runner
from roofprobe.probes.worker_process import discover_devices
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import Header, JournalWriter, read_journal
from roofprobe.records.schema import Case, Device, Environment, Measurement, Options, Peer

WORKER = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "open":
        reply = {"opened": True}
        if request["device"]["name"] == "broken":
            os.kill(os.getpid(), signal.SIGSEGV)
    elif request["op"] == "discover":
        reply = {"error": {"code": "worker-error", "sentence": "ImportError: no torch here"}}
    else:
        what = request["case"]["route"]
        if what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            sys.exit(7)
        if what == "hang":
            time.sleep(60)
        if what == "garbage":
            print("Segmentation fau", flush=True)
            continue
        measurement = {"case": request["case"], "device_id": "d", "status": "skipped",
                       "reason": {"code": str(os.getpid()), "sentence": "made up"}}
        reply = {"measurement": measurement, "lost": what == "lost", "damaged": what == "damaged"}
        if what == "error":
            reply = {"error": {"code": "worker-error", "sentence": "ValueError: no"}}
        if what == "nonsense":
            reply = {"measurement": {"status": "brilliant"}, "lost": False, "damaged": False}
    print(json.dumps(reply), flush=True)
    if request["op"] == "measure" and request["case"]["route"] in ("lost", "damaged"):
        sys.exit(0)
"""
COMMAND = (sys.executable, "-c", WORKER)


class Quiet:
    """A watcher that remembers messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.more: list[tuple[int, float]] = []
        self.begun: list[str] = []

    def planned(self, device_id: str, cases: Sequence[tuple[Case, float]]) -> None:
        self.more.append((len(cases), sum(expected_s for _, expected_s in cases)))

    def started(self, device_id: str, case: Case) -> None:
        self.begun.append(case.case_id)

    def finished(self, device_id: str, measurement: Measurement) -> None:
        pass

    def message(self, sentence: str) -> None:
        self.messages.append(sentence)


def device(name: str = "Example", backend: str = "npu", device_id: str = "d") -> Device:
    return Device(device_id=device_id, torch_device="npu:0", backend=backend, name=name)


def job(*routes: str, on: Device | None = None, timeout_s: float = 20.0) -> Job:
    cases = tuple(
        (
            Case(
                case_id=f"{position}-{route}",
                family="compute",
                op="gemm",
                precision="fp32",
                route=route,
                shape={"m": 1, "n": 1, "k": 1},
            ),
            Policy(timeout_s=timeout_s),
            0.1,
        )
        for position, route in enumerate(routes)
    )
    return Job(on or device(), cases)


def planned(name: str, route: str = "fine", expected_s: float = 0.1) -> Planned:
    case = Case(
        case_id=name, family="compute", op="gemm", precision="fp32", route=route,
        shape={"m": 1, "n": 1, "k": 1},
    )  # fmt: skip
    return case, Policy(timeout_s=20.0), expected_s


def following(calls_for: dict[str, tuple[Planned, ...]], *names: str) -> Job:
    """Return a job of ``names`` in which some cases call for others when they have ended."""
    cases = tuple(planned(name, "crash" if name == "crash" else "fine") for name in names)
    return Job(device(), cases, lambda m: calls_for.get(m.case.case_id, ()))


def ids(folder: Path) -> list[str]:
    return [m.case.case_id for m in read_journal(folder).measurements]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = JournalWriter(tmp_path)
    writer.header(
        Header(
            run_id="r",
            started_at="2026-01-01T00:00:00+00:00",
            command=(),
            options=Options(families=("compute",)),
            environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
            devices=(device(),),
        )
    )
    writer.close()
    return tmp_path


def run(
    folder: Path, *jobs: Job, time_budget_s: float | None = None
) -> tuple[list[tuple[str, str]], Quiet]:
    """Run the jobs; return (case, code of the reason) as the journal holds them."""
    watcher = Quiet()
    runner = Runner(
        JournalWriter(folder), watcher, folder, seed=0, command=COMMAND, time_budget_s=time_budget_s
    )
    outcome = runner.run(jobs)
    kept = read_journal(folder).measurements
    assert tuple(outcome.measurements) == kept
    return [
        (m.case.route, "made up" if m.reason and m.reason.code.isdigit() else m.reason.code)
        for m in kept
        if m.reason
    ], watcher


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("crash", "worker-crashed"),
        ("exit", "worker-crashed"),
        ("garbage", "worker-garbage"),
        ("nonsense", "worker-garbage"),
        ("error", "worker-error"),
    ],
)
def test_a_faulty_worker_loses_its_case_only(folder: Path, fault: str, code: str) -> None:
    results, _ = run(folder, job("fine", fault, "fine"))
    assert results == [("fine", "made up"), (fault, code), ("fine", "made up")]


def test_a_hanging_case_is_stopped_in_time(folder: Path) -> None:
    begun = time.monotonic()
    results, _ = run(folder, job("fine", "hang", "fine", timeout_s=1.0))
    assert results == [("fine", "made up"), ("hang", "timed-out"), ("fine", "made up")]
    assert time.monotonic() - begun < 30


def test_the_signal_that_ended_a_worker_is_named(folder: Path) -> None:
    run(folder, job("crash"))
    reason = read_journal(folder).measurements[0].reason
    assert reason is not None
    assert reason.sentence == "its worker process was ended by SIGKILL"


@pytest.mark.parametrize(
    ("ending", "code"), [("lost", "device-context-lost"), ("damaged", "graph-capture-failed")]
)
def test_a_worker_that_ends_with_a_reply_is_replaced(folder: Path, ending: str, code: str) -> None:
    run(folder, job("fine", ending, "fine"))
    journal = read_journal(folder)
    workers = [m.reason.code for m in journal.measurements if m.reason]
    assert workers[0] == workers[1] != workers[2]
    assert [event.code for event in journal.events] == [code]
    assert journal.events[0].sentence.endswith("a new worker was started")


def test_renewed_workers_are_no_failures_in_a_row(folder: Path) -> None:
    results, watcher = run(folder, job(*["damaged"] * 5, "fine"))
    assert [code for _, code in results] == ["made up"] * 6
    assert watcher.messages == []


def test_a_device_that_never_opens_is_given_up_and_the_others_go_on(folder: Path) -> None:
    broken = job(*["fine"] * 6, on=device("broken", device_id="b"))
    results, watcher = run(folder, broken, job("fine", "fine"))
    codes = [code for _, code in results]
    assert codes.count("made up") == 2
    assert codes.count("worker-crashed") == 4
    assert codes.count("device-given-up") == 2
    assert "given up after 4 failures" in watcher.messages[0]


def test_jobs_that_are_alone_come_last_one_after_the_other(folder: Path) -> None:
    first, second = (
        replace(job("fine", on=device(device_id=name)), alone=True) for name in ("a", "b")
    )
    cpu = job("fine", on=device(backend="cpu", device_id="cpu"))
    events: list[str] = []

    class Watching(Quiet):
        def started(self, device_id: str, case: Case) -> None:
            events.append(f"{device_id} begins")

        def finished(self, device_id: str, measurement: Measurement) -> None:
            events.append("and ends")

    runner = Runner(JournalWriter(folder), Watching(), folder, seed=0, command=COMMAND)
    runner.run([first, second, cpu, job("fine", on=device(device_id="own"))])
    assert events[:2] == ["own begins", "and ends"]
    assert events[2:] == [
        "a begins", "and ends", "b begins", "and ends", "cpu begins", "and ends",
    ]  # fmt: skip


def test_what_needs_a_device_that_was_given_up_fails_at_once(folder: Path) -> None:
    def to_peer(case: Case) -> Case:
        return case.model_copy(update={"peer": Peer(device_id="b", torch_device="npu:1")})

    broken = job(*["fine"] * 4, on=device("broken", device_id="b"))
    ((case, policy, expected_s),) = job("fine").cases
    pairs = Job(device(), ((to_peer(case), policy, expected_s),), alone=True)
    results, _ = run(folder, broken, replace(broken, alone=True), pairs)
    assert [code for _, code in results] == ["worker-crashed"] * 4 + ["device-given-up"] * 5


def test_what_the_time_budget_leaves_out_is_skipped(folder: Path) -> None:
    results, _ = run(folder, job("fine", "fine"), time_budget_s=0.05)
    assert results == [("fine", "time-budget"), ("fine", "time-budget")]


def test_what_can_never_run_says_so_before_it_says_that_time_ran_out(folder: Path) -> None:
    own = device(backend="cpu")
    rows = (("mxfp8", "F.scaled_mm"), ("int4", "none"), ("fp32", "torch.mm"))
    cases = tuple(
        (case.model_copy(update={"row": row, "precision": row, "route": route}), policy, seconds)
        for (row, route), (case, policy, seconds) in zip(
            rows, job("a", "b", "c").cases, strict=True
        )
    )
    results, _ = run(folder, Job(own, cases), time_budget_s=0.05)
    assert [code for _, code in results] == ["architecture", "no-route", "time-budget"]


def test_what_a_measurement_calls_for_comes_right_after_it_in_order(folder: Path) -> None:
    job = following({"a": (planned("a1"), planned("a2"))}, "a", "b")
    _, watcher = run(folder, job)
    assert ids(folder) == watcher.begun == ["a", "a1", "a2", "b"]
    assert watcher.more == [(2, 0.2)], "told once, with the time it will take"


def test_a_follow_up_may_call_for_more(folder: Path) -> None:
    run(
        folder, following({"a": (planned("a1"),), "a1": (planned("a11"), planned("a12"))}, "a", "b")
    )
    assert ids(folder) == ["a", "a1", "a11", "a12", "b"]


def test_nothing_follows_where_nothing_is_called_for(folder: Path) -> None:
    _, watcher = run(folder, following({}, "a", "b"))
    assert ids(folder) == ["a", "b"]
    assert watcher.more == []


def test_a_crash_is_asked_what_follows_like_any_other_end(folder: Path) -> None:
    job = following({"crash": (planned("a1"),)}, "crash", "b")
    run(folder, job)
    assert ids(folder) == ["crash", "a1", "b"]


def test_follow_ups_are_held_to_the_time_budget_too(folder: Path) -> None:
    job = following({"a": (planned("a1", expected_s=1e6), planned("a2"))}, "a", "b")
    results, _ = run(folder, job, time_budget_s=300.0)
    assert ids(folder) == ["a", "a1", "a2", "b"]
    assert [code for _, code in results] == ["made up", "time-budget", "made up", "made up"]


def test_an_interrupt_stops_the_workers_and_keeps_what_was_measured(folder: Path) -> None:
    class Stopping(Quiet):
        def started(self, device_id: str, case: Case) -> None:
            if case.route == "hang":  # a moment later the worker hangs in it
                threading.Timer(0.3, runner.stop).start()

    runner = Runner(JournalWriter(folder), Stopping(), folder, seed=0, command=COMMAND)
    begun = time.monotonic()
    outcome = runner.run([job("fine", "hang", "fine")])
    assert time.monotonic() - begun < 30
    assert not outcome.finished
    assert [m.case.route for m in read_journal(folder).measurements] == ["fine"]


def test_devices_that_cannot_be_found_are_an_error_with_advice() -> None:
    with pytest.raises(RoofprobeError, match=r"no torch here.*probe doctor"):
        discover_devices(COMMAND)
    with pytest.raises(RoofprobeError, match=r"exit code 3.*probe doctor"):
        discover_devices((sys.executable, "-c", "import sys; sys.exit(3)"))


@pytest.mark.parametrize(
    "reply",
    ['{"devices": 7}', '{"devices": [{"name": 1}]}', "{}", '{"error": "no"}', "[1]", "[" * 99999],
    ids=["number", "no device", "nothing", "error of no words", "list", "deep"],
)
def test_odd_answers_to_the_question_for_devices_give_one_sentence(reply: str) -> None:
    code = f"import sys\nfor line in sys.stdin: print({reply!r}, flush=True)"
    with pytest.raises(RoofprobeError, match="answered with garbage") as raised:
        discover_devices((sys.executable, "-c", code))
    assert raised.value.code == "no-devices"


def test_a_measurement_of_another_case_is_garbage(tmp_path: Path) -> None:
    swapped = WORKER.replace(
        '{"case": request["case"],', '{"case": {**request["case"], "case_id": "another"},'
    )
    writer = JournalWriter(tmp_path)
    runner = Runner(writer, Quiet(), tmp_path, seed=0, command=(sys.executable, "-c", swapped))
    (found,) = runner.run([job("fine")]).measurements
    writer.close()
    assert found.reason is not None
    assert (found.case.case_id, found.reason.code) == ("0-fine", "worker-garbage")
