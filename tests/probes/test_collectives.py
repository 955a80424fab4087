"""Collectives between real processes: right results, and ranks that fail, die or hang.

Faults are planted in real ranks by a program that changes an operation before the rank begins.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from roofprobe.kernels.collectives import BY_NAME, ITEM_BYTES, layout_of
from roofprobe.probes import collective_cases, collectives, rank_watch
from roofprobe.probes.collective_cases import (
    JOB,
    RESULT,
    CollectiveCase,
    CollectiveResult,
    Effort,
    RankJob,
    plan_cases,
    sizes_between,
)
from roofprobe.probes.collective_timing import aligning_timer, batch_of, figures
from roofprobe.probes.collectives import run_collectives
from roofprobe.probes.rank_group import place_of

BRIEF = Effort(batch_s=0.0005, warmup_s=0.0, samples=5, max_time_s=0.3)
SIZES_BYTES = (1 << 10, 1 << 18)

FAULTY = """
import os, signal, sys, time
import torch.distributed as dist
from roofprobe.probes import collective_rank

rank = int(os.environ["RANK"])
calls = 0

def plant(name, fault):
    real = getattr(dist, name)
    def planted(*arguments, **options):
        global calls
        calls += 1
        return fault(lambda: real(*arguments, **options), *arguments)
    setattr(dist, name, planted)

{fault}
sys.exit(collective_rank.main())
"""


def faulty(fault: str) -> tuple[str, ...]:
    return (sys.executable, "-c", FAULTY.format(fault=fault))


def cases(*operations: str, size_bytes: int = 4096) -> tuple[CollectiveCase, ...]:
    return tuple(CollectiveCase(operation, "fp32", size_bytes) for operation in operations)


def codes(results: Sequence[CollectiveResult]) -> list[tuple[str, str | None]]:
    return [(result.status, result.reason.code if result.reason else None) for result in results]


def reasons(results: Sequence[CollectiveResult]) -> list[str]:
    return [result.reason.sentence for result in results if result.reason is not None]


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in before]
    assert left == [], "ranks, dead or alive, outlast the run"


@pytest.fixture(scope="module")
def measured() -> tuple[CollectiveResult, ...]:
    """Every operation at two sizes between two ranks, and in both precisions between four."""
    two = run_collectives(
        ("cpu",) * 2, "gloo", plan_cases(sizes_bytes=SIZES_BYTES, precision="fp32"), effort=BRIEF
    )
    four = run_collectives(
        ("cpu",) * 4,
        "gloo",
        [
            *plan_cases(sizes_bytes=SIZES_BYTES[1:], precision="bf16"),
            *plan_cases(sizes_bytes=(1000,), precision="fp32"),
            CollectiveCase("all_to_all", "fp32", 48),
        ],
        effort=BRIEF,
    )
    return (*two, *four)


def test_every_operation_gives_the_right_result(measured: tuple[CollectiveResult, ...]) -> None:
    done = [result for result in measured if result.case.size_bytes != 48]
    assert len(done) == 16
    for result in done:
        assert result.status == "ok", result.reason
        assert result.checked
        assert result.correctness is not None
        assert result.correctness.error == 0
        size = result.case.size_bytes
        row = layout_of(result.case.operation, result.case.precision, result.world_size, size)
        assert result.correctness.checked_elements == row.received * result.world_size


def test_rates_follow_from_the_size_the_time_and_the_factor(
    measured: tuple[CollectiveResult, ...],
) -> None:
    for result in measured:
        if result.status != "ok":
            continue
        assert result.latency and result.algorithm_rate and result.bus_rate and result.counted_bytes  # noqa: PT018
        seconds = result.latency.median * 1e-6
        algorithm_gbps = result.counted_bytes / seconds / 1e9
        factor = float(BY_NAME[result.case.operation].bus_factor(result.world_size))
        assert result.algorithm_rate.median == pytest.approx(algorithm_gbps)
        assert result.bus_rate.median == pytest.approx(algorithm_gbps * factor)
        assert result.bus_factor == factor
        assert 1e-6 < seconds < 5, "no exchange between processes is faster than a microsecond"
        assert algorithm_gbps < 500, "nor faster than memory"


def test_samples_and_conditions_are_kept(measured: tuple[CollectiveResult, ...]) -> None:
    for result in measured:
        if result.status != "ok":
            continue
        assert result.timing is not None
        assert result.timing.launches_per_sample >= 1
        assert "slowest rank" in result.timing.timer
        assert len(result.samples_us) == 5 or result.timing.stop_reason == "time limit"
        assert len(result.rank_medians_us) == result.world_size
        assert result.latency is not None
        assert max(result.rank_medians_us) <= result.latency.median, "the slowest of each counts"
        assert result.devices == ("cpu",) * result.world_size
        assert result.hosts == 1
        assert result.library is not None
        assert result.library.startswith("gloo of torch ")
        assert result.call is not None
        assert result.started_at is not None


def test_a_size_that_cannot_be_shared_out_is_skipped(
    measured: tuple[CollectiveResult, ...],
) -> None:
    last = measured[-1]
    assert (last.status, last.reason and last.reason.code) == ("skipped", "too-small")
    assert not last.checked


def test_an_operation_done_by_way_of_another_is_labelled(
    measured: tuple[CollectiveResult, ...],
) -> None:
    labelled = {result.case.operation for result in measured if result.note is not None}
    assert labelled == {"reduce_scatter"}


def test_results_survive_json(measured: tuple[CollectiveResult, ...]) -> None:
    for result in measured:
        assert RESULT.validate_json(RESULT.dump_json(result)) == result


@pytest.mark.faults
def test_wrong_results_and_missing_operations_are_told_and_the_ranks_go_on() -> None:
    fault = """
def wrong(call, tensor, *rest):
    work = call()
    if rank == 1:
        tensor[5] += 1
    return work
def missing(call, *rest):
    raise RuntimeError("ProcessGroupGloo does not support all_to_all\\nmore")
plant("all_reduce", wrong)
plant("all_to_all_single", missing)
"""
    results = run_collectives(
        ("cpu",) * 2,
        "gloo",
        cases("all_reduce", "all_to_all", "all_gather"),
        effort=BRIEF,
        command=faulty(fault),
    )
    assert codes(results) == [
        ("failed", "wrong-result"),
        ("skipped", "not-implemented"),
        ("ok", None),
    ]
    wrong, missing, _ = results
    assert reasons(results)[0].startswith("the result on rank 1 is wrong and was not timed")
    assert wrong.samples_us == ()
    assert wrong.latency is None
    assert not wrong.checked
    assert reasons(results)[1].endswith("ProcessGroupGloo does not support all_to_all")
    assert missing.correctness is None


@pytest.mark.faults
def test_a_killed_and_a_hanging_rank_cost_their_cases_only() -> None:
    fault = """
def killed(call, *rest):
    if rank == 1 and calls == 6:  # in the middle of the measurement
        os.kill(os.getpid(), signal.SIGKILL)
    return call()
def hanging(call, *rest):
    if rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    return call()
plant("all_to_all_single", killed)
plant("all_reduce", hanging)
"""
    kept: list[CollectiveResult] = []
    begun = time.monotonic()
    results = run_collectives(
        ("cpu",) * 2,
        "gloo",
        cases("reduce_scatter", "all_to_all", "reduce_scatter", "all_reduce"),
        effort=BRIEF,
        timeout_s=4,
        keep=kept.append,
        command=faulty(fault),
    )
    assert time.monotonic() - begun < 40
    assert codes(results) == [
        ("ok", None), ("failed", "rank-died"), ("ok", None), ("failed", "timed-out"),
    ]  # fmt: skip
    assert reasons(results) == [
        "rank 1 was ended by SIGKILL",
        "it did not end within 4 s: rank 0 was stopped",
    ]
    assert kept == list(results)


@pytest.mark.faults
def test_a_rank_that_falls_behind_is_named_and_one_that_raises_is_quoted() -> None:
    fault = """
from roofprobe.kernels import collectives
prepare = collectives.prepare
def planted(layout, at, device):
    if layout.operation.name == "all_gather" and rank == 1:
        time.sleep(3600)
    if layout.operation.name == "all_to_all" and rank == 1:
        raise ValueError("no luck")
    return prepare(layout, at, device)
collectives.prepare = planted
"""
    results = run_collectives(
        ("cpu",) * 2,
        "gloo",
        cases("all_gather", "all_to_all"),
        effort=BRIEF,
        timeout_s=2,
        command=faulty(fault),
    )
    assert codes(results) == [("failed", "timed-out"), ("failed", "rank-error")]
    behind, raised = results[0].reason, results[1].reason
    assert behind is not None
    assert raised is not None
    assert behind.sentence == (
        "it did not end within 2 s: rank 1 got no further than “prepare”, while the others waited"
    )
    assert raised.sentence == "rank 1 failed: ValueError: no luck"


# Ranks that only speak: no torch, so they start at once.
SPEAKING = """
import json, os, signal, sys, time
rank, job = int(os.environ["RANK"]), json.loads(sys.argv[1])
def tell(**event):
    print(json.dumps(event), flush=True)
{act}
"""


def speaking(act: str) -> tuple[str, ...]:
    return (sys.executable, "-c", SPEAKING.format(act=act))


def run_speaking(
    act: str, *operations: str, timeout_s: float = 60, start_timeout_s: float = 60
) -> tuple[CollectiveResult, ...]:
    return run_collectives(
        ("cpu",) * 2,
        "gloo",
        cases(*operations),
        timeout_s=timeout_s,
        start_timeout_s=start_timeout_s,
        command=speaking(act),
    )


def test_a_group_that_never_finds_itself_ends_all_cases() -> None:
    act = """
if rank == 1:
    time.sleep(3600)
tell(event="ready")
time.sleep(3600)
"""
    results = run_speaking(act, "all_reduce", "all_gather", start_timeout_s=1.5)
    assert codes(results) == [("failed", "timed-out")] * 2
    assert reasons(results)[0] == "rank 1 had not found the others within 1.5 s"


def test_an_exit_code_comes_before_the_errors_that_it_causes() -> None:
    act = """
tell(event="ready")
if rank == 1:
    sys.exit(7)
tell(event="error", sentence="RuntimeError: closed by peer", at_s=time.monotonic())
os.kill(os.getpid(), signal.SIGABRT)
"""
    results = run_speaking(act, "all_reduce")
    assert codes(results) == [("failed", "rank-died")]
    assert reasons(results) == ["rank 1 ended with exit code 7"]


def test_the_first_error_is_the_cause_and_an_abort_its_consequence() -> None:
    act = """
tell(event="ready")
if rank == 0:
    os.kill(os.getpid(), signal.SIGABRT)
time.sleep(0.3)
tell(event="error", sentence="ValueError: first", at_s=time.monotonic())
time.sleep(3600)
"""
    assert reasons(run_speaking(act, "all_reduce")) == ["rank 1 failed: ValueError: first"]


def test_the_rank_that_all_wait_for_is_named() -> None:
    act = """
tell(event="ready")
tell(event="stage", case=0, stage="prepare")
if rank == 0:
    tell(event="stage", case=0, stage="check")
time.sleep(3600)
"""
    assert reasons(run_speaking(act, "all_reduce", timeout_s=0.5)) == [
        "it did not end within 0.5 s: rank 1 got no further than “prepare”, while the others waited"
    ]


@pytest.mark.parametrize(
    "garbage", ["Segmentation fau", '["event"]', '{"event": "party"}', '{"event": "result"}']
)
def test_garbage_is_named_with_its_rank(garbage: str) -> None:
    act = f"""
tell(event="ready")
if rank == 1:
    print({garbage!r}, flush=True)
time.sleep(3600)
"""
    results = run_speaking(act, "all_reduce")
    assert codes(results) == [("failed", "rank-garbage")]
    assert reasons(results) == ["rank 1 wrote garbage"]


def test_ranks_that_fail_again_and_again_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_watch, "_GRACE_S", 0.2)
    act = """
tell(event="ready")
if rank == 0:
    sys.exit(3)
time.sleep(3600)
"""
    results = run_speaking(act, *["all_reduce"] * 5)
    assert [code for _, code in codes(results)] == ["rank-died"] * 3 + ["given-up"] * 2
    assert "3 failures in a row" in reasons(results)[-1]
    assert "rank 0 ended with exit code 3" in reasons(results)[-1]


def test_a_backend_that_torch_lacks_is_skipped_with_what_to_do() -> None:
    act = """
reason = {"code": "no-backend", "sentence": "torch has none", "remedy": "install one"}
tell(event="unavailable", reason=reason)
"""
    results = run_speaking(act, "all_reduce", "all_gather")
    assert codes(results) == [("skipped", "no-backend")] * 2


@pytest.mark.parametrize("devices", [(), ("cpu",)])
def test_fewer_than_two_devices_exchange_nothing(devices: tuple[str, ...]) -> None:
    results = run_collectives(devices, "gloo", cases("all_reduce", "all_to_all"))
    assert codes(results) == [("skipped", "one-device")] * 2


PARENT = """
import sys
from roofprobe.probes.collective_cases import CollectiveCase
from roofprobe.probes.collectives import run_collectives
command = (sys.executable, "-c", sys.argv[1])
cases = [CollectiveCase("all_reduce", "fp32", 4096)]
run_collectives(("cpu",) * 2, "gloo", cases, timeout_s=3600, command=command)
"""


def test_ranks_die_with_their_parent(tmp_path: Path) -> None:
    fault = f"""
def fault(call, *rest):
    with open(os.path.join({str(tmp_path)!r}, str(rank)), "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, file.name + ".pid")
    time.sleep(3600)
plant("all_reduce", fault)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # its store has nobody to remove it
    parent = subprocess.Popen(
        (sys.executable, "-c", PARENT, FAULTY.format(fault=fault)), env=environment
    )
    try:
        pids = [int(written(tmp_path / f"{rank}.pid")) for rank in range(2)]
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def written(path: Path, timeout_s: float = 60) -> str:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
    return path.read_text()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_ranks_that_a_launcher_started_write_their_results_on_rank_0() -> None:
    told = JOB.dump_json(RankJob("gloo", cases("all_reduce", "all_gather"), BRIEF)).decode()
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        subprocess.Popen(
            (*collectives.RANK_COMMAND, told),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **place, "RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=60)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert outputs[1] == b""
    results = [
        RESULT.validate_python(json.loads(line)["result"]) for line in outputs[0].splitlines()
    ]
    assert codes(results) == [("ok", None)] * 2
    assert [result.world_size for result in results] == [2, 2]


def test_the_slowest_rank_of_each_batch_counts() -> None:
    layout = layout_of("all_reduce", "fp32", 2, 4_000_000)
    found = figures(layout, [[1000.0, 4000.0, 1000.0], [2000.0, 2000.0, 2000.0]])
    assert found["samples_us"] == (2000.0, 4000.0, 2000.0)
    assert found["rank_medians_us"] == (1000.0, 2000.0)
    assert found["counted_bytes"] == 4_000_000
    assert found["algorithm_rate"].median == 2.0, "4 MB in 2 ms"
    assert found["bus_rate"].median == 2.0
    eight = layout_of("all_gather", "bf16", 8, 8_000_000)
    assert figures(eight, [[1000.0] * 3] * 8)["bus_rate"].median == 7.0
    assert ITEM_BYTES["bf16"] * eight.whole == 8_000_000


@pytest.mark.parametrize(
    ("launch_s", "plan"),
    [
        (1e-3, (2, 30, 50)),
        (1e-5, (128, 30, 5000)),  # as many as a queue takes
        (0.5, (1, 4, 1)),  # as many as the time allows
        (10.0, (1, 3, 1)),  # but the least
        (0.0, (128, 30, 500_001)),  # faster than a clock tells
    ],
)
def test_batches_follow_from_the_agreed_time(launch_s: float, plan: tuple[int, int, int]) -> None:
    assert batch_of(launch_s, Effort()) == plan


def test_events_stand_behind_an_operation_that_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("event")

        def elapsed_time(self, later: Event) -> float:
            return 6.0

    properties = SimpleNamespace(clock_rate=1_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append("hold"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("wait"))

    def launch() -> None:
        done.append("launch")

    timer = aligning_timer(torch.device("cuda:0"), launch)
    assert timer.time_batch((launch,), 2) == 6e-3
    assert done == ["hold", "launch", "event", "launch", "launch", "event", "wait"]
    assert timer.name == "device events behind an untimed operation, slowest rank"


def test_sizes_are_a_geometric_series_up_to_the_most() -> None:
    assert sizes_between(1024, 20_000) == (1024, 4096, 16384)
    assert collective_cases.DEFAULT_SIZES_BYTES[0] == 1 << 10
    assert collective_cases.DEFAULT_SIZES_BYTES[-1] == 4 << 30


def test_a_launcher_may_leave_the_local_place_unsaid() -> None:
    place = place_of({"RANK": "3", "WORLD_SIZE": "4"})
    assert (place.local_rank, place.local_size) == (3, 4)
    told = place_of({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"})
    assert (told.rank, told.local_rank, told.local_size) == (9, 1, 8)
