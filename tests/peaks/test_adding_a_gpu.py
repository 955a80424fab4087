"""docs/adding-a-gpu.md shows a row that the loader takes, and it is the one in the catalogue."""

import re
from pathlib import Path

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.rates import load_rates
from roofprobe.peaks.rows import parse_accelerators
from roofprobe.peaks.sources import KINDS, load_sources, parse_toml

DOC = Path(__file__).parents[2] / "docs" / "adding-a-gpu.md"
TEXT = DOC.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_example_row_is_valid_and_is_the_catalogues_own() -> None:
    rows = parse_accelerators(
        BLOCKS[0], file=DOC.name, sources=load_sources(), rate_classes=load_rates().classes
    )
    assert list(rows) == ["nvidia_t4"]
    assert rows["nvidia_t4"] == load()["nvidia_t4"]


def test_the_example_source_has_the_fields_of_a_source() -> None:
    (source,) = parse_toml(BLOCKS[1], file=DOC.name).values()
    assert set(source) == {"kind", "title", "locator"}
    assert source["kind"] in KINDS


def test_the_kinds_and_files_that_the_text_names_exist() -> None:
    for kind in KINDS:
        assert f"`{kind}`" in TEXT
    root = DOC.parents[1]
    for path in re.findall(r"`((?:peaks|tests)/[a-z_/.]+)`", TEXT):
        assert (root / path).exists(), path
