"""A number agrees with its noun, and large ones are grouped."""

from __future__ import annotations

import pytest

from roofprobe.records.wording import are, plural


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 cases"), (1, "1 case"), (3, "3 cases"), (1250, "1,250 cases")],
)
def test_a_noun_follows_its_number(count: int, told: str) -> None:
    assert plural(count, "case") == told


def test_so_does_the_verb() -> None:
    assert are(1, "device") == "1 device is"
    assert are(1250, "device") == "1,250 devices are"
