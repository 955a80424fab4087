"""Ranks under torch's launcher, by the commands that the documentation prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from roofprobe.probes import collective_rank
from roofprobe.probes.collective_cases import JOB, RESULT, CollectiveCase, CollectiveResult

DOCUMENT = Path(__file__).parents[2] / "docs" / "measuring-memory.md"
LAUNCHER = (sys.executable, "-m", "torch.distributed.run")
SMALL = CollectiveCase("all_gather", "fp32", 1 << 16)


def printed(text: str) -> list[list[str]]:
    """Return the launcher's commands in the indented blocks of ``text``."""
    joined = re.sub(r"\\+\n\s*", "", text)
    return [shlex.split(line) for line in re.findall(r"^ {4}(torchrun .*)$", joined, re.MULTILINE)]


SEVERAL_HOSTS, ONE_HOST = printed(DOCUMENT.read_text())


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    name, *arguments = command
    assert name == "torchrun"
    return subprocess.Popen(
        (*LAUNCHER, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )


def results(*running: subprocess.Popen[bytes]) -> list[CollectiveResult]:
    ended = [process.communicate(timeout=90) for process in running]
    for process, (_, errors) in zip(running, ended, strict=True):
        assert process.returncode == 0, errors.decode()
    lines = [line for output, _ in ended for line in output.splitlines()]
    return [RESULT.validate_python(json.loads(line)["result"]) for line in lines]


@pytest.mark.timeout(120)
def test_the_trial_on_one_host_runs_as_it_is_printed() -> None:
    (found,) = results(start(ONE_HOST))
    assert found.status == "ok", found.reason
    assert found.checked
    assert (found.world_size, found.backend) == (2, "gloo")
    assert asdict(found.case) == json.loads(ONE_HOST[-1])["cases"][0]
    assert found.bus_rate is not None


@pytest.mark.timeout(150)
def test_the_command_for_several_hosts_joins_the_ranks_of_all() -> None:
    """Only what this one host lacks is replaced: the address, the GPUs, and their library."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    job = {**json.loads(SEVERAL_HOSTS[-1]), "backend": "gloo", "cases": [asdict(SMALL)]}
    here = {"HOST:29500": f"127.0.0.1:{port}", "8": "1", SEVERAL_HOSTS[-1]: json.dumps(job)}
    assert here.keys() <= set(SEVERAL_HOSTS)
    command = [here.get(word, word) for word in SEVERAL_HOSTS]
    (found,) = results(start(command), start(command))
    assert found.status == "ok", found.reason
    assert (found.case, found.world_size, found.checked) == (SMALL, 2, True)


def test_the_command_for_several_hosts_measures_everything_through_nccl() -> None:
    job = JOB.validate_json(SEVERAL_HOSTS[-1])
    assert (job.backend, job.cases, job.parent_pid) == ("nccl", (), None)


def test_the_docstring_prints_the_same_command() -> None:
    assert collective_rank.__doc__ is not None
    assert printed(collective_rank.__doc__) == [SEVERAL_HOSTS]
