"""What tasks do on a node: hold their GPU together, take turns, and die without leaving a probe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from roofprobe.fleet_run import remote


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what a task is told, on a node whose temporary folder is the test's."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return {
        "token": f"test{os.getpid()}", "node": "gpu-1", "node_id": "n" * 20, "arguments": [],
        "timeout_s": 60.0,
    }  # fmt: skip


def test_a_device_has_one_claim(tmp_path: Path) -> None:
    assert remote._claimed(tmp_path / "0")
    assert not remote._claimed(tmp_path / "0")
    assert remote._claimed(tmp_path / "1")


def test_tasks_wait_for_each_other_but_not_forever(tmp_path: Path) -> None:
    remote._claimed(tmp_path / "0")
    late = threading.Timer(0.3, remote._claimed, [tmp_path / "1"])
    began = time.monotonic()
    late.start()
    remote._gather(tmp_path, 2, 30)
    late.join()
    assert 0.3 <= time.monotonic() - began < 20
    remote._gather(tmp_path, 3, 0.1)


def test_so_many_take_their_turn_at_once_and_no_more(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with remote._turn(tmp_path, 2):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (5, 2)


def test_rays_limit_on_threads_is_not_the_probes(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(remote, "_started_with", lambda: {})
    found = remote._environment(config)
    assert "OMP_NUM_THREADS" not in found
    assert found["ROOFPROBE_HOST"] == "gpu-1"
    assert found["ROOFPROBE_FLEET_RUN"] == f"{config['token']}-{config['node_id']}"
    monkeypatch.setattr(remote, "_started_with", lambda: {"OMP_NUM_THREADS": "8"})
    assert remote._environment(config)["OMP_NUM_THREADS"] == "8"


def test_what_a_process_was_started_with_is_read() -> None:
    code = "import os; os.environ['B'] = '2'; from roofprobe.fleet_run import remote; " \
           "found = remote._started_with(); print(found.get('A'), found.get('B'))"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "A": "1"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "None"], done.stderr


def test_a_probe_dies_with_its_task(config: dict[str, Any], tmp_path: Path) -> None:
    # The guard, with something that sleeps in place of the probe.
    code = f"import subprocess, sys, os; from roofprobe.fleet_run import remote; " \
           f"child = subprocess.Popen([sys.executable, '-c', remote._GUARD, str(os.getpid()), " \
           f"'{sys.executable}', '-c', 'import time; time.sleep(100)'], start_new_session=True); " \
           f"print(child.pid, flush=True); child.wait()"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as task:
        assert task.stdout is not None
        child = psutil.Process(int(task.stdout.readline()))
        time.sleep(0.5)
        assert child.is_running()
        task.send_signal(signal.SIGKILL)
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone == [child]


def test_a_probe_whose_task_is_gone_already_does_not_start() -> None:
    done = subprocess.run([sys.executable, "-c", remote._GUARD, "1", sys.executable, "-c", "0"])
    assert done.returncode == 9


def test_clearing_kills_what_is_marked_and_nothing_else(config: dict[str, Any]) -> None:
    marked = {**os.environ, **remote._environment(config)}
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(100)"]
    others = {**marked, remote.MARK: f"{config['token']}-another-node"}
    processes = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for env in (marked, others)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        folder = remote._scratch(config)
        (folder / "claims").mkdir()
        assert remote.tidy(config) == 1
        assert processes[0].wait(10) == -signal.SIGKILL
        assert processes[1].poll() is None
        assert not folder.exists()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_scratch_folder_of_somebody_else_is_not_used(
    config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    own = tmp_path / f"roofprobe-fleet-{config['token']}-{config['node_id'][:16]}"
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="somebody else"):
        remote._scratch(config)
