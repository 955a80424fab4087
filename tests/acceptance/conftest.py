"""Makers of runs that the tests of this room share; test files cannot import each other."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def h100() -> ModuleType:
    """Give the maker of H100 runs: ``h100.run(count)`` and copies with one thing changed."""
    return _load("tests.support.h100_run", HERE.parent / "support" / "h100_run.py")


@pytest.fixture(scope="session")
def built() -> ModuleType:
    """Give the builders of hand-made runs: ``built.run([built.measured("a", [1.0])])``."""
    return _load("tests.support.compared_runs", HERE.parent / "support" / "compared_runs.py")
