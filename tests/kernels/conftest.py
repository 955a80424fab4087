"""The marker of the tests that compile every configuration, which run only when asked for."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "aot_all: compiles every configuration ahead of time (minutes); -m aot_all"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "aot_all" in str(config.getoption("markexpr")):
        return
    unasked = [item for item in items if item.get_closest_marker("aot_all")]
    if unasked:
        config.hook.pytest_deselected(items=unasked)
        items[:] = [item for item in items if not item.get_closest_marker("aot_all")]
