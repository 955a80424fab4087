"""What the tests of this room share; test files cannot import each other."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def h100() -> ModuleType:
    """Give the maker of H100 runs (``h100_run``)."""
    return _module("tests.acceptance.h100_run", Path(__file__).parent / "h100_run.py")


@pytest.fixture(scope="session")
def built() -> ModuleType:
    """Give the builders of hand-made runs: ``built.run([built.measured("a", [1.0])])``."""
    support = Path(__file__).parents[1] / "support"
    return _module("tests.support.compared_runs", support / "compared_runs.py")


def _module(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
