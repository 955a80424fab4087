import pytest

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.rates import load_rates
from roofprobe.peaks.rows import parse_accelerators
from roofprobe.peaks.sources import CatalogueError, load_sources

GOOD = """
[nvidia_x1]
name = "NVIDIA X1"
vendor = "NVIDIA"
rate_class = "sm_90"
dense_basis = "The page says dense."
architecture = ["Hopper", "pciids"]
compute_capability = ["9.0", "tpu-db"]
driver_names = [["NVIDIA X1"], "nv-okm"]
pci_ids = [["10de:0001"], "nv-okm"]
unit_count = [10, "tpu-db"]
mem_bw_gbps = [100.5, "tpu-db", "stas"]
[nvidia_x1.dense]
fp8_tensor = [100, "stas"]
[nvidia_x1.sparse]
fp8_tensor = [200, "stas"]
[[nvidia_x1.conflicts]]
field = "fp8_tensor"
values = [[100, "stas"], [120, "notes"]]
note = "Two lists."
"""


def parse(text: str) -> dict[str, Accelerator]:
    return parse_accelerators(
        text, file="my.toml", sources=load_sources(), rate_classes=load_rates().classes
    )


def test_a_good_row_becomes_an_accelerator() -> None:
    row = parse(GOOD)["nvidia_x1"]
    assert row.unit_kind == "SM"
    assert row.driver_names == ("NVIDIA X1",)
    assert row.mem_bw_gbps == 100.5
    assert row.sources["mem_bw_gbps"] == ("tpu-db", "stas")
    assert row.dense == {"fp8_tensor": 100}
    assert row.sources["sparse.fp8_tensor"] == ("stas",)
    assert row.conflicts[0].values[1].sources == ("notes",)
    assert row.tdp_w is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit_count =", "unit_cout =", r"nvidia_x1\.unit_cout: unknown field"),
        ('[10, "tpu-db"]', "[10]", r"nvidia_x1\.unit_count: must be \[value, source"),
        ('[10, "tpu-db"]', "10", r"nvidia_x1\.unit_count: must be \[value, source"),
        ('[10, "tpu-db"]', '[10, "mine"]', r"unit_count: no source 'mine'"),
        ('[10, "tpu-db"]', '[10.5, "tpu-db"]', "must be a whole number"),
        ('[10, "tpu-db"]', '[0, "tpu-db"]', "must be positive; leave out what is unknown"),
        ('[10, "tpu-db"]', '[true, "tpu-db"]', "must be a number"),
        ('[10, "tpu-db"]', '["10", "tpu-db"]', "must be a number"),
        ('[100.5, "tpu-db", "stas"]', '[inf, "tpu-db"]', "must be positive"),
        ('[100.5, "tpu-db", "stas"]', '[nan, "tpu-db"]', "must be positive"),
        ("10de:0001", "10DE:0001", r"pci_ids: '10DE:0001' must be written like 10de:2330"),
        ('[["NVIDIA X1"], "nv-okm"]', '[[], "nv-okm"]', "driver_names: must list at least one"),
        ('[["NVIDIA X1"], "nv-okm"]', '["NVIDIA X1", "nv-okm"]', "a list of non-empty texts"),
        ('rate_class = "sm_90"', 'rate_class = "sm_91"', "no class 'sm_91' in rates.toml"),
        ('["9.0", "tpu-db"]', '["8.9", "tpu-db"]', r"is 8\.9, but sm_90 is 9\.0"),
        ('name = "NVIDIA X1"', 'name = " "', r"name: must be a non-empty text"),
        ('architecture = ["Hopper", "pciids"]\n', "", "architecture: is missing"),
        ('architecture = ["Hopper"', "architecture = [3", "architecture: must be a non-empty text"),
        ('vendor = "NVIDIA"\n', "", "vendor: must be a non-empty text"),
        ("[nvidia_x1.dense]\nfp8_tensor", "[nvidia_x1.dense]\nfp9", "unknown peak key"),
        ('[200, "stas"]', '[90, "stas"]', r"dense\.fp8_tensor: 100 is above the sparse 90"),
        ('[100, "stas"]\n', '[100, "notes", "derived"]\n', "beyond the notes and arithmetic"),
        ('field = "fp8_tensor"', 'field = "colour"', "'colour' is neither a field nor a peak key"),
        ('note = "Two lists."', "note = 3", "note must be a text"),
        ('note = "Two lists."', 'why = "x"', "a conflict has field, values and perhaps note"),
        ('[120, "notes"]', "[120]", r"each value must be \[value, source"),
        ('[120, "notes"]', '[true, "notes"]', "must be a number or a text"),
        ('[120, "notes"]', '[120, "mine"]', "no source 'mine'"),
        ("nvidia_x1", "NVIDIA-X1", "a key is lower case with underscores"),
        ('name = "NVIDIA X1"', 'name = "NVIDIA X1"\nlaunch = ["soon", "stas"]', "'soon' must be"),
        ('name = "NVIDIA X1"', 'name = "NVIDIA X1"\naliases = "X1"', "aliases: must be a list"),
        ('name = "NVIDIA X1"', 'name = "NVIDIA X1"\nfounding_column = 1', "must be a text"),
    ],
)
def test_a_malformed_row_is_refused_with_file_key_and_reason(
    old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(CatalogueError, match=message) as caught:
        parse(GOOD.replace(old, new))
    assert caught.value.file == "my.toml"
    assert str(caught.value).startswith("my.toml: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 3", "a row is a table"),
        (GOOD.replace("[nvidia_x1.dense]\n", "[[nvidia_x1.dense]]\n"), "must be a table of peaks"),
        (
            GOOD.split("[[nvidia_x1.conflicts")[0].replace(
                'name = "', 'conflicts = 3\nname = "', 1
            ),
            "conflicts",
        ),
    ],
)
def test_a_row_of_the_wrong_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        parse(text)
