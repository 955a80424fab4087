"""The run that most tests of the verdict change one thing of."""

from __future__ import annotations

from types import ModuleType

import pytest

from roofprobe.records.schema import Run


@pytest.fixture(scope="session")
def healthy(h100: ModuleType) -> Run:
    """Give the record of one H100 that deserves to pass."""
    made: Run = h100.run()
    return made
