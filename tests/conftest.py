"""Fixtures for all rooms: test files cannot import each other, so doubles come from here."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest


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


@pytest.fixture
def fake_nvml() -> ModuleType:
    """Give the double of pynvml: ``fake_nvml.FakeNvml(fake_nvml.h200())`` is a host with one."""
    return _load("fake_nvml")
