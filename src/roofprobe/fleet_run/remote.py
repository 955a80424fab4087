"""What runs on a node: look at it, measure one slot, clear away. Standard library and Ray only.

These functions travel to the nodes by value, so that they are this version's even where the node
has another roofprobe or none; the ``probe`` command that they start is the node's own. Ray may hand
the GPU that one task has given back to the next one, so tasks of a node first gather until each
holds its GPU; only then may the first of them end. A node's tasks find each other by files in a
scratch folder of the node.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = "ROOFPROBE_FLEET_RUN"  # in the environment of every probe that a fleet run starts
# The child asks Linux to be killed when this process dies, and sees whether it died before.
_GUARD = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(9); os.execv(sys.argv[2], sys.argv[2:])"
)
_TERM_GRACE_S = 30.0
_POLL_S = 0.2
# By need, where an archive would become too large.
_FIRST_FILES = ("run.json", "calibration.json", "measurements.csv", "junit.xml", "metrics.prom",
                "report.md", "journal.jsonl", "report.html")  # fmt: skip


def look(config: dict[str, Any]) -> dict[str, Any]:
    """Return the node's versions and GPUs, and clear what an earlier try of this run left there."""
    tidy(config)
    import ray

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "ray": ray.__version__,
        "roofprobe": None,
        "method": None,
        "torch": importlib.util.find_spec("torch") is not None,
        "hostname": socket.gethostname(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "error": "",
    }
    try:
        import roofprobe
        from roofprobe.records.schema import METHOD_VERSION

        found |= {
            "roofprobe": roofprobe.__version__,
            "method": METHOD_VERSION,
            "where": os.path.dirname(roofprobe.__file__),
        }
    except Exception as error:  # whatever is wrong with it there is told here
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Measure the slot that Ray handed out, and return its run folder as an archive."""
    import ray

    granted = [str(one) for one in ray.get_gpu_ids()]
    device = granted[0] if config["gpus"] else "cpu"
    reply: dict[str, Any] = {"device": device, "hostname": socket.gethostname(), "archive": None}
    claims = _scratch(config) / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    if not _claimed(claims / device):
        return {**reply, "idle": "again"}
    _gather(claims, config["tasks"], config["gather_s"])
    if device in config["done"]:
        return {**reply, "idle": "done"}
    home = Path(tempfile.mkdtemp(prefix="slot-", dir=_scratch(config)))
    try:
        with _turn(_scratch(config), config["per_node"]):
            began = time.monotonic()
            reply |= _run(config, home)
            reply["seconds"] = time.monotonic() - began
        reply |= _packed(home / "out", config["max_bytes"])
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return reply


def tidy(config: dict[str, Any]) -> int:
    """Kill what this fleet run's probes left behind on the node, and remove their files."""
    killed = 0
    mark = f"{MARK}={config['token']}-{config['node_id']}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    shutil.rmtree(_scratch(config), ignore_errors=True)
    return killed


def _scratch(config: dict[str, Any]) -> Path:
    """Return the folder that this run's tasks of this node share, for this user only."""
    own = f"roofprobe-fleet-{config['token']}-{config['node_id'][:16]}"
    folder = Path(tempfile.gettempdir()) / own
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else")
    return folder


def _claimed(claim: Path) -> bool:
    """Whether this task is the first of the run that holds this device."""
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _gather(claims: Path, tasks: int, most_s: float) -> None:
    """Wait until every task of the node holds its GPU, at most ``most_s``."""
    until = time.monotonic() + most_s
    while len(os.listdir(claims)) < tasks and time.monotonic() < until:
        time.sleep(_POLL_S)


@contextlib.contextmanager
def _turn(scratch: Path, at_once: int) -> Iterator[None]:
    """Hold one of the node's ``at_once`` turns; the system takes it back when its holder dies."""
    files = [os.open(scratch / f"turn-{n}", os.O_RDWR | os.O_CREAT, 0o600) for n in range(at_once)]
    try:
        while not any(map(_lock, files)):
            time.sleep(_POLL_S)
        yield
    finally:
        for file in files:
            os.close(file)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _run(config: dict[str, Any], home: Path) -> dict[str, Any]:
    """Run ``probe`` in a process group of its own, which dies with this process."""
    probe = [sys.executable, "-m", "roofprobe", *config["arguments"], "--out", str(home / "out")]
    guarded = [sys.executable, "-c", _GUARD, str(os.getpid()), *probe]
    timed_out = False
    with open(home / "stderr", "w+b") as errors:
        process = subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd=home,
            env=_environment(config), start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(config["timeout_s"])
        except subprocess.TimeoutExpired:
            timed_out = True
            process.terminate()  # which ends a run with all that it has measured written
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TERM_GRACE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        errors.seek(max(errors.seek(0, os.SEEK_END) - 4000, 0))
        said = errors.read().decode(errors="replace")
    return {"exit_code": process.returncode, "timed_out": timed_out, "said": said}


def _environment(config: dict[str, Any]) -> dict[str, str]:
    """Return the node's environment with the GPU that Ray gave, without Ray's limit on threads.

    Ray sets OMP_NUM_THREADS to the task's CPUs, which would slow down what is measured; what the
    node itself was started with stays.
    """
    found = dict(os.environ)
    started_with = _started_with()
    found.pop("OMP_NUM_THREADS", None)
    if "OMP_NUM_THREADS" in started_with:
        found["OMP_NUM_THREADS"] = started_with["OMP_NUM_THREADS"]
    spec = importlib.util.find_spec("roofprobe")
    if spec is not None and spec.origin is not None:  # which the node's paths need not lead to
        root = os.path.dirname(os.path.dirname(spec.origin))
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (root, found.get("PYTHONPATH"))))
    found["ROOFPROBE_HOST"] = config["node"]
    found[MARK] = f"{config['token']}-{config['node_id']}"
    return found


def _started_with() -> dict[str, str]:
    """Return the environment that this process was started with."""
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (line.decode(errors="surrogateescape").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def _packed(out: Path, max_bytes: int) -> dict[str, Any]:
    """Return the run folder in ``out`` as a gzipped tar, and what was left out of it for size."""
    folders = [
        path
        for path in sorted(out.glob("*"))
        if not path.is_symlink()
        and ((path / "run.json").exists() or (path / "journal.jsonl").exists())
    ]
    if not folders:
        return {"archive": None}
    left_out = []
    files = sorted(
        (file for file in folders[0].iterdir() if file.is_file() and not file.name.startswith(".")),
        key=lambda file: _FIRST_FILES.index(file.name) if file.name in _FIRST_FILES else 99,
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in files:
            if buffer.tell() + file.stat().st_size > max_bytes:
                left_out.append(file.name)
                continue
            archive.add(file, f"{folders[0].name}/{file.name}", recursive=False)
    return {"archive": buffer.getvalue(), "left_out": left_out}
