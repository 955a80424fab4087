import pytest

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.find import UnknownAcceleratorError, find
from roofprobe.peaks.founding_notes import founding_columns


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("T4", "nvidia_t4"),
        ("Tesla T4", "nvidia_t4"),
        ("h200", "nvidia_h200_sxm_141gb"),
        ("H20", "nvidia_h20_96gb"),  # what NVIDIA's driver calls the 96 GB card
        ("H20 96G", "nvidia_h20_96gb"),
        ("h20-141gb", "nvidia_h20_141gb"),
        ("H20-3e", "nvidia_h20_141gb"),
        ("H100 SXM", "nvidia_h100_sxm5_80gb"),
        ("h100 80 GB sxm5", "nvidia_h100_sxm5_80gb"),
        ("NVIDIA H100 80GB HBM3", "nvidia_h100_sxm5_80gb"),
        ("PCIe H100", "nvidia_h100_pcie_80gb"),
        ("h100 nvl", "nvidia_h100_nvl"),
        ("A100", "nvidia_a100_sxm4_80gb"),  # the founding notes' column
        ("A100 PCIe 40GB", "nvidia_a100_pcie_40gb"),
        ("L4", "nvidia_l4"),
        ("L40", "nvidia_l40"),
        ("l40s", "nvidia_l40s"),
        ("RTX 4090", "nvidia_geforce_rtx_4090"),
        ("4090", "nvidia_geforce_rtx_4090"),
        ("gb200", "nvidia_gb200"),
        ("mi300x", "amd_mi300x"),
        ("Gaudi3", "intel_gaudi3"),
        ("gaudi 3", "intel_gaudi3"),
        ("910B3", "huawei_ascend_910b3_313t"),
        ("910C(A+K)", "huawei_ascend_910c_a_k"),
        ("910C (X+X)", "huawei_ascend_910c_x_x"),
        ("nvidia_rtx_6000_ada", "nvidia_rtx_6000_ada"),
    ],
)
def test_what_people_type_is_found(query: str, key: str) -> None:
    assert find(query).key == key


def test_the_founding_notes_columns_are_found() -> None:
    for column in founding_columns().values():
        assert find(column.title).key == column.accelerator_key


def test_every_key_and_name_finds_its_own_row() -> None:
    for row in load():
        assert find(row.key) is row
        assert find(row.name) is row


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        ("H100", 3),
        ("H100 80GB", 2),
        ("V100", 4),
        ("GH200", 2),
        ("910C", 2),
        ("RTX 6000", 3),
    ],
)
def test_what_fits_several_rows_is_asked_back(query: str, candidates: int) -> None:
    with pytest.raises(UnknownAcceleratorError, match="say which") as caught:
        find(query)
    assert len(caught.value.candidates) == candidates


@pytest.mark.parametrize(
    "query",
    ["A4000", "RTX 4090 Laptop", "H2", "H2000", "L400", "80GB", "nvidia", "ada", "", " ", "🙂"],
)
def test_parts_and_look_alikes_are_not_found(query: str) -> None:
    with pytest.raises(
        UnknownAcceleratorError, match=r"No accelerator is called .*`probe peaks` lists"
    ):
        find(query)


def test_unknown_names_the_closest() -> None:
    with pytest.raises(UnknownAcceleratorError) as caught:
        find("MI300")
    assert caught.value.candidates[:2] == ("AMD Instinct MI300X", "AMD Instinct MI300A")
    assert len(caught.value.candidates) <= 5
    assert "the closest are AMD Instinct MI300X" in str(caught.value)


def test_a_hostile_query_stays_one_short_sentence() -> None:
    with pytest.raises(UnknownAcceleratorError) as caught:
        find("[red]x\n\x1b[2J" + "y" * 100_000)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
