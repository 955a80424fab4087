"""All that touches Ray: joining or starting a cluster, sending work to a node, what went wrong.

Ray reports usage unless told not to, prints to standard output, and a local cluster would open a
dashboard: here it reports nothing, prints into a log file, and opens none; a local cluster takes
orders only with a token that this process made up.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import roofprobe
from roofprobe.fleet_run.slots import Node, nodes_of
from roofprobe.records.errors import RoofprobeError

LOG: Final = "ray.log"
_REACH_S: Final = 5.0
# What is said of Ray's errors, by the name of their class.
_LOST: Final = {
    "NodeDiedError": ("node-died", "its node died"),
    "TaskUnschedulableError": ("node-died", "its node died before the slot was begun"),
    "WorkerCrashedError": ("worker-died", "its worker process was killed"),
    "OutOfMemoryError": ("out-of-memory", "Ray killed its worker since the node ran out of memory"),
    "TaskCancelledError": ("cancelled", "it was cancelled"),
    "ObjectLostError": ("result-lost", "its node was lost with the result"),
    "OwnerDiedError": ("result-lost", "its result was lost"),
    "RuntimeEnvSetupError": ("not-installed", "roofprobe could not be installed on its node"),
}
_AN_ERROR: Final = re.compile(r"ERROR: |\w*(Error|Exception): ")


Work = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """What came of a task in place of its result."""

    code: str
    sentence: str


class Cluster:
    """A cluster that was joined; references stand for tasks that were sent to nodes."""

    def __init__(self, ray: Any) -> None:
        """Keep Ray, and have the functions for the nodes travel by value."""
        from roofprobe.fleet_run import remote

        self._ray = ray
        self.version = str(ray.__version__)
        ray.cloudpickle.register_pickle_by_value(remote)

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes, dead ones too."""
        return nodes_of(self._ray.nodes())

    def send(
        self,
        work: Callable[[dict[str, Any]], Any],
        node: Node,
        config: Mapping[str, Any],
        gpus: int,
    ) -> Any:
        """Have ``node``, and no other, do ``work`` once; return its reference."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {
            "num_gpus": gpus, "num_cpus": 0, "max_retries": 0, "name": f"roofprobe on {node.name}",
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        }  # fmt: skip
        return self._ray.remote(**options)(work).remote(dict(config))

    def ready(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Return those that ended, after at most ``seconds``."""
        found, _ = self._ray.wait(
            list(references), num_returns=len(references), timeout=0, fetch_local=False
        )
        if not found:
            found, _ = self._ray.wait(list(references), num_returns=1, timeout=seconds)
        return list(found)

    def result(self, reference: Any, seconds: float = 60.0) -> Any:
        """Return what a task that ended returned, or why there is nothing (``Lost``)."""
        try:
            return self._ray.get(reference, timeout=seconds)
        except self._ray.exceptions.RayError as error:
            return lost(error)

    def cancel(self, references: Sequence[Any]) -> None:
        """Kill the tasks, and with each worker the probe that it runs."""
        for reference in references:
            self._ray.cancel(reference, force=True)


def lost(error: BaseException) -> Lost:
    """Say what an error of Ray means, in words of this program."""
    names = [each.__name__ for each in type(error).__mro__]
    for name in names:
        if name in _LOST:
            code, sentence = _LOST[name]
            detail = _told_by_pip(error) if code == "not-installed" else ""
            return Lost(code, f"{sentence}: {detail}" if detail else sentence)
    cause = getattr(error, "cause", None) or error
    return Lost("task-failed", f"{type(cause).__name__}: {first_line(cause)}")


def _told_by_pip(error: BaseException) -> str:
    """Return the line that says what was wrong: the last error of the trace, or of pip's."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if _AN_ERROR.match(line)]
    return told[-1][:300] if told else first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]


@contextmanager
def joined(address: str | None, out: Path, install: bool) -> Iterator[Cluster]:
    """Join the cluster at ``address``, or start one on this host where that is None.

    Until the end everything that Ray prints to standard output goes to ``OUT/ray.log``. Raises
    ``RoofprobeError``: ``no-ray``, ``no-cluster``, ``version-skew``.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local = address in (None, "local")
    if local:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _imported()
    _see_that_it_answers(address)
    with _printing_to(out / LOG), _environment(install and not local) as environment:
        options: dict[str, Any] = {"include_dashboard": False} if local else {}
        try:
            ray.init(
                address="local" if local else address, log_to_driver=False,
                logging_level="ERROR", runtime_env=environment, **options,
            )  # fmt: skip
        except Exception as error:  # of a dozen kinds
            raise _not_joined(address, error) from error
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise RoofprobeError(
            "no-ray", "`probe fleet run` needs Ray: pip install 'roofprobe[ray]'"
        ) from None


def _see_that_it_answers(address: str | None) -> None:
    """Refuse an address where nobody listens: Ray would wait for a minute, then end the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:
        return
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise RoofprobeError(
            "no-cluster", f"--address {address} is not HOST:PORT, ray://HOST:PORT, auto or local"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except OSError as error:
        raise RoofprobeError(
            "no-cluster",
            f"nothing answers at {address} ({error.strerror or error}); is the cluster up, and is "
            "this the port that `ray start` printed?",
        ) from None


def _not_joined(address: str | None, error: Exception) -> RoofprobeError:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return RoofprobeError(
            "version-skew",
            f"this Python or Ray is not the cluster's, which has to be the same: {text[:600]}",
        )
    if isinstance(error, ImportError) and str(address).startswith("ray://"):
        return RoofprobeError("no-cluster", "ray:// addresses need: pip install 'ray[client]'")
    said = (first_line(error) or type(error).__name__).rstrip(".")
    hint = (
        "; does the cluster want a token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or "
        "~/.ray/auth_token), and is this the port that `ray start` printed?"
        if ":" in str(address)
        else ""
    )
    return RoofprobeError(
        "no-cluster", f"Ray could not join {address or 'a cluster of its own'}: {said}{hint}"
    )


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Send what this process and its children print to standard output into ``log``."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _environment(install: bool) -> Iterator[dict[str, Any] | None]:
    """Give the runtime environment that brings this very roofprobe to the nodes.

    A release is installed by pip; a checkout is sent as it is, and what it depends on has to be
    there. Without ``install`` the nodes have roofprobe already.
    """
    if not install:
        yield None
    elif _is_a_release():
        yield {"pip": [f"roofprobe=={roofprobe.__version__}"]}
    else:
        with tempfile.TemporaryDirectory(prefix="roofprobe-package-") as scratch:
            package = Path(scratch) / "roofprobe"
            shutil.copytree(
                Path(roofprobe.__file__).parent, package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )  # fmt: skip
            yield {"py_modules": [str(package)]}


def _is_a_release() -> bool:
    """Whether this is an installed release: not a checkout, and not from a file or a repository."""
    home = Path(roofprobe.__file__).resolve().parent
    try:
        found = metadata.distribution("roofprobe")
    except metadata.PackageNotFoundError:
        return False
    here = Path(str(found.locate_file("roofprobe"))).resolve() == home
    return here and found.read_text("direct_url.json") is None
