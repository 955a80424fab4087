"""What the tests of the verdict share."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def h100() -> ModuleType:
    """Give the maker of H100 runs (``h100_run``); test files cannot import each other."""
    name = "tests.acceptance.h100_run"
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, Path(__file__).parent / "h100_run.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
