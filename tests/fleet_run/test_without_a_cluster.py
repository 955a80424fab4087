"""What is wrong is one sentence and an exit code, before any cluster is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import roofprobe
from roofprobe.cli import fleet_running
from roofprobe.fleet_run.asked import Asked
from roofprobe.records.errors import RoofprobeError


def fleet_run(*arguments: str, cwd: Path, **env: str) -> tuple[int, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "roofprobe", "fleet", "run", *arguments, "--json", "--out", "out"],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    error: dict[str, str] = json.loads(done.stdout)["error"]
    return done.returncode, error


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"family": "disk"}, "unknown-family"),
        ({"family": "memory", "precision": "bf16"}, "unknown-precision"),
        ({"family": "compute", "precision": "bf17"}, "unknown-precision"),
        ({"tier": "slow"}, "unknown-tier"),
        ({"timeout": "soon"}, "bad-time-budget"),
        ({"expect": Path("missing")}, "unreadable"),
    ],
)
def test_what_a_node_would_refuse_is_refused_here(changed: dict[str, Any], code: str) -> None:
    with pytest.raises(RoofprobeError) as caught:
        asked(**changed)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


def asked(**changed: Any) -> Asked:
    given = {"family": "all", "address": None, "expect": None, "per_node": None, "timeout": None,
             "no_install": False, "device": "auto", "tier": "standard", "precision": None,
             "time_budget": None, "seed": 0}  # fmt: skip
    return fleet_running._asked(**{**given, **changed})


def test_options_are_handed_on_to_the_probe_of_each_slot() -> None:
    found = asked(family="llm", tier="quick", precision="bf16", time_budget="5m", seed=7)
    assert found.arguments == (
        "llm", "--tier", "quick", "--seed", "7", "--precision", "bf16", "--time-budget", "300s"
    )  # fmt: skip
    assert found.limit_s == 600 + 300
    assert asked(timeout="45m").limit_s == 2700


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--resume",), "nothing-to-resume"), (("--address", "nonsense:port"), "no-cluster")],
)
def test_the_command_says_so_in_one_document(
    arguments: tuple[str, ...], code: str, tmp_path: Path
) -> None:
    found, error = fleet_run(*arguments, cwd=tmp_path)
    assert (found, error["code"]) == (2, code)


def test_without_ray_the_line_that_installs_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    found, error = fleet_run(cwd=tmp_path, PYTHONPATH=path)
    assert (found, error["code"]) == (2, "no-ray")
    assert "pip install 'roofprobe[ray]'" in error["sentence"]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_told_at_once(scheme: str, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"{scheme}127.0.0.1:{bound.getsockname()[1]}"
        found, error = fleet_run(cwd=tmp_path, RAY_ADDRESS=address)
    assert (found, error["code"]) == (2, "no-cluster")
    assert f"nothing answers at {address}" in error["sentence"]


def test_the_command_is_known_without_ray_being_loaded() -> None:
    code = "import sys, roofprobe.cli, roofprobe.fleet_run.drive; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("files", "environment"),
    [
        ({"METADATA": "Name: roofprobe\nVersion: 0.1\n"}, "pip"),
        ({"METADATA": "Name: roofprobe\nVersion: 0.1\n", "direct_url.json": "{}"}, "py_modules"),
        ({}, "py_modules"),
    ],
    ids=["a release", "from a repository", "a checkout"],
)
def test_nodes_get_what_is_installed_here(
    files: dict[str, str], environment: str, tmp_path: Path
) -> None:
    (tmp_path / "roofprobe").symlink_to(Path(roofprobe.__file__).parent)
    for name, text in files.items():
        (tmp_path / "roofprobe-0.1.dist-info").mkdir(exist_ok=True)
        (tmp_path / "roofprobe-0.1.dist-info" / name).write_text(text)
    code = (
        "from pathlib import Path; from roofprobe.fleet_run import cluster\n"
        "with cluster._environment(True) as found:\n"
        "    sent = Path(*found.get('py_modules', ()))\n"
        "    print(found.get('pip') or (sent / 'records/schema.py').is_file())"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    wanted = f"['roofprobe=={roofprobe.__version__}']" if environment == "pip" else "True"
    assert done.stdout.strip() == wanted, done.stderr
