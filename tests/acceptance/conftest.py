"""Runs that the tests of this room compare; test files cannot import each other."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def built() -> ModuleType:
    """Give the builders of hand-made runs: ``built.run([built.measured("a", [1.0])])``."""
    name = "tests.support.compared_runs"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "support" / "compared_runs.py"
        spec = util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
