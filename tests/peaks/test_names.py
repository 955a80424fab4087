import pytest

from roofprobe.peaks.names import normalise_name, normalise_pci_id, shown, words


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("NVIDIA A100-PCIE-40GB", "a100 pcie 40gb"),
        ("NVIDIA_A100-PCIe-40GB", "a100 pcie 40gb"),
        ("  nvidia  h200 ", "h200"),
        ("NVIDIA", "nvidia"),
        ("AMD Instinct MI250X/MI250", "amd instinct mi250x/mi250"),
    ],
)
def test_case_separators_and_vendor_do_not_count(name: str, plain: str) -> None:
    assert normalise_name(name) == plain


def test_a_memory_size_is_one_word_however_written() -> None:
    assert words("H20 96G") == words("h20 96GB") == words("H20-96 GiB") == ("h20", "96g")
    assert words("910C(A+K)") == ("910c", "a", "k")


@pytest.mark.parametrize("written", ["10de:2330", "10DE:2330", "0x10de:0x2330", " 10DE2330 "])
def test_pci_ids_are_read_in_any_case(written: str) -> None:
    assert normalise_pci_id(written) == "10de:2330"


@pytest.mark.parametrize("written", ["", "10de", "10de:23300", "0000:01:00.0", "no:thing"])
def test_what_is_no_pci_id_is_none(written: str) -> None:
    assert normalise_pci_id(written) is None


def test_foreign_text_is_quoted_escaped_and_cut() -> None:
    assert shown("a\x1b[31m") == r"'a\x1b[31m'"
    assert len(shown("x" * 1000)) == 62
