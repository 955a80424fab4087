import re

import pytest

from roofprobe.peaks.sources import CatalogueError, data_files, load_sources, parse_toml, read_data


def test_every_source_has_a_kind_a_title_and_a_locator() -> None:
    sources = load_sources()
    assert len(sources) == 80
    assert {source.kind for source in sources.values()} == {
        "vendor",
        "vendor-quoted",
        "registry",
        "secondary",
        "driver-output",
        "notes",
        "derived",
    }
    assert all(source.title and source.locator for source in sources.values())


def test_every_source_is_used() -> None:
    text = "".join(str(read_data(file)) for file in (*data_files("accelerators"), "rates.toml"))
    # Named in the compilation of the values, though no value rests on them alone.
    spare = {key for key in load_sources() if f"'{key}'" not in text}
    assert spare <= {"nv-blackwell-techbrief", "spillfill", "huawei-800ta2-wp", "nv-turing-blog"}


def test_no_locator_points_at_a_private_place() -> None:
    for source in load_sources().values():
        assert "beside this file" not in source.locator
        assert "file:" not in source.locator + source.title
        # An address may hold slashes; a path from a file system's root may not stand here.
        assert not re.search(r"(?<![\w:/.-])/\w", f"{source.locator} {source.title}")


def test_broken_toml_is_a_catalogue_error_with_the_line() -> None:
    with pytest.raises(CatalogueError, match=r"my\.toml: not valid TOML: .*line 2"):
        parse_toml("a = 1\nb = = 2\n", file="my.toml")
