"""What all rooms' tests share: doubles, and how tests that run side by side share the host.

Test files cannot import each other, so doubles come from here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.doctor_machine import Machine

CORES = sorted(os.sched_getaffinity(0))

# The same examples each time, so that a change is judged by what it changed, on a busy host too.
# New ones are for ``make fuzz``, where a failure is a find and ends as an example of its own.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("fuzz", _patient)
settings.register_profile("repeatable", _patient, derandomize=True, database=None)
settings.load_profile("repeatable")


def _load(name: str) -> ModuleType:
    full_name = f"tests.support.{name}"
    if full_name not in sys.modules:
        path = Path(__file__).parent / "support" / f"{name}.py"
        spec = util.spec_from_file_location(full_name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full_name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]


def pytest_configure(config: pytest.Config) -> None:
    """Give each of xdist's workers, and all that it starts, its own cores; one too many has all.

    A product waits for the slowest of its threads, so two processes that both use every core mostly
    wait for each other: small products were seen to take four times the processor time.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a test starts must see it
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        own = CORES[int(worker.removeprefix("gw")) :: workers]
        os.sched_setaffinity(0, own or CORES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, then whole runs, so that none is left for the end."""

    def turn(item: pytest.Item) -> int:
        is_long = any(item.get_closest_marker(name) for name in ("ray", "browser", "aot_all"))
        return 0 if is_long else 1 if item.path.parent == Path(__file__).parent else 2

    items.sort(key=turn)


@pytest.fixture(scope="session")
def every_core() -> Callable[[], AbstractContextManager[None]]:
    """Give ``with every_core(): ...``, in which a process is started as users start it."""

    @contextmanager
    def whole_host() -> Iterator[None]:
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, CORES)
        try:
            yield
        finally:
            os.sched_setaffinity(0, own)

    return whole_host


@pytest.fixture
def fake_nvml() -> ModuleType:
    """Give the double of pynvml: ``fake_nvml.FakeNvml(fake_nvml.h200())`` is a host with one."""
    return _load("fake_nvml")


@pytest.fixture
def machine(tmp_path: Path, fake_nvml: ModuleType) -> Machine:
    """Give a host in a folder, healthy and without a GPU, for the doctor to examine."""
    found: Machine = _load("doctor_machine").Machine(tmp_path, fake_nvml)
    return found


@pytest.fixture(scope="session")
def documents() -> ModuleType:
    """Give makers of valid documents and of mutations: ``documents.mutated(document, seed)``."""
    return _load("documents")


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """Give the registry of planted faults: ``faults.named("hang")``."""
    return _load("faults")


@pytest.fixture(scope="session")
def large() -> ModuleType:
    """Give the maker of runs as large as they become: ``large.large_run(8, 2_000)``."""
    return _load("large_run")
